"""From the run-length posterior to an alarm: when to act, and how often that is for nothing.

Evidence for a change at t shows as mass at run length k at time t + k. The alarm goes off when the mass of runs shorter
than `window` has exceeded `threshold` for `hold` steps, and the present segment is not one already reported.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsci.drift.changepoint import Bocpd, State, detect, recent_mass


class Verdict(NamedTuple):
    """What every online detector of this room says after a point."""

    alarm: Bool[Array, ""]
    """Act now."""
    start: Int[Array, ""]
    """0-based index at which the present regime is thought to have begun."""
    statistic: Float[Array, ""]
    """What is compared with the threshold."""


class WatchState(NamedTuple):
    """The detector's state, and what was above the threshold so far."""

    detector: State
    above: Int[Array, ""]
    """Consecutive steps above the threshold."""
    reported: Int[Array, ""]
    """Start of the segment last reported, 0 before the first alarm."""


class Watch(eqx.Module):
    """A detector with an alarm, `(init, update)` like the detectors of `detectors`.

    - `window`: how recent a change must be to count. Good values: 10 to 50.
    - `threshold`: mass that must be on such changes; `calibrate` finds it.
    - `hold`: steps it must be there for. Good values: 1 to 5.
    - `separation`: points between the starts of two reported segments. Good values: `window` / 2.
    """

    detector: Bocpd
    window: int = eqx.field(static=True, default=20)
    threshold: Float[Array, ""] | float = 0.9
    hold: int = eqx.field(static=True, default=3)
    separation: int = eqx.field(static=True, default=10)

    def prepare(self) -> "Watch":
        """The same with the segment model's tables computed: do it once, outside of loops."""
        return eqx.tree_at(lambda watch: watch.detector, self, self.detector.prepare())

    def init(self) -> WatchState:
        """The state before the first point."""
        zero = jnp.zeros((), jnp.int32)
        return WatchState(self.detector.init(), zero, zero)

    def update(
        self,
        state: WatchState,
        x: Float[Array, " d"],
        known: Bool[Array, " d"] | None = None,
        covariates: Float[Array, " c"] | None = None,
    ) -> tuple[WatchState, Verdict]:
        """Take in a point. In the first `window` points every run is recent and no alarm is given."""
        inner, info = self.detector.update(state.detector, x, known, covariates)
        mass = recent_mass(info.log_mass, self.window)
        high = (mass > self.threshold) & (inner.time > self.window)
        above = jnp.where(high, state.above + 1, 0)
        recent = info.start > inner.time - self.window
        alarm = (above >= self.hold) & recent & (info.start >= state.reported + self.separation)
        reported = jnp.where(alarm, info.start, state.reported)
        return WatchState(inner, above, reported), Verdict(alarm, info.start, mass)


def calibrate(
    detector: Bocpd,
    calm: Float[Array, "n t d"],
    *,
    window: int,
    hold: int,
    false_per_1000: float,
    known: Bool[Array, "n t d"] | None = None,
) -> float:
    """The smallest threshold at which series without a change give at most this many alarms per 1000 points.

    An excursion above the threshold for `hold` steps or more counts as one alarm. 1.0, which is never exceeded, comes
    back when no smaller threshold will do. `calm` are such series: resampled from a quiet stretch, or simulated.
    """
    known = jnp.ones(calm.shape, bool) if known is None else known

    def masses(x: Float[Array, "t d"], known: Bool[Array, "t d"]) -> Float[Array, " t"]:
        return detect(detector, x, known, emit=lambda info: recent_mass(info.log_mass, window))[1]

    mass = np.asarray(jax.vmap(masses)(calm, known))[:, window:]
    # `hold` steps in a row are above c exactly if the least of them is.
    least = np.lib.stride_tricks.sliding_window_view(mass, hold, axis=1).min(axis=2)
    allowed = false_per_1000 * mass.size / 1000

    def alarms(threshold: float) -> int:
        high = least > threshold
        return int(high[:, 0].sum() + (high[:, 1:] & ~high[:, :-1]).sum())

    for threshold in np.concatenate([np.arange(0.5, 0.99, 0.01), 1 - np.geomspace(1e-2, 1e-6, 30)]):
        if alarms(threshold) <= allowed:
            return float(threshold)
    return 1.0


def watch_series(
    watch: Watch,
    x: Float[Array, "t d"],
    known: Bool[Array, "t d"] | None = None,
    covariates: Float[Array, "t c"] | None = None,
) -> tuple[Verdict, Float[Array, "t r"]]:
    """A whole series in one scan: the verdict and log P(r_t | x_1:t) after every point."""
    watch = watch.prepare()
    known = jnp.ones(x.shape, bool) if known is None else known
    covariates = jnp.zeros((len(x), 0), x.dtype) if covariates is None else covariates

    def step(state: WatchState, point: tuple) -> tuple[WatchState, tuple]:
        state, verdict = watch.update(state, *point)
        return state, (verdict, state.detector.log_mass)

    return jax.lax.scan(step, watch.init(), (x, known, covariates))[1]

"""Page-Hinkley: cumulative deviations from the running mean, up and down (Page 1954)."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsci.drift.alarm import Verdict


class PageHinkleyState(NamedTuple):
    """Running mean and cumulative deviations since the last alarm; `time` counts the points seen."""

    count: Int[Array, ""]
    """Points since the last alarm."""
    mean: Float[Array, ""]
    up: Float[Array, ""]
    """max(0, ...) of deviations above the mean less `tolerance`, summed."""
    down: Float[Array, ""]
    time: Int[Array, ""]
    start: Int[Array, ""]
    """Index after the last alarm's point."""


class PageHinkley(eqx.Module):
    """Alarm when the deviations from the running mean, less `tolerance` each, add up to more than `threshold`.

    For standardised series. Starts anew after an alarm. Good values: tolerance 0.005 to 0.5, threshold 5 to 50.
    """

    tolerance: float = 0.005
    threshold: float = 10.0
    least: int = eqx.field(static=True, default=10)

    def init(self) -> PageHinkleyState:
        """The state before the first point."""
        zero, none = jnp.zeros(()), jnp.zeros((), jnp.int32)
        return PageHinkleyState(none, zero, zero, zero, none, none)

    def update(self, state: PageHinkleyState, x: Float[Array, ""]) -> tuple[PageHinkleyState, Verdict]:
        """Take in a point and compare its cumulative deviations with the threshold."""
        count = state.count + 1
        mean = state.mean + (x - state.mean) / count
        up = jnp.maximum(state.up + x - mean - self.tolerance, 0.0)
        down = jnp.maximum(state.down + mean - x - self.tolerance, 0.0)
        statistic = jnp.maximum(up, down)
        alarm = (statistic > self.threshold) & (count >= self.least)
        time = state.time + 1
        start = jnp.where(alarm, time, state.start)
        kept = PageHinkleyState(count, mean, up, down, time, start)
        fresh = self.init()._replace(time=time, start=start)
        state = PageHinkleyState(*(jnp.where(alarm, new, old) for new, old in zip(fresh, kept, strict=True)))
        return state, Verdict(alarm, start, statistic)

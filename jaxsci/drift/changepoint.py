"""Bayesian online changepoint detection: the posterior of the time since the last change, one point at a time.

Adams & MacKay 2007 (arXiv 0710.3742). r_t is the number of points since the last change after x_t was seen; x_t is
scored under the *old* run before the change, so r_t = 0 means "a change right after x_t":

    growth  P(r+1, x_1:t) = P(r, x_1:t-1) pi_t(r) (1 - H(r))
    change  P(0,   x_1:t) = sum_r P(r, x_1:t-1) pi_t(r) H(r)

P(r_t = 0 | x_1:t) is therefore the hazard, whatever the data: never threshold it. `recent_mass` is what to watch.
Arrays have a fixed length, `capacity` + 1 cells. The last cell holds all runs of `capacity` points or more; these
predict from their last `capacity` points.
"""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxsci.drift.hazard import ConstantHazard, Hazard
from jaxsci.drift.segments.segment import Segment

DEAD = -1e30  # the logarithm of nothing; minus infinity would make gradients NaN
BLOCK = 16
LOG_TINY = float(np.log(np.finfo(np.float64).tiny))  # -708.396, where the reference implementation floors


class Readout(NamedTuple):
    """What the max-recursion of the offline read-out needs (see `_read_out`)."""

    best: Float[Array, " r"]
    """B[t+1-r]: score of the best segmentation of the points before a run of length r at the next point."""
    oldest_best: Float[Array, ""]
    """The same for the likeliest run in the last cell."""
    oldest_start: Int[Array, ""]
    """0-based first index of that run."""


class State(NamedTuple):
    """All that is known of a stream; of fixed size, however long the stream."""

    log_mass: Float[Array, " r"]
    """log P(r_t = r | x_1:t)."""
    statistics: PyTree
    """Of the segment model, for each run length."""
    memory: PyTree
    """Of the segment model, for the stream."""
    readout: Readout
    time: Int[Array, ""]
    """Points seen, missing ones included."""


class Info(NamedTuple):
    """What one point told."""

    log_evidence: Float[Array, ""]
    """log p(x_t | x_1:t-1)."""
    start: Int[Array, ""]
    """0-based first index of the segment that the offline read-out gives for now; t where it is about to change."""
    log_mass: Float[Array, " r"]
    """log P(r_t = r | x_1:t)."""


class Bocpd(eqx.Module):
    """The detector: `state = init()`, then `state, info = update(state, x, known)` for each point.

    Run lengths whose tail holds less than `truncation` of the mass are dropped before a point is used, as the R
    package ocp does; 0 keeps all. Log joints are floored at `floor`, which only matters for exact agreement with it.
    """

    segment: Segment
    hazard: Hazard = ConstantHazard()
    capacity: int = eqx.field(static=True, default=256)
    truncation: float = eqx.field(static=True, default=1e-4)
    floor: float = eqx.field(static=True, default=LOG_TINY)

    def prepare(self) -> "Bocpd":
        """The same detector with the segment model's tables computed: do it once, outside of loops."""
        return Bocpd(self.segment.prepare(self.capacity), self.hazard, self.capacity, self.truncation, self.floor)

    def init(self) -> State:
        """The state before the first point: a run of length zero."""
        cells = self.capacity + 1
        empty = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf)[None], cells, axis=0), self.segment.empty())
        alone = jnp.full(cells, DEAD).at[0].set(0.0)
        best = jnp.full(cells, DEAD).at[:2].set(0.0)
        zero = jnp.zeros((), jnp.int32)
        readout = Readout(best, jnp.full((), DEAD), zero)
        return State(alone, empty, self.segment.memory(), readout, zero)

    def update(
        self,
        state: State,
        x: Float[Array, " d"],
        known: Bool[Array, " d"] | None = None,
        covariates: Float[Array, " c"] | None = None,
    ) -> tuple[State, Info]:
        """Take in the point `x`, of which only the coordinates in `known` count.

        `covariates` feed the hazard of a change right after this point. O(capacity) time and memory.
        """
        known = jnp.ones(x.shape, bool) if known is None else known
        covariates = jnp.zeros(0, x.dtype) if covariates is None else covariates
        x = jnp.where(known, x, 0.0)
        memory, z = self.segment.observe(state.memory, x, known)
        scores, taken = jax.vmap(lambda s: self.segment.step(s, z, known))(state.statistics)

        mass = jnp.exp(state.log_mass)
        alive = (_tails(mass) >= self.truncation) & (state.log_mass > DEAD / 2)
        joint = jnp.where(alive, jnp.maximum(state.log_mass + jnp.where(alive, scores, 0.0), self.floor), DEAD)
        runs = jnp.arange(self.capacity + 1, dtype=x.dtype)
        log_end, log_go_on = self.hazard.log_probabilities(runs, covariates)
        # One exponential serves both sums: all ended and grown runs together are all joints, as H + (1 - H) = 1.
        largest = jax.lax.stop_gradient(joint.max())
        relative = jnp.exp(joint - largest)
        total = largest + jnp.log(relative.sum())
        ended = largest + jnp.log((relative * jnp.exp(log_end)).sum()) - total
        grown = jnp.where(alive, joint + log_go_on - total, DEAD)
        last = jnp.logaddexp(grown[-2], grown[-1])  # the last cell absorbs
        log_mass = jnp.concatenate([ended[None], grown[:-2], last[None]])

        empty = self.segment.empty()
        statistics = jax.tree.map(lambda new, old: jnp.concatenate([new[None], old[:-1]]), empty, taken)
        log_past = jnp.log(jnp.where(alive, mass, 0.0).sum())
        keeps = grown[-1] > grown[-2]
        readout, start = _read_out(state.readout, log_mass, keeps, state.time + 1)
        state = State(log_mass, statistics, memory, readout, state.time + 1)
        return state, Info(total - log_past, start, log_mass)


def detect(
    detector: Bocpd,
    x: Float[Array, "t d"],
    known: Bool[Array, "t d"] | None = None,
    covariates: Float[Array, "t c"] | None = None,
    emit: Callable[[Info], PyTree] = lambda info: (info.log_evidence, info.start),
) -> tuple[State, PyTree]:
    """A whole series in one scan: the final state, and what `emit` keeps of each point, stacked.

    Points after the last one that matters may be padding: nothing at t depends on what follows. `known` marks the
    values that are there; the others may be anything but must be finite for gradients to be.
    """
    detector = detector.prepare()
    known = jnp.ones(x.shape, bool) if known is None else known
    covariates = jnp.zeros((len(x), 0), x.dtype) if covariates is None else covariates

    def step(state: State, point: tuple) -> tuple[State, PyTree]:
        state, info = detector.update(state, *point)
        return state, emit(info)

    return jax.lax.scan(step, detector.init(), (x, known, covariates))


def recent_mass(log_mass: Float[Array, "*t r"], window: int) -> Float[Array, "*t"]:
    """P(r_t < window | x_1:t): whether the last change lies fewer than `window` points back."""
    return jnp.exp(log_mass[..., :window]).sum(axis=-1)


def segment_starts(start: np.ndarray, length: int | None = None) -> list[int]:
    """The offline segmentation of the first `length` points: 0-based first index of each segment, 0 included.

    `start` is what `Info.start` was at each point. `length` itself may occur: a change right after the last point.
    The recursion follows ocp 0.1.1, offset of one step included.
    """
    found, first = [], (len(start) if length is None else length) + 1
    while first > 1:
        first = int(start[first - 2])
        found.append(first)
    return sorted({0, *found})


def _read_out(
    past: Readout, log_mass: Float[Array, " r"], keeps: Bool[Array, ""], time: Int[Array, ""]
) -> tuple[Readout, Int[Array, ""]]:
    """One step of the max-recursion on filtered posteriors, B[t+1] = max_r log P(r_t = r) + B[t-r], of package ocp.

    It is not a Viterbi path on joint probabilities. Ties go to the longest run.
    """
    longest = len(log_mass) - 1
    oldest_best = jnp.where(keeps, past.oldest_best, past.best[-1])
    oldest_start = jnp.where(keeps, past.oldest_start, time - longest)  # int32, as time is
    candidates = log_mass + past.best.at[-1].set(oldest_best)
    top = candidates.max()
    run = jnp.where(candidates == top, jnp.arange(longest + 1), 0).max()  # the longest; an argmax does not vectorise
    start = jnp.where(run == longest, oldest_start, time - run).astype(jnp.int32)
    best = jnp.concatenate([top[None], past.best[:-1]])
    return Readout(best, oldest_best, oldest_start), start


def _tails(mass: Float[Array, " r"]) -> Float[Array, " r"]:
    """sum of mass[r:] for every r. In blocks of BLOCK: a cumulative sum takes a pass over memory for each doubling."""
    cells = len(mass)
    blocks = jnp.pad(mass, (0, -cells % BLOCK)).reshape(-1, BLOCK)
    inside = jax.lax.cumsum(blocks, axis=1, reverse=True)
    behind = jax.lax.cumsum(inside[:, 0], reverse=True) - inside[:, 0]
    return (inside + behind[:, None]).reshape(-1)[:cells]

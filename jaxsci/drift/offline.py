"""The likeliest segmentation of a whole series, with any segment model and hazard: a Viterbi recursion.

    V_t(r + 1) = V_t-1(r) + power log pi_t(r) + log(1 - H(r)),   V_t(0) = max_r V_t-1(r) + power log pi_t(r) + log H(r)

The same forward step as the online detector with a maximum for the sum. `power` below 1 tempers the likelihood: points
that depend on each other are worth fewer independent ones.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsci.drift.changepoint import DEAD
from jaxsci.drift.hazard import Hazard
from jaxsci.drift.segments.segment import Segment


def likeliest_runs(
    segment: Segment,
    hazard: Hazard,
    x: Float[Array, "t d"],
    known: Bool[Array, "t d"] | None = None,
    *,
    power: Float[Array, ""] | float = 1.0,
) -> tuple[Int[Array, " t"], Int[Array, " t"]]:
    """For every t: points of the run that a change right after point t would end; and of the run alive at t.

    Both of the likeliest segmentation of the points up to t. `segmentation` reads changes from them; points after the
    last one that matters may be padding.
    """
    length = len(x)
    segment = segment.prepare(length)
    known = jnp.ones(x.shape, bool) if known is None else known
    runs = jnp.arange(length + 1, dtype=x.dtype)
    log_end, log_go_on = hazard.log_probabilities(runs, jnp.zeros(0, x.dtype))

    def step(carry, point):
        score, statistics, memory = carry
        x, known = point
        memory, z = segment.observe(memory, jnp.where(known, x, 0.0), known)
        predicted, taken = jax.vmap(lambda s: segment.step(s, z, known))(statistics)
        joint = jnp.where(score > DEAD / 2, score + power * predicted, DEAD)
        ends = joint + log_end
        ended = jnp.argmax(ends)
        score = jnp.concatenate([ends[ended][None], jnp.where(joint > DEAD / 2, joint + log_go_on, DEAD)[:-1]])
        statistics = jax.tree.map(lambda new, old: jnp.concatenate([new[None], old[:-1]]), segment.empty(), taken)
        alive = 1 + jnp.argmax(score[1:])  # a change right after the point is no segment yet
        return (score, statistics, memory), (ended + 1, alive)

    cells = length + 1
    empty = jax.tree.map(lambda leaf: jnp.repeat(jnp.asarray(leaf)[None], cells, axis=0), segment.empty())
    start = jnp.full(cells, DEAD, x.dtype).at[0].set(0.0)
    _, found = jax.lax.scan(step, (start, empty, segment.memory()), (x, known))
    return found


def segmentation(ended: np.ndarray, alive: np.ndarray, length: int | None = None) -> list[int]:
    """0-based first index of each segment of the first `length` points, 0 included."""
    length = len(alive) if length is None else length
    found = [length - int(alive[length - 1])]
    while found[-1] > 0:
        found.append(found[-1] - int(ended[found[-1] - 1]))
    return found[::-1]

"""Optimal partitioning with squared errors: the segmentation PELT finds (Killick, Fearnhead & Eckley 2012).

PELT prunes start points that can never win, which is what makes it fast one candidate after another. Here all start
points of a step are compared at once, which finds the same optimum and needs no branches.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


def pelt(x: Float[np.ndarray, "t d"], *, penalty: float, least: int = 1) -> list[int]:
    """0-based first index of each segment, 0 included: the minimum of squared errors plus `penalty` a change.

    Segments have `least` points or more. Units of `penalty` are those of x squared; a common choice for standardised
    series is 3 log(t).
    """
    previous = np.asarray(optimal_starts(jnp.asarray(x), penalty, least))
    found, end = [], len(x)
    while end > 0:
        end = int(previous[end - 1])
        found.append(end)
    return found[::-1]


def optimal_starts(x: Float[Array, "t d"], penalty: Float[Array, ""] | float, least: int) -> Int[Array, " t"]:
    """For each t, the start of the last segment of the best partition of the first t + 1 points. O(t^2)."""
    length = len(x)
    zero = jnp.zeros((1, x.shape[1]), x.dtype)
    centred = x - x.mean(axis=0)  # sums of squares lose digits far from zero
    sums = jnp.concatenate([zero, jnp.cumsum(centred, axis=0)])
    squares = jnp.concatenate([jnp.zeros(1, x.dtype), jnp.cumsum((centred**2).sum(axis=1))])
    starts = jnp.arange(length + 1)

    def step(best: Float[Array, " s"], end: Int[Array, ""]) -> tuple[Float[Array, " s"], Int[Array, ""]]:
        size = end - starts
        inside = ((sums[end] - sums) ** 2).sum(axis=1) / jnp.maximum(size, 1)
        cost = best + squares[end] - squares - inside + penalty
        cost = jnp.where(size >= least, cost, jnp.inf)
        start = jnp.argmin(cost)
        return best.at[end].set(cost[start]), start

    first = jnp.full(length + 1, jnp.inf, x.dtype).at[0].set(-penalty)
    return jax.lax.scan(step, first, jnp.arange(1, length + 1))[1]

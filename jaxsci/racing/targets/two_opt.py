"""2-opt on tours (Croes 1958): all moves at once, and iterated local search made of it.

Reversing the cities at positions i + 1 .. j of a tour replaces its edges after i and after j:

    d(i, j) = D[t_i, t_j] + D[t_{i+1}, t_{j+1}] - D[t_i, t_{i+1}] - D[t_j, t_{j+1}]
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

LARGEST = 2**30


class SearchParameters(NamedTuple):
    """Of one run. `nearest`: start from the nearest neighbour tour, else at random. `kicks`: random reversals after
    each local optimum. `accept`: goes on from a local optimum up to this share longer than the best, else from the
    best.
    """

    nearest: Array
    kicks: Array
    accept: Array


def best_move(tour: Int[Array, " w"], distance: Int[Array, "w w"], size: Array) -> tuple[Array, Array, Array]:
    """Change of length, i and j of the best reversal; cities at positions from `size` on are padding."""
    width = tour.shape[0]
    places = jnp.arange(width)
    after = tour[jnp.where(places + 1 >= size, 0, places + 1)]
    edge = distance[tour, after]
    delta = distance[tour[:, None], tour[None]] + distance[after[:, None], after[None]] - edge[:, None] - edge[None]
    valid = (places[:, None] + 1 < places[None]) & (places[None] < size)
    flat = jnp.argmin(jnp.where(valid, delta, LARGEST))
    i, j = flat // width, flat % width
    return delta[i, j], i, j


def reversed_between(tour: Int[Array, " w"], i: Array, j: Array) -> Int[Array, " w"]:
    """The tour with positions i + 1 .. j reversed."""
    places = jnp.arange(tour.shape[0])
    return tour[jnp.where((places > i) & (places <= j), i + 1 + j - places, places)]


def tour_length(tour: Int[Array, " w"], distance: Int[Array, "w w"], size: Array) -> Array:
    """Length of the closed tour of the first `size` positions."""
    places = jnp.arange(tour.shape[0])
    after = tour[jnp.where(places + 1 >= size, 0, places + 1)]
    return jnp.sum(jnp.where(places < size, distance[tour, after], 0))


def random_tour(size: Array, width: int, *, key: Key[Array, ""]) -> Int[Array, " w"]:
    """A uniform tour; padding stays behind it."""
    bits = jax.random.bits(key, (width,), jnp.uint32) >> 1
    order = jnp.argsort(jnp.where(jnp.arange(width) < size, bits, jnp.uint32(2**32 - 1)), stable=True)
    return order.astype(jnp.int32)


def iterated_search(
    parameters: SearchParameters,
    distance: Int[Array, "w w"],
    size: Array,
    nearest: Int[Array, " w"],
    *,
    key: Key[Array, ""],
    steps: int,
) -> Int[Array, " w"]:
    """The best tour after `steps` steps; each improves the tour by its best move or, at a local optimum, kicks it."""
    width, most = nearest.shape[0], 8
    start = jnp.where(parameters.nearest, nearest, random_tour(size, width, key=jax.random.fold_in(key, 0)))

    def step(state, number):
        tour, now, best, least = state
        delta, i, j = best_move(tour, distance, size)
        improving = delta < 0
        better = now < least
        best, least = jnp.where(better, tour, best), jnp.where(better, now, least)
        ends = jax.random.uniform(jax.random.fold_in(key, number), (most, 2), jnp.float32)
        keep = now.astype(jnp.float32) <= (1.0 + parameters.accept) * least.astype(jnp.float32)
        kicked = jnp.where(keep, tour, best)
        for k in range(most):
            low, high = jnp.min(ends[k]), jnp.max(ends[k])
            a, b = (low * size).astype(jnp.int32), (high * size).astype(jnp.int32)
            kicked = jnp.where(k < parameters.kicks, reversed_between(kicked, a, jnp.minimum(b, size - 1)), kicked)
        tour = jnp.where(improving, reversed_between(tour, i, j), kicked)
        now = jnp.where(improving, now + delta, tour_length(tour, distance, size))
        return (tour, now, best, least), None

    begin = (start, tour_length(start, distance, size), start, tour_length(start, distance, size))
    end, _ = jax.lax.scan(step, begin, jnp.arange(1, steps + 1))
    tour, now, best, least = end
    return jnp.where(now < least, tour, best)

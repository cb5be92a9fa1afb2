"""Robust tabu search on quadratic assignment (Taillard 1991, doi 10.1016/S0167-8191(05)80147-4) as a pure function.

Every iteration makes the best swap that is not tabu. Differences of all swaps are kept in a matrix: after a swap of r
and s the entry of (u, v), both other than r and s, changes by

    (x_u - x_v)(y_u - y_v) + (x'_u - x'_v)(y'_u - y'_v)     x_u = A_ru - A_su, y_u = B_{ps pu} - B_{pr pu}

with p after the swap and primes for columns instead of rows; the rows of r and s are computed anew. An iteration costs
O(n^2), as n steps of annealing do.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from jaxsci.racing.targets.anneal_qap import Layout, start_permutation


class TabuParameters(NamedTuple):
    """Of one run. A facility may not return to a location for a number of iterations uniform between `low` and `low +
    width`, in units of the size. Pairs that left both locations `aspiration` iterations ago are taken first.
    """

    greedy: Array
    low: Array
    width: Array
    aspiration: Array
    restart_after: Array
    """Iterations without a new best after which to go back to the best."""


def delta_row(i: Array, a: Int[Array, "w w"], b: Int[Array, "w w"], symmetric: bool) -> Int[Array, " w"]:
    """Changes of the cost by swapping `i` with each facility; `b` is the distance matrix in the order of facilities."""

    def half(a: Array, b: Array) -> Array:
        every = jnp.sum((a[i][None, :] - a) * (b - b[i][None, :]), axis=1)
        at_i = (a[i, i] - a[:, i]) * (b[:, i] - b[i, i])
        at_j = (a[i] - jnp.diagonal(a)) * (jnp.diagonal(b) - b[i])
        return every - at_i - at_j

    own = (a[i, i] - jnp.diagonal(a)) * (jnp.diagonal(b) - b[i, i])
    if symmetric:
        return 2 * half(a, b) + own
    return half(a, b) + half(a.T, b.T) + own + (a[i] - a[:, i]) * (b[:, i] - b[i])


def updated(
    delta: Int[Array, "w w"], a: Int[Array, "w w"], b: Int[Array, "w w"], r: Array, s: Array, symmetric: bool
) -> Int[Array, "w w"]:
    """All differences after the swap of `r` and `s`, which `b` already knows of."""

    def outer(x: Array, y: Array) -> Array:
        return (x[:, None] - x[None, :]) * (y[:, None] - y[None, :])

    change = outer(a[r] - a[s], b[s] - b[r])
    change = 2 * change if symmetric else change + outer(a[:, r] - a[:, s], b[:, s] - b[:, r])
    delta = delta + change
    places = jnp.arange(len(a))
    for i in (r, s):
        row = delta_row(i, a, b, symmetric)
        delta = jnp.where(places[:, None] == i, row[None, :], jnp.where(places[None, :] == i, row[:, None], delta))
    return delta


def tabu_search(
    parameters: TabuParameters, at: Layout, *, key: Key[Array, ""], iterations: int, symmetric: bool
) -> tuple[Int[Array, " width"], Array]:
    """The best permutation found and the best change of cost after every iteration."""
    p = start_permutation(at, parameters.greedy, key=jax.random.fold_in(key, 0))
    width = p.shape[0]
    places = jnp.arange(width)
    a = at.flow[at.base + places]
    cells = (at.base + p[:, None]) * width + p[None, :]
    b = jnp.take(at.distance, cells, mode="clip")
    zero, largest = jnp.zeros((), a.dtype), jnp.iinfo(a.dtype).max
    swaps = (places[:, None] < places[None, :]) & (places[None, :] < at.size)
    size = at.size.astype(jnp.float32)
    lowest = jnp.maximum(parameters.low * size, 1.0)
    spread = parameters.width * size
    first = jax.vmap(lambda i: delta_row(i, a, b, symmetric))(places)
    bits = jax.random.uniform(jax.random.fold_in(key, 1), (iterations, 2), jnp.float32)

    def iterate(state, given):
        p, b, delta, until, change, best_p, best_delta, best, since = state
        t, drawn = given
        better = change + delta < best
        tabu = (until > t) & (t < until.T)
        old = (until < t - parameters.aspiration) & (t - parameters.aspiration > until.T)
        allowed = swaps & (~tabu | better)
        forced = allowed & old
        chosen = jnp.where(jnp.any(forced), forced, allowed)
        flat = jnp.argmin(jnp.where(chosen, delta, largest))
        r, s = flat // width, flat % width
        stuck = ~chosen[r, s]
        swapped = jnp.where(places == r, s, jnp.where(places == s, r, places))
        swapped = jnp.where(stuck, places, swapped)
        change = change + jnp.where(stuck, 0, delta[r, s])
        p, b, until = p[swapped], b[swapped][:, swapped], until[:, swapped]
        tenure = t + jnp.floor(lowest + spread * drawn).astype(jnp.int32)
        pair = (places[:, None] == r) & (places[None, :] == s)
        until = jnp.where(pair & ~stuck, tenure[0], jnp.where(pair.T & ~stuck, tenure[1], until))
        delta = jnp.where(stuck, delta, updated(delta, a, b, r, s, symmetric))
        improved = change < best
        best_p, best_delta = jnp.where(improved, p, best_p), jnp.where(improved, delta, best_delta)
        best = jnp.where(improved, change, best)
        since = jnp.where(improved, 0, since + 1)
        back = since >= parameters.restart_after
        owner = jnp.zeros_like(p).at[p].set(places.astype(p.dtype))  # of each location
        moved = jnp.where(back, owner[best_p], places)  # matrices in the order of facilities follow the permutation
        b, until = b[moved][:, moved], until[:, moved]
        p, delta, change = jnp.where(back, best_p, p), jnp.where(back, best_delta, delta), jnp.where(back, best, change)
        return (p, b, delta, until, change, best_p, best_delta, best, jnp.where(back, 0, since)), best

    begin = (p, b, first, jnp.zeros((width, width), jnp.int32), zero, p, first, zero, jnp.int32(0))
    end, curve = jax.lax.scan(iterate, begin, (jnp.arange(1, iterations + 1, dtype=jnp.int32), bits))
    return end[5], curve


run_many = jax.jit(
    jax.vmap(
        lambda parameters, at, key, iterations, symmetric: tabu_search(
            parameters, at, key=key, iterations=iterations, symmetric=symmetric
        ),
        in_axes=(0, Layout(None, None, 0, 0, 0), 0, None, None),  # type: ignore[arg-type]
    ),
    static_argnums=(3, 4),
)
"""`tabu_search` over a batch of runs that share tables."""

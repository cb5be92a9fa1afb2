"""Simulated annealing on quadratic assignment: one run as a pure function of parameters, instance and key.

Costs and their differences are integers and the acceptance test compares with a tabulated exponential variate, so a run
gives the same permutation in whatever batch, padding or device it is part of.

Swapping the locations of i and j (Burkard and Rendl 1984) changes the cost by

    d = sum_{k != i,j} [(A_ik - A_jk)(B_{pj pk} - B_{pi pk}) + (A_ki - A_kj)(B_{pk pj} - B_{pk pi})]
        + (A_ii - A_jj)(B_{pj pj} - B_{pi pi}) + (A_ij - A_ji)(B_{pj pi} - B_{pi pj})
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float32, Int, Key

CHUNK = 100
"""Steps whose random bits are drawn together, and between two points of the curve of best costs."""

_LEVELS = 4096
# Exponential variates by inversion: -log(u) at the middle of equal cells of u. Cut off at 9 temperatures.
_EXPONENTIAL = -np.log((np.arange(_LEVELS) + 0.5) / _LEVELS).astype(np.float32)


class AnnealParameters(NamedTuple):
    """Of one run. Temperatures are in units of initial cost / n; `t_ratio` is last over first."""

    greedy: Array
    t0: Array
    t_ratio: Array
    lundy: Array
    """Lundy and Mees: 1 / T grows linearly. Otherwise geometric."""
    reheats: Array
    sweep: Array
    """Pairs in lexicographic order, else at random."""
    restart_after: Array
    """Steps without a new best after which to go back to the best."""


class Layout(NamedTuple):
    """Of one run's instance in tables of stacked instances."""

    flow: Int[Array, "rows width"]
    distance: Int[Array, " cells"]
    """Flat; its transpose follows in a second half where not symmetric, as does that of `flow`."""
    base: Array
    """First row of the instance."""
    size: Array
    greedy: Int[Array, " width"]


def swap_delta(p: Int[Array, " width"], i: Array, j: Array, at: Layout, symmetric: bool) -> Array:
    """Change of the cost when facilities `i` and `j` change places; p is the permutation before."""
    width = p.shape[0]
    places = jnp.arange(width)
    pi, pj = p[i], p[j]

    def half(rows: Array, cells: Array) -> Array:
        a = at.flow[rows + at.base + i] - at.flow[rows + at.base + j]
        b = _cell(at, cells, pj, p) - _cell(at, cells, pi, p)
        return jnp.sum(jnp.where((places == i) | (places == j), 0, a * b))

    both = half(jnp.int32(0), jnp.int32(0))
    if symmetric:
        total = 2 * both
    else:
        rows = at.flow.shape[0] // 2
        total = both + half(jnp.int32(rows), jnp.int32(rows * width))
    own = (_flow(at, i, i) - _flow(at, j, j)) * (_cell(at, 0, pj, pj) - _cell(at, 0, pi, pi))
    if symmetric:
        return total + own
    cross = (_flow(at, i, j) - _flow(at, j, i)) * (_cell(at, 0, pj, pi) - _cell(at, 0, pi, pj))
    return total + own + cross


def start_permutation(at: Layout, greedy: Array, *, key: Key[Array, ""]) -> Int[Array, " width"]:
    """At random, or the greedy one; padded facilities stay where they are."""
    width = at.greedy.shape[0]
    bits = jax.random.bits(key, (width,), jnp.uint32) >> 1
    order = jnp.argsort(jnp.where(jnp.arange(width) < at.size, bits, jnp.uint32(2**32 - 1)), stable=True)
    return jnp.where(greedy, at.greedy, order.astype(jnp.int32))


def start_cost(p: Int[Array, " width"], at: Layout) -> Float32[Array, ""]:
    """The cost of p, scaled as the tables are. Only temperatures depend on it."""
    width = p.shape[0]
    rows = at.base + jnp.arange(width)
    moved = _cell(at, 0, p[:, None], p[None, :]).astype(jnp.float32)
    return jnp.sum(at.flow[rows].astype(jnp.float32) * moved)


def anneal(
    parameters: AnnealParameters, at: Layout, *, key: Key[Array, ""], steps: int, symmetric: bool
) -> tuple[Int[Array, " width"], Array]:
    """The best permutation of `steps` proposed swaps, and the best change of cost after every `CHUNK` of them."""
    p = start_permutation(at, parameters.greedy, key=jax.random.fold_in(key, 0))
    width, zero = p.shape[0], jnp.zeros((), at.flow.dtype)
    places, table = jnp.arange(width), jnp.asarray(_EXPONENTIAL)
    # Rounded, so that the order in which it was summed does not show.
    scale = _rounded(start_cost(p, at) / at.size)
    first = parameters.t0 * scale
    cycle = jnp.maximum(steps // (parameters.reheats + 1), 1)
    factor = jnp.where(parameters.lundy, 1.0, _rounded(parameters.t_ratio ** (1.0 / cycle)))
    slope = jnp.where(parameters.lundy, (1.0 / parameters.t_ratio - 1.0) / (cycle * first), 0.0)

    def step(state, bits):
        p, change, best_p, best, temperature, since, count, swept = state
        drawn = _pair(bits[0], at.size)
        i, j = (jnp.where(parameters.sweep, s, d) for s, d in zip(swept, drawn, strict=True))
        delta = swap_delta(p, i, j, at, symmetric)
        accepted = delta.astype(jnp.float32) <= temperature * table[bits[1] & (_LEVELS - 1)]
        pi, pj = p[i], p[j]
        moved = jnp.where(places == i, pj, jnp.where(places == j, pi, p))
        p = jnp.where(accepted, moved, p)
        change = change + jnp.where(accepted, delta, 0)
        better = change < best
        best_p, best = jnp.where(better, p, best_p), jnp.where(better, change, best)
        since = jnp.where(better, 0, since + 1)
        back = since >= parameters.restart_after
        p, change = jnp.where(back, best_p, p), jnp.where(back, best, change)
        count = count + 1
        reheated = count % cycle == 0
        temperature = jnp.where(reheated, first, temperature * factor / (1.0 + slope * temperature))
        return (p, change, best_p, best, temperature, jnp.where(back, 0, since), count, _next(swept, at.size)), None

    def chunk(state, number):
        bits = jax.random.bits(jax.random.fold_in(key, number + 1), (CHUNK, 2), jnp.uint32)
        state, _ = jax.lax.scan(step, state, bits)
        return state, state[3]

    pair = (jnp.int32(0), jnp.int32(1))
    begin = (p, zero, p, zero, first, jnp.int32(0), jnp.int32(0), pair)
    end, curve = jax.lax.scan(chunk, begin, jnp.arange(steps // CHUNK))
    return end[2], curve


def _pair(bits: Array, size: Array) -> tuple[Array, Array]:
    """Two different facilities, uniform up to the 16 bits each is made of."""
    n = size.astype(jnp.uint32)
    i = ((bits & 0xFFFF) * n >> 16).astype(jnp.int32)
    j = ((bits >> 16) * (n - 1) >> 16).astype(jnp.int32)
    return i, j + (j >= i)


def _next(pair: tuple[Array, Array], size: Array) -> tuple[Array, Array]:
    """The pair after (i, j) in lexicographic order, back to the first after the last."""
    i, j = pair
    row = j + 1 >= size
    i = jnp.where(row, i + 1, i)
    over = i + 1 >= size
    i = jnp.where(over, 0, i)
    return i, jnp.where(row, i + 1, j + 1)


def _flow(at: Layout, i: Array, j: Array) -> Array:
    return at.flow[at.base + i, j]


def _cell(at: Layout, offset: Array | int, row: Array, column: Array) -> Array:
    width = at.greedy.shape[0]
    return jnp.take(at.distance, offset + (at.base + row) * width + column, mode="clip")


def _rounded(x: Array) -> Array:
    """To 16 bits of mantissa: sums in another order and other exponentials differ by less, hence almost never here."""
    mantissa, exponent = jnp.frexp(x.astype(jnp.float32))
    return jnp.ldexp(jnp.round(mantissa * 2.0**16) / 2.0**16, exponent)


run_many = jax.jit(
    jax.vmap(
        lambda parameters, at, key, steps, symmetric: anneal(parameters, at, key=key, steps=steps, symmetric=symmetric),
        in_axes=(0, Layout(None, None, 0, 0, 0), 0, None, None),  # type: ignore[arg-type]
    ),
    static_argnums=(3, 4),
)
"""`anneal` over a batch of runs that share tables."""

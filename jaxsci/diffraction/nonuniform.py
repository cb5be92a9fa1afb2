"""The sum over atoms as a non-uniform FFT of type 1: atoms are spread over a grid, which is then transformed.

Kernel exp(beta (sqrt(1 - x^2) - 1)) and its deconvolution: Barnett, Magland & af Klinteberg, doi:10.1137/18M120885X.
Here spreading is a batched matrix product: atoms are sorted into blocks of the grid, each block is summed from the
kernels' values along its three edges, and what overlaps is folded in by reshapes. No atom scatters anything.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from jaxsci.core.config import require

EDGE = 8  # grid points of a block along each axis
CHUNK = 64  # atoms of one block summed together
BATCH = 64  # chunks at a time


@partial(jax.jit, static_argnames=("n", "length", "width"))
def nonuniform_sum(
    positions: Float[Array, "atoms 3"], weights: Complex[Array, " atoms"], *, n: int, length: float, width: int = 7
) -> Complex[Array, "n n n"]:
    """A(q) = sum_j w_j exp(i q.r_j) on q = 2 pi k / length, k = -n/2 ... n/2 - 1; `n` even, any positions.

    `width` grid points take part along each axis; the error is about 10^(1 - width) of the largest |A|, down to that
    of the arithmetic. Differentiable in positions and weights.
    """
    require(n % 2 == 0, "n", "an even number of momenta", n)
    require(2 <= width <= EDGE + 1, "width", f"2 to {EDGE + 1}", width)
    blocks = -(-2 * n // EDGE)  # twice as fine as the momenta need
    points = blocks * EDGE
    place = jnp.mod(positions * (points / length), points)
    first = jnp.ceil(place - width / 2).astype(jnp.int32)  # the first grid point that the kernel reaches
    block = jnp.mod(first, points) // EDGE
    table, owner = _chunks((block[:, 0] * blocks + block[:, 1]) * blocks + block[:, 2], blocks**3)

    # Coordinates from the block's corner, in a copy of the grid in which the kernel does not wrap round.
    inside = place - (first - jnp.mod(first, EDGE))
    inside, real, imaginary = (_gathered(v, table) for v in (inside, weights.real, weights.imag))
    reach = jnp.arange(2 * EDGE, dtype=positions.dtype)

    def add(total: Float[Array, "blocks parts yz"], part: tuple[Array, ...]) -> tuple[Array, None]:
        inside, real, imaginary, owner = part
        x, y, z = (_kernel(inside[..., axis, None] - reach, width) for axis in range(3))
        left = jnp.concatenate([x * real[..., None], x * imaginary[..., None]], axis=-1)
        right = (y[..., :, None] * z[..., None, :]).reshape(*y.shape[:2], -1)
        return total.at[owner].add(jnp.einsum("bcx,bcy->bxy", left, right)), None

    parts = [v.reshape(-1, BATCH, *v.shape[1:]) for v in (inside, real, imaginary, owner)]
    empty = jnp.zeros((blocks**3, 4 * EDGE, (2 * EDGE) ** 2), positions.dtype)
    total, _ = jax.lax.scan(jax.checkpoint(add), empty, tuple(parts))
    grid = _folded(total.reshape(blocks, blocks, blocks, 2, 2 * EDGE, 2 * EDGE, 2 * EDGE))
    spectrum = jnp.fft.ifftn(jax.lax.complex(grid[0], grid[1])) * points**3
    kept = np.arange(n) - n // 2
    correction = jnp.asarray(1 / _transform(2 * np.pi / points * kept, width), positions.dtype)
    for _ in range(3):  # each pass keeps momenta of the first axis and moves it last
        spectrum = jnp.moveaxis(jnp.take(spectrum, kept, axis=0) * correction[:, None, None], 0, -1)
    return spectrum


def _chunks(block: Int[Array, " atoms"], blocks: int) -> tuple[Int[Array, "chunks slots"], Int[Array, " chunks"]]:
    """Atoms sorted into chunks of one block each, and whose they are; free slots hold the number of atoms.

    A block leaves at most one chunk unfilled, so that the number of chunks has a bound however atoms are distributed.
    """
    atoms = len(block)
    bound = -(-(atoms // CHUNK + min(blocks, atoms)) // BATCH) * BATCH
    order = jnp.argsort(block)
    sizes = jnp.bincount(block, length=blocks)
    rank = jnp.arange(atoms) - (jnp.cumsum(sizes) - sizes)[block[order]]
    filled = -(-sizes // CHUNK)
    ends = jnp.cumsum(filled)
    slot = (ends - filled)[block[order]] * CHUNK + rank
    table = jnp.full(bound * CHUNK, atoms).at[slot].set(order)
    owner = jnp.minimum(jnp.searchsorted(ends, jnp.arange(bound), side="right"), blocks - 1)
    return table.reshape(bound, CHUNK), owner


def _gathered(values: Float[Array, "atoms *rest"], table: Int[Array, "chunks slots"]) -> Array:
    return values.at[table].get(mode="fill", fill_value=0.0)


def _folded(
    blocks: Float[Array, "b b b parts double double double"],
) -> Float[Array, "parts points points points"]:
    """Every block reaches one edge beyond its own points, into the next block, around the grid."""
    for axis in range(3):
        own, beyond = jnp.split(blocks, 2, axis=4 + axis)
        blocks = own + jnp.roll(beyond, 1, axis)
    count = blocks.shape[0]
    return blocks.transpose(3, 0, 4, 1, 5, 2, 6).reshape(2, *(count * EDGE,) * 3)


def _steepness(width: int) -> float:
    return 2.3 * width


def _kernel(distance: Float[Array, "*shape"], width: int) -> Float[Array, "*shape"]:
    left = 1 - jnp.square(distance * (2 / width))
    # At the very edge the slope is infinite, where the kernel is nothing.
    root = jnp.sqrt(jnp.maximum(left, 1e-6))
    return jnp.where(left > 0, jnp.exp(_steepness(width) * (root - 1)), 0.0)


def _transform(frequency: Float[np.ndarray, " n"], width: int) -> Float[np.ndarray, " n"]:
    """The kernel's Fourier transform (radians a grid point), by Gauss-Legendre quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(4 * width + 20)
    values = np.exp(_steepness(width) * (np.sqrt(1 - nodes**2) - 1))
    return width / 2 * (np.cos(np.outer(frequency, nodes * width / 2)) @ (weights * values))

"""From a crystal to its far field around one Bragg peak: sums over a grid or over atoms, on one grid of momenta.

A(q) = sum_j w_j exp(i q.r_j) on the Cartesian grid q = 2 pi k / length, k = -n/2 ... n/2 - 1 on each axis, the peak at
index n // 2. In a continuum w = S(r) exp(i phi) on a real grid finer than the resolution; for atoms w_j = exp(i G.u_j).
The continuum neglects q.u, the atoms' sum does not: their positions are R_j + u_j. Another sum over atoms, for many of
them or many momenta, is `nonuniform.nonuniform_sum`.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsci.core.config import require


def fine_axis(span: float, oversampling: int) -> Float[np.ndarray, " points"]:
    """Coordinates (voxels) of a real grid of `oversampling` points a voxel that covers `span` voxels about 0."""
    points = round(span * oversampling)
    return (np.arange(points) - points // 2) / oversampling


def far_field(field: Complex[Array, "k k k"], n: int, oversampling: int) -> Complex[Array, "n n n"]:
    """The n^3 momenta of an object on the grid of `fine_axis`, in units of the field's sum.

    What an FFT of the object, padded to (n * oversampling)^3 and cropped to the central n^3, gives; three matrix
    products with the cosines and sines of the momenta which are kept cost less wherever the object is smaller than the
    padding. Those of negative momenta are the same up to a sign.
    """
    points = field.shape[0]
    positions = (np.arange(points) - points // 2) / oversampling
    turn = np.outer(2 * np.pi / n * np.arange(n // 2 + 1), positions)
    waves = jnp.asarray(np.concatenate([np.cos(turn), np.sin(turn[1:])]), field.real.dtype)
    # Real and imaginary part by themselves: stacked, the field would be worked out anew for every element of a product.
    result = jax.lax.complex(_real_transform(field.real, waves), _real_transform(field.imag, waves))
    for axis in range(3):
        result = _signed(result, n, axis)
    return result / oversampling**3


def _real_transform(values: Float[Array, "k k k"], waves: Float[Array, "rows k"]) -> Float[Array, "rows rows rows"]:
    k = values.shape[0]
    result = (waves @ values.reshape(k, -1)).reshape(-1, k, k)
    return jnp.einsum("py,xyz->xpz", waves, result) @ waves.T


def padded_far_field(field: Complex[Array, "k k k"], n: int, oversampling: int) -> Complex[Array, "n n n"]:
    """The same by FFT of the padded grid: the reference for `far_field`, and faster where the object fills it."""
    size, points = n * oversampling, field.shape[0]
    require(points <= size, "span", f"at most the {n} voxels of the array", points / oversampling)
    before = size // 2 - points // 2
    padded = jnp.pad(field, [(before, size - points - before)] * 3)
    spectrum = jnp.fft.fftshift(jnp.fft.ifftn(jnp.fft.ifftshift(padded))) * size**3
    kept = slice(size // 2 - n // 2, size // 2 - n // 2 + n)
    return spectrum[kept, kept, kept] / oversampling**3


def direct_sum(
    positions: Float[Array, "atoms 3"],
    weights: Complex[Array, " atoms"],
    *,
    n: int,
    length: float,
    planes: int | None = None,
) -> Complex[Array, "planes n n"]:
    """A(q) as it is written, an exponential for every atom and momentum. The reference; O(atoms n^3) exponentials.

    `planes`: only so many planes of momenta, those about the middle.
    """
    momenta = _momenta(n, length, positions.dtype)

    def plane(qx: Float[Array, ""]) -> Complex[Array, "n n"]:
        phase = qx * positions[:, 0] + momenta[:, None] * positions[:, 1]  # (n, atoms)

        def row(across: Float[Array, " atoms"]) -> Complex[Array, " n"]:
            turn = across + momenta[:, None] * positions[:, 2]
            wave = jax.lax.complex(jnp.cos(turn), jnp.sin(turn))
            return jnp.sum(wave * weights, axis=1)

        return jax.lax.map(row, phase)

    first = 0 if planes is None else n // 2 - planes // 2
    return jax.lax.map(plane, momenta[first:][:planes])


@partial(jax.jit, static_argnames=("n", "length", "chunk"))
def gemm_sum(
    positions: Float[Array, "atoms 3"], weights: Complex[Array, " atoms"], *, n: int, length: float, chunk: int = 1024
) -> Complex[Array, "n n n"]:
    """A(q) as matrix products over blocks of atoms; `n` even.

    exp(i q.r) factorises on a Cartesian grid, and each factor is a cosine and a sine of |q| only. All that depends on
    atoms is one real product of shapes (2 (n+1), atoms) x (atoms, (n+1)^2): 4 atoms n^3 operations, half of those of
    the complex product, and no exponential in the inner loop. Differentiable in positions and weights.
    """
    require(n % 2 == 0, "n", "an even number of momenta", n)
    atoms = positions.shape[0]
    blocks = -(-atoms // chunk)
    padding = blocks * chunk - atoms
    positions = jnp.pad(positions, ((0, padding), (0, 0))).reshape(blocks, chunk, 3)
    weights = jnp.pad(weights, (0, padding)).reshape(blocks, chunk)
    half, rows = n // 2, n + 1
    modulus = (2 * jnp.pi / length * jnp.arange(half + 1)).astype(positions.dtype)
    # Waves come before the loop (about 100 n bytes an atom): inside, the compiler would work each out n times again.
    x, y, z = (_waves(modulus, positions[..., axis]) for axis in range(3))
    left = jnp.concatenate([x * weights.real[:, None], x * weights.imag[:, None]], axis=1)

    @jax.checkpoint
    def add(total: Float[Array, "parts momenta"], block: tuple[Array, Array, Array]) -> tuple[Array, None]:
        along_x, along_y, along_z = block
        right = (along_y[:, None, :] * along_z[None, :, :]).reshape(rows * rows, chunk)
        return total + along_x @ right.T, None

    total, _ = jax.lax.scan(add, jnp.zeros((2 * rows, rows * rows), positions.dtype), (left, y, z))
    real, imaginary = total.reshape(2, rows, rows, rows)
    result = jax.lax.complex(real, imaginary)
    for axis in range(3):
        result = _signed(result, n, axis)
    return result


def atomistic(
    positions: Float[Array, "atoms 3"],
    displacements: Float[Array, "atoms 3"],
    reflection: Float[Array, "3"],
    *,
    a: float,
    n: int,
    length: float,
    sum_over_atoms: Callable[..., Complex[Array, "n n n"]] = gemm_sum,
) -> Complex[Array, "n n n"]:
    """The field around `reflection` (Miller indices) of atoms at sites `positions` + `displacements` (angstrom).

    G.R is a multiple of 2 pi and is left out, which keeps float32 exact enough.
    """
    phase = 2 * jnp.pi / a * (displacements @ reflection)
    weights = jax.lax.complex(jnp.cos(phase), jnp.sin(phase))
    return sum_over_atoms(positions + displacements, weights, n=n, length=length)


def intensity(field: Complex[Array, "*shape"]) -> Float[Array, "*shape"]:
    """|A|^2, without the square root whose gradient fails at zero."""
    return jnp.square(field.real) + jnp.square(field.imag)


def amplitude_disagreement(one: Float[Array, "*shape"], other: Float[Array, "*shape"]) -> Float[Array, ""]:
    """R = sum |sqrt I - sqrt I0| / sum sqrt I0 of intensities on the same scale."""
    left, right = jnp.sqrt(one), jnp.sqrt(other)
    return jnp.sum(jnp.abs(left - right)) / jnp.sum(right)


def _momenta(n: int, length: float, dtype: jnp.dtype) -> Float[Array, " n"]:
    return (2 * jnp.pi / length * (jnp.arange(n) - n // 2)).astype(dtype)


def _waves(modulus: Float[Array, " m"], x: Float[Array, "blocks chunk"]) -> Float[Array, "blocks rows chunk"]:
    """cos(q x) for q = 0 ... n/2, then sin(q x) for q = 1 ... n/2."""
    turn = modulus[:, None] * x[:, None, :]
    return jnp.concatenate([jnp.cos(turn), jnp.sin(turn[:, 1:])], axis=1)


def _signed(waves: Complex[Array, "..."], n: int, axis: int) -> Complex[Array, "..."]:
    """From sums against cosines and sines, along one axis, to sums against exp(i q x), q from -(n // 2) upwards."""
    half = n // 2
    part = lambda start, stop: jax.lax.slice_in_dim(waves, start, stop, axis=axis)  # noqa: E731
    still, cosine, sine = part(0, 1), part(1, half + 1), part(half + 1, 2 * half + 1)
    positive = jax.lax.slice_in_dim(cosine + 1j * sine, 0, (n - 1) // 2, axis=axis)
    return jnp.concatenate([jnp.flip(cosine - 1j * sine, axis), still, positive], axis)

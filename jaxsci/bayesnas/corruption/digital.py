"""Geometry and coding: elastic deformation, coarse pixels, JPEG."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxsci.bayesnas.corruption import filters
from jaxsci.bayesnas.corruption.filters import Image

# Annex K of the JPEG standard (ITU-T T.81): quantisation of brightness and of colour at quality 50.
BRIGHTNESS = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
COLOUR = np.full((8, 8), 99)
COLOUR[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]])
DCT = np.sqrt(2 / 8) * np.cos((2 * np.arange(8)[None] + 1) * np.arange(8)[:, None] * np.pi / 16)
DCT[0] /= np.sqrt(2)


def elastic(x: Image, alpha: float, sigma: float, shear: float, *, key: Key[Array, ""]) -> Image:
    """A random affine map by up to `shear` pixels at three points, then a smooth displacement field (if alpha > 0)."""
    points, field = jax.random.split(key)
    height, width, _ = x.shape
    centre, reach = np.array([height // 2, width // 2]), min(height, width) // 3
    before = np.stack([centre + reach, centre + reach * np.array([1, -1]), centre - reach]).astype(np.float32)
    after = before + jax.random.uniform(points, (3, 2), minval=-shear, maxval=shear)
    homogeneous = lambda p: jnp.concatenate([p, jnp.ones((3, 1))], axis=1)  # noqa: E731
    backward = jnp.linalg.solve(homogeneous(after), jnp.asarray(before))  # (3, 2): where an output pixel comes from
    rows, columns = filters.grid(height, width)
    places = jnp.stack([columns, rows, jnp.ones_like(rows)], axis=-1) @ backward
    x = filters.sample(x, places[..., 1], places[..., 0], mode="mirror")
    if alpha == 0:
        return x
    noise = jax.random.uniform(field, (height, width, 2), minval=-1.0, maxval=1.0)
    weights = filters.gaussian_weights(sigma, 3.0)
    for axis in (0, 1):
        noise = filters.filter_axis(noise, weights, axis, "symmetric")
    return filters.sample(x, rows + alpha * noise[..., 1], columns + alpha * noise[..., 0])


def pixelate(x: Image, factor: float, *, key: Key[Array, ""]) -> Image:
    """Averaged down to int(size factor) pixels and repeated up again, each pass rounded to whole levels, as PIL."""
    size = int(x.shape[0] * factor)
    down, up = filters.box_matrix(x.shape[0], size), filters.box_matrix(size, x.shape[0])
    levels = jnp.floor(x * 255 + 0.5)
    for matrix in (down, up):
        weights = jnp.asarray(matrix, levels.dtype)
        levels = _rounded(jnp.einsum("ij,hjc->hic", weights, levels))
        levels = _rounded(jnp.einsum("ij,jwc->iwc", weights, levels))
    return levels / 255


def jpeg(x: Image, quality: int, *, key: Key[Array, ""]) -> Image:
    """Coded and decoded with colours at half resolution (4:2:0) and triangle upsampling, as libjpeg does.

    Rounding passes its gradient straight through, so the corruption is differentiable.
    """
    levels = _rounded(x * 255)
    ycc = levels @ jnp.asarray(TO_YCBCR.T, x.dtype)
    y, colours = _rounded(ycc[..., :1]), _rounded(ycc[..., 1:] + 128) - 128
    total = colours.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2, 2).sum(axis=(1, 3))
    # Rounded below, a half goes down in the first, third ... column and up in the others, as in libjpeg.
    small = (total + 0.5 * (jnp.arange(x.shape[1] // 2) % 2)[None, :, None] - 0.25) / 4
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = lambda base: np.clip(np.floor((base * scale + 50) / 100), 1, 255)  # noqa: E731
    y = _coded(y - 128, table(BRIGHTNESS)) + 128
    small = _coded(_rounded(small), table(COLOUR))
    large = _rounded(_upsampled(_upsampled(small, 0), 1))
    rgb = jnp.concatenate([y, large], axis=-1) @ jnp.asarray(np.linalg.inv(TO_YCBCR).T, x.dtype)
    return jnp.clip(_rounded(rgb), 0, 255) / 255


def _rounded(values: Array) -> Array:
    return values + jax.lax.stop_gradient(jnp.floor(values + 0.5) - values)


def _coded(plane: Float[Array, "height width colours"], table: np.ndarray) -> Float[Array, "height width colours"]:
    """Through the quantised cosine transform of 8 x 8 blocks and back, rounded to whole levels."""
    height, width, colours = plane.shape
    blocks = plane.reshape(height // 8, 8, width // 8, 8, colours)
    transform, steps = jnp.asarray(DCT, plane.dtype), jnp.asarray(table, plane.dtype)[:, None, :, None]
    coefficients = jnp.einsum("ui,aibjc,vj->aubvc", transform, blocks, transform)
    kept = _rounded(coefficients / steps) * steps
    back = jnp.einsum("ui,aubvc,vj->aibjc", transform, kept, transform)
    return jnp.clip(_rounded(back.reshape(plane.shape)), -128, 127)


def _upsampled(plane: Array, axis: int) -> Array:
    """Twice the size along an axis: three quarters of the nearest value, one of the next."""
    before = jnp.concatenate([jax.lax.slice_in_dim(plane, 0, 1, axis=axis), plane], axis)
    before = jax.lax.slice_in_dim(before, 0, plane.shape[axis], axis=axis)
    after = jnp.concatenate([plane, jax.lax.slice_in_dim(plane, plane.shape[axis] - 1, None, axis=axis)], axis)
    after = jax.lax.slice_in_dim(after, 1, None, axis=axis)
    pairs = jnp.stack([0.75 * plane + 0.25 * before, 0.75 * plane + 0.25 * after], axis=axis + 1)
    return pairs.reshape([2 * n if d == axis else n for d, n in enumerate(plane.shape)])

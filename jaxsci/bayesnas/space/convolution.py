"""Pieces of convolutional spaces: layers, group normalisation, and operations as kernels to be merged."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key


def init_kernel(size: int, fan_in: int, fan_out: int, *, key: Key[Array, ""]) -> Float[Array, "k k fan_in fan_out"]:
    """He initialisation, arXiv:1502.01852."""
    return jnp.sqrt(2.0 / (size * size * fan_in)) * jax.random.normal(key, (size, size, fan_in, fan_out))


def convolve(
    x: Float[Array, "batch height width fan_in"], kernel: Float[Array, "k k fan_in fan_out"], stride: int = 1
) -> Float[Array, "batch height2 width2 fan_out"]:
    """Zero-padded convolution; the image keeps its size at stride 1."""
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def init_norm(channels: int) -> dict[str, Array]:
    """Parameters of a normalisation layer: unit scales, zero shifts."""
    return {"scale": jnp.ones(channels), "shift": jnp.zeros(channels)}


def group_norm(params: Any, x: Float[Array, "batch height width channels"], groups: int) -> Array:
    """Normalisation over space and groups of channels (Wu & He, arXiv:1803.08494): no statistics of the batch."""
    batch, height, width, channels = x.shape
    split = x.reshape(batch, height * width, groups, channels // groups)
    mean = jnp.mean(split, axis=(1, 3), keepdims=True)
    variance = jnp.mean(jnp.square(split - mean), axis=(1, 3), keepdims=True)
    normal = (split - mean) * jax.lax.rsqrt(variance + 1e-5)
    return normal.reshape(x.shape) * params["scale"] + params["shift"]


def centred(kernel: Float[Array, "k k fan_in fan_out"], size: int) -> Float[Array, "{size} {size} fan_in fan_out"]:
    """The same convolution as a kernel of `size` x `size`, zero outside."""
    margin = (size - kernel.shape[0]) // 2
    return jnp.pad(kernel, ((margin, margin), (margin, margin), (0, 0), (0, 0)))


def dilated(kernel: Float[Array, "k k fan_in fan_out"], by: int) -> Array:
    """The kernel with `by - 1` zeros between its taps."""
    size = by * (kernel.shape[0] - 1) + 1
    return jnp.zeros((size, size, *kernel.shape[2:]), kernel.dtype).at[::by, ::by].set(kernel)


def identity_kernel(channels: int, size: int) -> Float[Array, "{size} {size} channels channels"]:
    """The kernel that leaves an image as it is, `size` pixels wide."""
    return centred(jnp.eye(channels)[None, None], size)


def average_kernel(channels: int, size: int, pool: int = 3) -> Float[Array, "{size} {size} channels channels"]:
    """Mean over `pool` x `pool` pixels, those beyond the border counted as zero."""
    return centred(jnp.broadcast_to(jnp.eye(channels) / pool**2, (pool, pool, channels, channels)), size)

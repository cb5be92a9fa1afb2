"""Noise on every value."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxsci.bayesnas.corruption.filters import Image


def gaussian_noise(x: Image, sigma: float, *, key: Key[Array, ""]) -> Image:
    """Independent normal noise of standard deviation `sigma`, images being in [0, 1]."""
    return x + sigma * jax.random.normal(key, x.shape)


def shot_noise(x: Image, rate: float, *, key: Key[Array, ""]) -> Image:
    """Photon counting with `rate` photons at full brightness."""
    return jax.random.poisson(key, x * rate).astype(x.dtype) / rate


def impulse_noise(x: Image, amount: float, *, key: Key[Array, ""]) -> Image:
    """Salt and pepper, in equal parts, on each colour value by itself."""
    hit, kind = jax.random.split(key)
    salt = jax.random.bernoulli(kind, 0.5, x.shape).astype(x.dtype)
    return jnp.where(jax.random.bernoulli(hit, amount, x.shape), salt, x)


def speckle_noise(x: Image, sigma: float, *, key: Key[Array, ""]) -> Image:
    """Normal noise in proportion to the value: standard deviation `sigma` times the pixel."""
    return x + x * sigma * jax.random.normal(key, x.shape)

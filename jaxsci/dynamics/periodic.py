"""Fourier analysis on a circle: wavenumbers, derivatives, the two-thirds mask, and noise in chosen modes."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, PRNGKeyArray

from jaxsci.core.errors import ConfigError


def wavenumbers(points: int, length: float) -> Float[np.ndarray, " frequencies"]:
    """`k = 2 pi n / length` of the modes n that `rfft` of `points` values has."""
    return 2 * np.pi / length * np.arange(points // 2 + 1)


def derivative_symbol(points: int, length: float, order: int = 1) -> Inexact[np.ndarray, " frequencies"]:
    """`(i k)^order`; zero for odd orders at the shortest wave of an even grid, which has no odd derivative there."""
    symbol = (1j * wavenumbers(points, length)) ** order
    if order % 2 and points % 2 == 0:
        symbol[-1] = 0
    return symbol if order % 2 else symbol.real


def derivative(u: Float[Array, "*batch n"], length: float, order: int = 1) -> Float[Array, "*batch n"]:
    """The spectral derivative along the last axis."""
    n = u.shape[-1]
    symbol = jnp.asarray(derivative_symbol(n, length, order), jnp.result_type(u.dtype, jnp.complex64))
    return jnp.fft.irfft(symbol * jnp.fft.rfft(u), n)


def two_thirds(points: int) -> Bool[np.ndarray, " frequencies"]:
    """The modes `n < points / 3`: products of two of them alias onto none of them."""
    return np.arange(points // 2 + 1) < points / 3


def mode_noise(
    key: PRNGKeyArray, points: int, modes: Sequence[int], rms: float, dtype: jnp.dtype | None = None
) -> Float[Array, " points"]:
    """A random field of spatial RMS exactly `rms` with Gaussian coefficients in the given Fourier modes alone.

    Raises `ConfigError` for a mode the grid does not have.
    """
    if not modes or min(modes) < 1 or max(modes) >= points / 2:
        raise ConfigError(f"modes: expected some of 1 to {(points - 1) // 2} for {points} points, got {list(modes)}")
    dtype = jnp.result_type(float) if dtype is None else dtype
    draws = jax.random.normal(key, (2, len(modes)), dtype)
    spectrum = jnp.zeros(points // 2 + 1, jnp.result_type(dtype, jnp.complex64))
    field = jnp.fft.irfft(spectrum.at[jnp.asarray(modes)].set(draws[0] + 1j * draws[1]), points)
    return rms * field / jnp.sqrt(jnp.mean(jnp.square(field)))

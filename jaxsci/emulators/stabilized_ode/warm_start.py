"""A closed-form start of the linear term, by regression of du/dt on it and on quadratic terms at once."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxsci.core.config import require
from jaxsci.dynamics.periodic import derivative_symbol


class JointFit(NamedTuple):
    """Least squares of `du/dt = A u - c_0 (u^2/2)_x - c_1 u^2`."""

    linear: Float[np.ndarray, " parameters"]
    """Weights of the stencil, or coefficients of the polynomial symbol from order 1."""
    advection: float
    """`c_0`; one for Burgers and Kuramoto-Sivashinsky."""
    reaction: float
    """`c_1`."""
    residual: float
    """Root mean square of what is left, relative to that of du/dt."""


def time_derivative(u: Float[np.ndarray, "trajectories time n"], dt: float) -> Float[np.ndarray, "*inner n"]:
    """Fourth-order central differences, at times 2 to -3 (the ends are lost)."""
    require(u.shape[1] >= 5, "data", "five times or more of each trajectory", u.shape[1])
    return (8 * (u[:, 3:-1] - u[:, 1:-3]) - (u[:, 4:] - u[:, :-4])) / (12 * dt)


def fit_stencil(u: np.ndarray, slope: np.ndarray, length: float, taps: int) -> JointFit:
    """Joint regression of the `taps` weights. `u`, `slope`: states and their time derivatives, `[states n]`.

    The linear term alone must not be fitted on stationary data: there `<u A u> = 0` for the best A, which is near zero
    although the true one is not. The quadratic terms carry the energy that A loses.
    """
    require(taps % 2 == 1, "taps", "an odd number", taps)
    shifts = range(-(taps // 2), taps // 2 + 1)
    return _solve([np.roll(u, -j, axis=-1) for j in shifts], u, slope, length)


def fit_polynomial(u: np.ndarray, slope: np.ndarray, length: float, orders: int) -> JointFit:
    """Joint regression of the coefficients of `(ik)^p`, p = 1 to `orders`. Arguments as in `fit_stencil`."""
    return _solve([_derivative(u, length, p) for p in range(1, orders + 1)], u, slope, length)


def _solve(columns: list[np.ndarray], u: np.ndarray, slope: np.ndarray, length: float) -> JointFit:
    quadratic = [-_derivative(0.5 * u**2, length, 1), -(u**2) + np.mean(u**2, axis=-1, keepdims=True)]
    features = np.stack([column.ravel() for column in (*columns, *quadratic)], axis=1).astype(np.float64)
    scale = np.sqrt(np.mean(features**2, axis=0))  # derivatives of order four are large
    scale = np.where(scale > 0, scale, 1.0)
    target = slope.ravel().astype(np.float64)
    found, *_ = np.linalg.lstsq(features / scale, target, rcond=None)
    residual = target - features / scale @ found
    found = found / scale
    relative = float(np.sqrt(np.mean(residual**2) / np.mean(target**2)))
    return JointFit(found[: len(columns)], float(found[-2]), float(found[-1]), relative)


def _derivative(u: np.ndarray, length: float, order: int) -> np.ndarray:
    n = u.shape[-1]
    return np.fft.irfft(derivative_symbol(n, length, order) * np.fft.rfft(u, axis=-1), n, axis=-1)

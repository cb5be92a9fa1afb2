"""Gaussian process regression: exact, by one Cholesky factor, with the kernel chosen by evidence on a grid."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

# Kernel length in units of the (standardised) features; noise as a share of the variance of y.
GRID = np.array([(length, noise) for length in (1.5, 3.0, 6.0) for noise in (0.05, 0.2, 0.6)])


class GaussianProcess(NamedTuple):
    """A fitted process; call it for mean and standard deviation of y at new points."""

    points: Float[Array, "n f"]
    factor: Float[Array, "n n"]
    coefficients: Float[Array, " n"]
    centre: Float[Array, ""]
    scale: Float[Array, ""]
    length: Float[Array, ""]
    noise: Float[Array, ""]
    log_evidence: Float[Array, ""]

    def __call__(self, x: Float[Array, "m f"]) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        cross = _kernel(x, self.points, self.length)
        explained = jax.scipy.linalg.solve_triangular(self.factor, cross.T, lower=True)
        variance = jnp.maximum(1 + self.noise - (explained**2).sum(axis=0), 1e-9)
        return self.centre + self.scale * (cross @ self.coefficients), self.scale * jnp.sqrt(variance)


def fit_gaussian_process(
    x: Float[Array, "n f"],
    y: Float[Array, " n"],
    weight: Float[Array, " n"],
    *,
    grid: Float[ArrayLike, "g 2"] = GRID,
) -> GaussianProcess:
    """Squared-exponential kernel of unit variance on standardised y; a sample of weight w has noise variance 1/w.

    Samples of weight 0 count for nothing (padding). `grid` holds the (length, noise) pairs to choose from by evidence;
    O(n^3) for each, and a single one is taken as it is.
    """
    total = jnp.maximum(weight.sum(), 1e-12)
    centre = weight @ y / total
    scale = jnp.sqrt(jnp.maximum(weight @ (y - centre) ** 2 / total, 1e-12))
    target = (y - centre) / scale

    def fit(length: Float[Array, ""], noise: Float[Array, ""]) -> GaussianProcess:
        diagonal = noise / jnp.maximum(weight, 1e-9)
        factor = jnp.linalg.cholesky(_kernel(x, x, length) + jnp.diag(diagonal))
        coefficients = jax.scipy.linalg.cho_solve((factor, True), target)
        counted = jnp.where(weight > 1e-6, jnp.log(jnp.diag(factor)), 0.0)
        evidence = -0.5 * target @ coefficients - counted.sum()
        return GaussianProcess(x, factor, coefficients, centre, scale, length, noise, evidence)

    settings = jnp.asarray(grid, x.dtype)
    best = settings[0]
    if len(settings) > 1:
        # One after another: many factors at a time would need as many times the memory and be no faster.
        best = settings[jnp.argmax(jax.lax.map(lambda s: fit(s[0], s[1]).log_evidence, settings))]
    return fit(best[0], best[1])


def _kernel(a: Float[Array, "n f"], b: Float[Array, "m f"], length: Float[Array, ""]) -> Float[Array, "n m"]:
    squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return jnp.exp(-0.5 * jnp.maximum(squares, 0.0) / length**2)

"""Ridge regression with predictive intervals: the conjugate Bayesian linear model."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Ridge(NamedTuple):
    """A fitted linear model; call it for mean and standard deviation of y at new points."""

    coefficients: Float[Array, " f"]
    inverse: Float[Array, "f f"]
    centre: Float[Array, ""]
    noise: Float[Array, ""]

    def __call__(self, x: Float[Array, "m f"]) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        spread = jnp.einsum("mi,ij,mj->m", x, self.inverse, x)
        return self.centre + x @ self.coefficients, jnp.sqrt(self.noise * (1 + spread))


def fit_ridge(
    x: Float[Array, "n f"], y: Float[Array, " n"], weight: Float[Array, " n"], *, precision: float = 1.0
) -> Ridge:
    """Weighted least squares with a penalty of `precision` on the squared coefficients (not on the mean of y)."""
    total = jnp.maximum(weight.sum(), 1e-12)
    centre = weight @ y / total
    gram = (x.T * weight) @ x + precision * jnp.eye(x.shape[1], dtype=x.dtype)
    inverse = jnp.linalg.inv(gram)
    coefficients = inverse @ (x.T @ (weight * (y - centre)))
    residual = y - centre - x @ coefficients
    noise = (weight @ residual**2 + 1e-6) / total
    return Ridge(coefficients, inverse, centre, noise)

"""What is believed before the observations come: a mean state and a covariance, used through its square root."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxsci.core.errors import DataError

State = Any  # a pytree of floating-point arrays


class Background(eqx.Module):
    """The Gaussian prior `x = mean + root v`, `v ~ N(0, I)`: the control-variable transform of 4D-Var.

    `root` (state, control) is any factor of the covariance, `B = root root'`; the state pytree is flattened.
    """

    mean: State
    root: Float[Array, "state control"]

    def __call__(self, control: Float[Array, " control"]) -> State:
        """The state that a control stands for."""
        flat, unravel = ravel_pytree(self.mean)
        return unravel(flat + self.root @ control)

    @property
    def controls(self) -> int:
        """Length of the control vector: columns of the root."""
        return self.root.shape[1]


def covariance_root(covariance: Float[np.ndarray, "..."], *, tolerance: float = 1e-10) -> Float[Array, "n n"]:
    """The symmetric square root of a covariance matrix.

    Raises `DataError` where the matrix is not symmetric, or has an eigenvalue below `-tolerance` times the largest.
    """
    matrix = np.asarray(covariance)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"covariance: expected a square matrix, got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise DataError("covariance: expected finite entries, got NaN or infinity")
    asymmetry = np.abs(matrix - matrix.T).max()
    if asymmetry > tolerance * np.abs(matrix).max():
        raise DataError(f"covariance: expected a symmetric matrix, it differs from its transpose by {asymmetry:.2g}")
    values, vectors = np.linalg.eigh(matrix)
    if values[0] < -tolerance * max(values[-1], 0.0) or values[-1] <= 0:
        raise DataError(
            f"covariance: expected positive semi-definite, the smallest eigenvalue is {values[0]:.2g}; "
            "add a small multiple of the identity"
        )
    return jnp.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def symmetric_root(covariance: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """`covariance_root` for use inside compiled programs: eigenvalues below zero count as zero, nothing is checked."""
    values, vectors = jnp.linalg.eigh(covariance)
    return (vectors * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.T


def tangent_matrix(step: Any, mean: State) -> Float[Array, "n n"]:
    """The Jacobian of a step map at a state, both flattened."""
    flat, unravel = ravel_pytree(mean)
    return jax.jacfwd(lambda x: ravel_pytree(step(unravel(x)))[0])(flat)

"""Optimal interpolation: the closed-form analysis from a climatological background, each time on its own."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def optimal_interpolation(
    values: Float[Array, "times stations"],
    operator: Float[Array, "stations n"],
    background_covariance: Float[Array, "n n"],
    observation_covariance: Float[Array, "stations stations"],
) -> Float[Array, "times n"]:
    """`x = K y` with `K = B H' (H B H' + R)^{-1}` and a background of zero anomaly. Source: Gandin 1965."""
    crossed = background_covariance @ operator.T
    innovation = operator @ crossed + observation_covariance
    return values @ jnp.linalg.solve(innovation, crossed.T)

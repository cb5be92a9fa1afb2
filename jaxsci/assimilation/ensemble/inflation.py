"""What is done to an ensemble after the analysis, so that it stays as wide as it is wrong."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Anomalies = Float[Array, "members n"]


def relax_to_prior_perturbations(analysis: Anomalies, forecast: Anomalies, weight: float) -> Anomalies:
    """RTPP: `A <- (1 - w) A_a + w A_f`. Source: Zhang, Snyder and Sun 2004, Mon. Wea. Rev. 132, 1238-1253."""
    return (1 - weight) * analysis + weight * forecast


def relax_to_prior_spread(analysis: Anomalies, forecast: Anomalies, weight: float) -> Anomalies:
    """RTPS: `A <- A (1 + w (s_f - s_a) / s_a)`, each variable by its standard deviations before and after.

    Source: Whitaker and Hamill 2012, Mon. Wea. Rev. 140, 3078-3089.
    """
    after = jnp.sqrt(jnp.sum(analysis**2, axis=0))
    before = jnp.sqrt(jnp.sum(forecast**2, axis=0))
    return analysis * (1 + weight * (before - after) / jnp.where(after > 0, after, 1.0))

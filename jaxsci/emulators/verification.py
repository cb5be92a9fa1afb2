"""Scores of forecasts and analyses on a latitude-longitude grid. Every mean is weighted by area."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def rmse(error: Float[Array, "*cases points"], weights: Float[Array, " points"]) -> Float[Array, ""]:
    """Root of the area- and case-mean squared error, in the units of `error`."""
    return jnp.sqrt(jnp.mean(weights * jnp.square(error)))


def anomaly_correlation(
    forecast: Float[Array, "*cases points"],
    truth: Float[Array, "... points"],
    weights: Float[Array, " points"],
) -> Float[Array, ""]:
    """Uncentred correlation of anomalies from the training climatology, over all cases and points at once.

    One `truth` may serve several forecasts: leading axes broadcast.
    """
    covariance = jnp.mean(weights * forecast * truth)
    return covariance / jnp.sqrt(
        jnp.mean(weights * jnp.square(forecast)) * jnp.mean(weights * jnp.square(truth)) + jnp.finfo(truth.dtype).tiny
    )


def coverage(
    error: Float[Array, "*cases points"],
    spread: Float[Array, "*cases points"],
    weights: Float[Array, " points"],
    quantile: float = 1.6448536269514722,
) -> Float[Array, ""]:
    """Area-weighted share of errors within `quantile` standard deviations; the default is the central 90 % interval."""
    return jnp.mean(weights * (jnp.abs(error) <= quantile * spread))


def spread_against_error(
    error: Float[Array, " cases"], spread: Float[Array, " cases"], bins: int
) -> tuple[Float[Array, " bins"], Float[Array, " bins"]]:
    """Root mean square of spread and of error in bins of equal count, ordered by spread."""
    order = jnp.argsort(spread)
    usable = len(spread) // bins * bins
    by_bin = order[:usable].reshape(bins, -1)
    return jnp.sqrt(jnp.mean(jnp.square(spread[by_bin]), 1)), jnp.sqrt(jnp.mean(jnp.square(error[by_bin]), 1))

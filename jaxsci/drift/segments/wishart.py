"""Vectors scattered about a level with correlations: normal with normal-inverse-Wishart prior."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int

from jaxsci.drift.segments.segment import Segment


class WishartStatistics(NamedTuple):
    """Sufficient statistics of a run of vectors with d components."""

    count: Int[Array, ""]
    mean: Float[Array, " d"]
    inverse: Float[Array, "d d"]
    """Inverse of the posterior scale matrix Psi."""
    log_determinant: Float[Array, ""]
    """log det Psi."""


class Wishart(Segment):
    """A multivariate normal segment with unknown mean and covariance (Murphy 2007, section 9).

    Prior: mean 0 with weight `kappa`, scale matrix `scale` times the identity, `dimensions + excess` degrees of
    freedom. Psi grows by one outer product a point, so its inverse and determinant follow in O(d^2)
    (Sherman-Morrison). In one dimension with excess = 2 alpha - 1 and scale = 2 beta it is `Gaussian`.
    """

    dimensions: int = eqx.field(static=True)
    kappa: Float[Array, ""] | float = 1.0
    scale: Float[Array, ""] | float = 2.0
    excess: Float[Array, ""] | float = 1.0

    def empty(self) -> WishartStatistics:
        d = self.dimensions
        return WishartStatistics(
            jnp.zeros((), int),
            jnp.zeros(d),
            jnp.eye(d) / self.scale,
            d * jnp.log(jnp.asarray(self.scale, float)),
        )

    def log_predictive(self, statistics, z):
        """Student-t: degrees of freedom f = nu - d + 1, scale matrix Psi (k + 1) / (k f)."""
        d, kappa = self.dimensions, self.kappa + statistics.count
        freedom = self.excess + statistics.count + 1
        error = z - statistics.mean
        distance = error @ statistics.inverse @ error * kappa / (kappa + 1)
        return (
            gammaln((freedom + d) / 2)
            - gammaln(freedom / 2)
            - 0.5 * (d * jnp.log(jnp.pi * (kappa + 1) / kappa) + statistics.log_determinant)
            - 0.5 * (freedom + d) * jnp.log1p(distance)
        )

    def update(self, statistics, z):
        kappa = self.kappa + statistics.count
        error = z - statistics.mean
        weight = kappa / (kappa + 1)
        direction = statistics.inverse @ error
        grown = 1 + weight * error @ direction
        return WishartStatistics(
            statistics.count + 1,
            statistics.mean + error / (kappa + 1),
            statistics.inverse - weight / grown * jnp.outer(direction, direction),
            statistics.log_determinant + jnp.log(grown),
        )

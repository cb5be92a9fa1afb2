"""Points scattered about a level: normal with unknown mean and variance, normal-inverse-gamma prior."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int

from jaxsci.drift.segments.segment import Segment


class GaussianStatistics(NamedTuple):
    """Sufficient statistics of a run: the normal-inverse-gamma posterior."""

    count: Int[Array, ""]
    """Points in the run."""
    mean: Float[Array, ""]
    """Posterior mean of the level."""
    beta: Float[Array, ""]
    """Posterior scale of the variance."""


class Gaussian(Segment):
    """A univariate normal segment.

        k' = k + 1,  a' = a + 1/2,  m' = (k m + x) / (k + 1),  b' = b + k (x - m)^2 / (2 (k + 1))

    and the next point is Student-t with 2a degrees of freedom, location m and squared scale b (k + 1) / (a k).
    k and a depend on the number of points only, so `prepare` computes their gamma functions once. The defaults are
    those of the R package ocp, for standardised series.
    """

    mean: Float[Array, ""] | float = 0.0
    kappa: Float[Array, ""] | float = 1.0
    alpha: Float[Array, ""] | float = 1.0
    beta: Float[Array, ""] | float = 1.0
    table: Float[Array, " n"] | None = None

    def prepare(self, capacity: int) -> "Gaussian":
        _, alpha = self._at(jnp.arange(capacity + 1))
        return Gaussian(self.mean, self.kappa, self.alpha, self.beta, log_normaliser(alpha))

    def empty(self) -> GaussianStatistics:
        return GaussianStatistics(jnp.zeros((), int), jnp.asarray(self.mean, float), jnp.asarray(self.beta, float))

    def log_predictive(self, statistics, z):
        kappa, alpha = self._at(statistics.count)
        constant = log_normaliser(alpha) if self.table is None else self.table[statistics.count]
        spread = 2 * statistics.beta * (kappa + 1) / kappa  # 2 alpha times the squared scale
        return constant - 0.5 * jnp.log(spread) - (alpha + 0.5) * jnp.log1p((z[0] - statistics.mean) ** 2 / spread)

    def update(self, statistics, z):
        kappa, _ = self._at(statistics.count)
        error = z[0] - statistics.mean
        return GaussianStatistics(
            statistics.count + 1,
            statistics.mean + error / (kappa + 1),
            statistics.beta + kappa * error**2 / (2 * (kappa + 1)),
        )

    def _at(self, count):
        """kappa and alpha after `count` points."""
        return self.kappa + count, self.alpha + 0.5 * count


def log_normaliser(alpha):
    """The part of a Student-t log density with 2 alpha degrees of freedom that depends on alpha alone."""
    return gammaln(alpha + 0.5) - gammaln(alpha) - 0.5 * jnp.log(jnp.pi)

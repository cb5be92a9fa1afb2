"""Counts at a rate: Poisson with gamma prior."""

from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from jaxsci.drift.segments.segment import Segment


class PoissonStatistics(NamedTuple):
    """Sufficient statistics of a run: the gamma posterior of the rate."""

    shape: Float[Array, ""]
    """a: prior shape plus the sum of the counts."""
    rate: Float[Array, ""]
    """b: prior rate plus the number of points."""


class Poisson(Segment):
    """Counts of a constant rate; the next one is negative binomial with size a and probability b / (b + 1)."""

    shape: Float[Array, ""] | float = 1.0
    rate: Float[Array, ""] | float = 1.0

    def empty(self) -> PoissonStatistics:
        return PoissonStatistics(jnp.asarray(self.shape, float), jnp.asarray(self.rate, float))

    def log_predictive(self, statistics, z):
        (a, b), x = statistics, z[0]
        return gammaln(a + x) - gammaln(a) - gammaln(x + 1) - a * jnp.log1p(1 / b) - x * jnp.log1p(b)

    def update(self, statistics, z):
        return PoissonStatistics(statistics.shape + z[0], statistics.rate + 1)

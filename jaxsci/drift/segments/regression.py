"""Segments in which a linear law holds: a change is then a change of the law, not of the values it is fed with.

All share one recursion, Bayesian linear regression with normal-inverse-gamma prior in the form of recursive least
squares: with covariance P (relative to the noise), mean m and features phi,

    g = P phi,  s = 1/w + phi g,  e = y - m phi
    m' = m + g e / s,  P' = P - g g^T / s,  a' = a + 1/2,  b' = b + e^2 / (2 s)

and y is Student-t with 2a degrees of freedom, location m phi and squared scale b s / a. The weight w is 1, or less for
an outlier where `degrees` asks for robustness.
"""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsci.drift.segments.gaussian import log_normaliser
from jaxsci.drift.segments.segment import Segment


class RegressionStatistics(NamedTuple):
    """Sufficient statistics of a run: posterior mean and covariance of q coefficients, and scale `beta` of the noise
    variance.
    """

    count: Int[Array, ""]
    mean: Float[Array, " q"]
    covariance: Float[Array, "q q"]
    """Of the coefficients, in units of the noise variance."""
    beta: Float[Array, ""]


class Regression(Segment):
    """y regressed on an intercept and x within a segment; a point is `[x, y]`.

    `precision` is the prior precision of the coefficients of x, `intercept_precision` that of the intercept; both are
    relative to the noise, as is every coefficient. With finite `degrees`, a point whose error is e scales beyond what
    was predicted counts with weight (degrees + 1) / (degrees + e^2): one step of the EM algorithm for Student-t noise
    (Lange, Little & Taylor 1989), approximate because earlier weights are not revised.
    """

    inputs: int = eqx.field(static=True)
    precision: Float[Array, ""] | float = 1.0
    intercept_precision: Float[Array, ""] | float = 1.0
    alpha: Float[Array, ""] | float = 1.0
    beta: Float[Array, ""] | float = 1.0
    degrees: Float[Array, ""] | float = jnp.inf
    table: Float[Array, " n"] | None = None

    def prepare(self, capacity: int):
        alpha = self.alpha + 0.5 * jnp.arange(capacity + 1)
        table = log_normaliser(alpha)
        return eqx.tree_at(lambda m: m.table, self, table, is_leaf=lambda leaf: leaf is None)

    def design(self, count: Int[Array, ""], z: Float[Array, " z"]) -> tuple[Float[Array, " q"], Float[Array, ""]]:
        """Features and target of a point that finds `count` points in its run."""
        return jnp.concatenate([jnp.ones(1, z.dtype), z[:-1]]), z[-1]

    def prior_mean(self) -> Float[Array, " q"]:
        return jnp.zeros(self.inputs + 1)

    def empty(self) -> RegressionStatistics:
        ones = jnp.ones(self.inputs)
        precision = jnp.concatenate([self.intercept_precision * jnp.ones(1), self.precision * ones])
        return RegressionStatistics(
            jnp.zeros((), int), self.prior_mean(), jnp.diag(1 / precision), jnp.asarray(self.beta, float)
        )

    def log_predictive(self, statistics, z):
        features, y = self.design(statistics.count, z)
        alpha = self.alpha + 0.5 * statistics.count
        constant = log_normaliser(alpha) if self.table is None else self.table[statistics.count]
        spread = 2 * statistics.beta * (1 + features @ statistics.covariance @ features)
        error = y - statistics.mean @ features
        return constant - 0.5 * jnp.log(spread) - (alpha + 0.5) * jnp.log1p(error**2 / spread)

    def update(self, statistics, z):
        features, y = self.design(statistics.count, z)
        alpha = self.alpha + 0.5 * statistics.count
        gain = statistics.covariance @ features
        uncertain = features @ gain
        error = y - statistics.mean @ features
        spread = 1 / self._weight(error**2 * alpha / (statistics.beta * (1 + uncertain))) + uncertain
        return RegressionStatistics(
            statistics.count + 1,
            statistics.mean + gain * error / spread,
            statistics.covariance - jnp.outer(gain, gain) / spread,
            statistics.beta + error**2 / (2 * spread),
        )

    def _weight(self, squared: Float[Array, ""]) -> Float[Array, ""]:
        """Of a point whose squared error is `squared` predicted variances; 1 / (1 + s/nu) (1 + 1/nu), at most 1."""
        return jnp.minimum((1 + 1 / self.degrees) / (1 + squared / self.degrees), 1.0)


class Level(Regression):
    """Points about a level. With infinite `degrees` it is `Gaussian`; with few, robust against outliers."""

    inputs: int = eqx.field(static=True, default=0)

    def design(self, count, z):
        return jnp.ones(1, z.dtype), z[0]


class Trend(Regression):
    """Points about a straight line that starts with the segment; the slope is per `width` points."""

    inputs: int = eqx.field(static=True, default=1)
    width: float = eqx.field(static=True, default=100.0)

    def design(self, count, z):
        return jnp.stack([jnp.ones((), z.dtype), count / self.width]).astype(z.dtype), z[0]


class Autoregressive(Regression):
    """AR(p): a point is regressed on the `inputs` points before it, whichever segment they belong to.

    The prior mean of the first lag's coefficient is `persistence`. A missing value is replaced, as a lag, by the last
    one known; lags before the first known value, by that value.
    """

    inputs: int = eqx.field(static=True, default=1)
    persistence: Float[Array, ""] | float = 0.0

    def memory(self):
        return jnp.full(self.inputs, jnp.nan)

    def observe(self, memory, x, known):
        lags = jnp.where(jnp.isnan(memory) & known[0], x[0], memory).astype(memory.dtype)
        last = jnp.where(known[0], x[0], lags[0]).astype(memory.dtype)
        safe = jnp.where(jnp.isnan(lags), 0.0, lags)  # no value is known yet, so this point counts for nothing
        return jnp.concatenate([last[None], lags[:-1]]), jnp.concatenate([safe.astype(x.dtype), x[:1]])

    def prior_mean(self):
        return jnp.zeros(self.inputs + 1).at[1].set(self.persistence)

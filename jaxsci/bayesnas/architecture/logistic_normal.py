"""The softmax of Gaussian logits: the cheapest true density on the simplex."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxsci.bayesnas.architecture.base import ArchitectureDistribution


class LogisticNormal(ArchitectureDistribution):
    """Rows softmax(mean + exp(log_std) * normal); prior standard normal logits.

    `kl` is that of the logits, which bounds that of the rows from above: the softmax forgets a common shift. A discrete
    choice is categorical given a row; `probabilities` integrates over rows approximately (MacKay's scaling of the
    logits by 1 / sqrt(1 + pi var / 8), doi:10.1162/neco.1992.4.5.720).
    """

    mean: Float[Array, "decisions ops"]
    log_std: Float[Array, "decisions ops"]
    reparameterised: ClassVar[bool] = True

    @classmethod
    def init(cls, decisions: int, ops: int, *, key: Key[Array, ""], scale: float = 1e-2):
        return cls(scale * jax.random.normal(key, (decisions, ops)), jnp.zeros((decisions, ops)))

    def rsample(self, temperature: float | Array = 1.0, *, key: Key[Array, ""]) -> Float[Array, "decisions ops"]:
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return jax.nn.softmax(self.mean + jnp.exp(self.log_std) * noise)

    def log_prob(self, z: Float[Array, "decisions ops"]) -> Float[Array, ""]:
        """Aitchison and Shen's density (doi:10.1093/biomet/67.2.261): log ratios to the last part are Gaussian."""
        variance = jnp.exp(2 * self.log_std)
        ratios = jnp.log(z[:, :-1]) - jnp.log(z[:, -1:])
        means = self.mean[:, :-1] - self.mean[:, -1:]
        covariance = jax.vmap(jnp.diag)(variance[:, :-1]) + variance[:, -1][:, None, None]
        rows = jax.scipy.stats.multivariate_normal.logpdf(ratios, means, covariance)
        return jnp.sum(rows) - jnp.sum(jnp.log(z))

    def kl(self) -> Float[Array, ""]:
        variance = jnp.exp(2 * self.log_std)
        return 0.5 * jnp.sum(variance + self.mean**2 - 1 - 2 * self.log_std)

    def probabilities(self) -> Float[Array, "decisions ops"]:
        return jax.nn.softmax(self.mean / jnp.sqrt(1 + jnp.pi / 8 * jnp.exp(2 * self.log_std)))

"""What a distribution over architectures can do."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


class ArchitectureDistribution(eqx.Module):
    """Independent decisions; its array leaves are what search learns.

    `rsample` gives relaxed architectures (rows on the simplex) through which gradients flow; `sample_discrete` and
    `mode` give choices; `probabilities`, `entropy` and `sample_discrete` speak of the same discrete distribution.
    Where no reparameterisation exists (`reparameterised` false) gradients come from `log_prob` and a baseline.
    """

    reparameterised: eqx.AbstractClassVar[bool]

    def rsample(self, temperature: float | Array = 1.0, *, key: Key[Array, ""]) -> Float[Array, "decisions ops"]:
        """One relaxed architecture. Distributions with a density of their own on the simplex ignore `temperature`."""
        raise NotImplementedError

    def log_prob(self, z: Float[Array, "decisions ops"]) -> Float[Array, ""]:
        """Log density of `z` (log probability, for a one-hot `z` of a discrete distribution), over all decisions."""
        raise NotImplementedError

    def kl(self) -> Float[Array, ""]:
        """Divergence from the prior, in nats, over all decisions."""
        raise NotImplementedError

    def probabilities(self) -> Float[Array, "decisions ops"]:
        """Probability of each operation in a discrete draw."""
        raise NotImplementedError

    def sample_discrete(self, *, key: Key[Array, ""]) -> Int[Array, " decisions"]:
        """One architecture as choices."""
        return jax.random.categorical(key, jnp.log(self.probabilities()), axis=-1)

    def mode(self) -> Int[Array, " decisions"]:
        """The most probable architecture."""
        return jnp.argmax(self.probabilities(), axis=-1)

    def entropy(self) -> Float[Array, ""]:
        """Entropy of the discrete distribution in nats: at most decisions x log(ops)."""
        return jnp.sum(jax.scipy.special.entr(self.probabilities()))


def skip_mass(probabilities: Float[Array, "decisions ops"], parameter_free: Sequence[int]) -> Float[Array, ""]:
    """Mean probability of the operations without weights: search that collapses onto them is not to be trusted."""
    return jnp.mean(jnp.sum(probabilities[:, jnp.asarray(parameter_free)], axis=-1))

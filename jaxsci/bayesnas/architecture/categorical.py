"""Discrete choices: with the Gumbel-softmax relaxation, or with the score function."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxsci.bayesnas.architecture.base import ArchitectureDistribution


class Categorical(ArchitectureDistribution):
    """Operation probabilities softmax(logits) per decision, prior uniform. Gradients by score function and baseline."""

    logits: Float[Array, "decisions ops"]
    reparameterised: ClassVar[bool] = False

    @classmethod
    def init(cls, decisions: int, ops: int, *, key: Key[Array, ""], scale: float = 1e-2):
        """Almost uniform: logits of standard deviation `scale`."""
        return cls(scale * jax.random.normal(key, (decisions, ops)))

    def rsample(self, temperature: float | Array = 1.0, *, key: Key[Array, ""]) -> Float[Array, "decisions ops"]:
        """A one-hot draw: no gradient flows to the logits."""
        return jax.nn.one_hot(self.sample_discrete(key=key), self.logits.shape[-1])

    def log_prob(self, z: Float[Array, "decisions ops"]) -> Float[Array, ""]:
        return jnp.sum(z * jax.nn.log_softmax(self.logits))

    def kl(self) -> Float[Array, ""]:
        decisions, ops = self.logits.shape
        return decisions * jnp.log(float(ops)) - self.entropy()

    def probabilities(self) -> Float[Array, "decisions ops"]:
        return jax.nn.softmax(self.logits)

    def entropy(self) -> Float[Array, ""]:
        log = jax.nn.log_softmax(self.logits)
        return -jnp.sum(jnp.exp(log) * log)


class Concrete(Categorical):
    """The same distribution, relaxed to softmax((logits + Gumbel noise) / temperature).

    Maddison et al., arXiv:1611.00712; Jang et al., arXiv:1611.01144. The gradient is biased by an amount that vanishes
    with the temperature while its variance grows (`estimators` measures both). `kl` is that of the discrete choice, in
    closed form; `log_prob` likewise.
    """

    reparameterised: ClassVar[bool] = True

    def rsample(self, temperature: float | Array = 1.0, *, key: Key[Array, ""]) -> Float[Array, "decisions ops"]:
        gumbel = jax.random.gumbel(key, self.logits.shape, self.logits.dtype)
        return jax.nn.softmax((self.logits + gumbel) / temperature)

"""Dirichlet rows on the simplex, drawn without a loop whose length depends on the draw."""

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln, xlogy
from jaxtyping import Array, Float, Key

from jaxsci.bayesnas.architecture.base import ArchitectureDistribution

LEAST_CONCENTRATION = 0.05
BOOST, PROPOSALS = 8, 8


class DirichletArchitecture(ArchitectureDistribution):
    """Concentration max(elu(beta) + 1, 0.05) per decision and operation, prior Dirichlet(1).

    The parametrisation of DrNAS, arXiv:2006.10355, with a floor: below about 0.01 the gradient of a draw is biased in
    float32. A discrete choice is categorical given a draw; its probability is concentration / sum.
    """

    beta: Float[Array, "decisions ops"]
    reparameterised: ClassVar[bool] = True

    @classmethod
    def init(cls, decisions: int, ops: int, *, key: Key[Array, ""], scale: float = 1e-3):
        return cls(scale * jax.random.normal(key, (decisions, ops)))

    @property
    def concentration(self) -> Float[Array, "decisions ops"]:
        return jnp.maximum(jax.nn.elu(self.beta) + 1, LEAST_CONCENTRATION)

    def rsample(self, temperature: float | Array = 1.0, *, key: Key[Array, ""]) -> Float[Array, "decisions ops"]:
        return jax.nn.softmax(log_gamma(self.concentration, key=key))

    def log_prob(self, z: Float[Array, "decisions ops"]) -> Float[Array, ""]:
        alpha = self.concentration
        normaliser = jnp.sum(gammaln(alpha)) - jnp.sum(gammaln(jnp.sum(alpha, axis=-1)))
        return jnp.sum(xlogy(alpha - 1, z)) - normaliser

    def kl(self) -> Float[Array, ""]:
        alpha = self.concentration
        total = jnp.sum(alpha, axis=-1)
        ops = alpha.shape[-1]
        rows = gammaln(total) - gammaln(float(ops)) - jnp.sum(gammaln(alpha), axis=-1)
        rows += jnp.sum((alpha - 1) * (digamma(alpha) - digamma(total)[:, None]), axis=-1)
        return jnp.sum(rows)

    def probabilities(self) -> Float[Array, "decisions ops"]:
        alpha = self.concentration
        return alpha / jnp.sum(alpha, axis=-1, keepdims=True)


def log_gamma(shape: Float[Array, "*dims"], *, key: Key[Array, ""]) -> Float[Array, "*dims"]:
    """Logarithms of Gamma(shape, 1) draws whose gradient with respect to `shape` is that of the draw.

    Marsaglia and Tsang's rejection sampler (doi:10.1145/358407.358414) at shape + 8, where it accepts 99.8 % of
    proposals, so the first accepted of 8 is exact up to a probability of 1e-21; then eight uniforms bring the shape
    down (x_a = x_{a+1} u^{1/a}). Differentiating through the accepted proposal neglects a term that vanishes with the
    acceptance (Naesseth et al., arXiv:1610.05683). `jax.random.gamma` rejects in a loop of unknown length and has been
    reported to hang inside `grad` on GPUs (jax issue 21352); here every array has a fixed size.
    """
    normals, uniforms, lowering = jax.random.split(key, 3)
    d = shape + BOOST - 1 / 3
    c = 1 / jnp.sqrt(9 * d)
    x = jax.random.normal(normals, (PROPOSALS, *shape.shape), shape.dtype)
    u = jax.random.uniform(uniforms, x.shape, shape.dtype, minval=jnp.finfo(shape.dtype).tiny)
    cubed = jnp.maximum(1 + c * x, 1e-6) ** 3  # non-positive ones are rejected below
    accepted = (1 + c * x > 0) & (jnp.log(u) < 0.5 * x**2 + d - d * cubed + d * jnp.log(cubed))
    first = jnp.argmax(accepted, axis=0)
    chosen = jnp.take_along_axis(x, first[None], axis=0)[0]
    log_draw = jnp.log(d) + 3 * jnp.log1p(jax.lax.stop_gradient(chosen) * c)
    steps = jnp.arange(BOOST, dtype=shape.dtype).reshape(-1, *(1,) * shape.ndim)
    v = jax.random.uniform(lowering, (BOOST, *shape.shape), shape.dtype, minval=jnp.finfo(shape.dtype).tiny)
    return log_draw + jnp.sum(jnp.log(v) / (shape + steps), axis=0)

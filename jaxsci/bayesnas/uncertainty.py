"""Where doubt comes from: the architecture, the weights, or the data themselves."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.bayesnas.anova import nested_components
from jaxsci.bayesnas.ensemble import Nested, mixture


class Split(NamedTuple):
    """`total` = `architecture` + `weights` + `aleatoric`, exactly, for every example; each term is 0 or more."""

    total: Float[Array, " examples"]
    architecture: Float[Array, " examples"]
    weights: Float[Array, " examples"]
    aleatoric: Float[Array, " examples"]


def entropy(p: Float[Array, "*batch classes"]) -> Float[Array, "*batch"]:
    """In nats; 0 log 0 = 0."""
    return jnp.sum(jax.scipy.special.entr(p), axis=-1)


def entropy_split(p: Nested) -> Split:
    """H[mean p] = I(y; architecture) + I(y; weights | architecture) + E H[p], in nats (Houlsby et al., arXiv:1112.5745,
    applied twice). Plug-in values: finite ensembles inflate the first two, and no correction in closed form exists.
    """
    by_architecture = jnp.mean(p.values, axis=(1, 2))
    total = entropy(mixture(p))
    given_architecture = p.weights @ entropy(by_architecture)
    aleatoric = p.weights @ jnp.mean(entropy(p.values), axis=(1, 2))
    return Split(total, total - given_architecture, given_architecture - aleatoric, aleatoric)


class QuadraticSplit(NamedTuple):
    """The split of 1 - sum of squared probabilities, a sum of variances: the correction for finite A, R, S is exact.

    `corrected_*` are unbiased and may be negative for single examples. `total` is plug-in.
    """

    total: Float[Array, " examples"]
    architecture: Float[Array, " examples"]
    weights: Float[Array, " examples"]
    aleatoric: Float[Array, " examples"]
    corrected_architecture: Float[Array, " examples"]
    corrected_weights: Float[Array, " examples"]


def quadratic_split(p: Nested) -> QuadraticSplit:
    """For architectures of equal weight. Raises `ConfigError` for a single restart, see `anova.nested_components`."""
    components = nested_components(p.values)
    quadratic = lambda p: 1 - jnp.sum(jnp.square(p), axis=-1)  # noqa: E731
    summed = lambda a: jnp.sum(a, axis=-1)  # noqa: E731
    return QuadraticSplit(
        quadratic(mixture(p)),
        summed(components.plug_in_architecture),
        summed(components.plug_in_weights),
        jnp.mean(quadratic(p.values), axis=(0, 1, 2)),
        summed(components.architecture),
        summed(components.restart + components.sample),
    )


def variance_split(mean: Nested, variance: Nested) -> Split:
    """Regression: Var y = Var_a E_w mean + E_a Var_w mean + E variance (law of total variance, weights in every term).

    `mean` and `variance` of each member's predictive normal; one output, which the result drops.
    """
    by_architecture = jnp.mean(mean.values, axis=(1, 2))[..., 0]
    overall = mean.weights @ by_architecture
    architecture = mean.weights @ jnp.square(by_architecture - overall)
    weights = mean.weights @ jnp.var(mean.values, axis=(1, 2))[..., 0]
    aleatoric = mean.weights @ jnp.mean(variance.values, axis=(1, 2))[..., 0]
    return Split(architecture + weights + aleatoric, architecture, weights, aleatoric)

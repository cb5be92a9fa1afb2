"""Predictions of an ensemble of A architectures x R restarts x S weight samples, each with its weight."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxsci.bayesnas.architecture import ArchitectureDistribution


class Nested(NamedTuple):
    """Predictions by architecture, restart and sample, and the weight of each architecture (sums to one)."""

    values: Float[Array, "architectures restarts samples examples outputs"]
    weights: Float[Array, " architectures"]


def nested(outputs: Float[Array, "members samples examples outputs"], architectures: int) -> Nested:
    """Members in the order (architecture, restart) as a nested ensemble of equal weights, as independent draws have."""
    members, *rest = outputs.shape
    return Nested(
        outputs.reshape(architectures, members // architectures, *rest), jnp.full(architectures, 1 / architectures)
    )


def mixture(p: Nested) -> Float[Array, "examples outputs"]:
    """p(y | x) = sum over architectures of weight x mean over restarts and samples. Of probabilities, never logits."""
    return jnp.tensordot(p.weights, jnp.mean(p.values, axis=(1, 2)), axes=1)


def weighted_mixture(
    p: Float[Array, "candidates examples classes"], weights: Float[Array, " candidates"]
) -> Float[Array, "examples classes"]:
    """The same for a flat list of candidates, such as `selection` weighs."""
    return jnp.tensordot(weights, p, axes=1)


def draw_architectures(
    q: ArchitectureDistribution, count: int, restarts: int, *, key: Key[Array, ""]
) -> tuple[Int[Array, "members decisions"], Key[Array, " members"]]:
    """`count` independent draws from q, each repeated `restarts` times, and a key for every member.

    Independent draws have equal weights: weighting them by q again would count it twice. Architecture and restart are
    numbered in the key, so adding more changes none of the earlier ones.
    """
    number = jnp.arange(count)
    choices = jax.vmap(lambda a: q.sample_discrete(key=jax.random.fold_in(jax.random.fold_in(key, 0), a)))(number)
    members = jnp.repeat(choices, restarts, axis=0)
    keys = jax.vmap(lambda m: jax.random.fold_in(jax.random.fold_in(key, 1), m))(jnp.arange(count * restarts))
    return members, keys

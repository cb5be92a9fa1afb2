"""Predictions of an ensemble of A architectures x R restarts x S weight samples, each with its weight."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxsci.bayesnas.space import Space, require_connected

ATTEMPTS = 64


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
    space: Space, probabilities: Float[Array, "decisions ops"], count: int, *, key: Key[Array, ""]
) -> Int[np.ndarray, "count decisions"]:
    """`count` independent draws, conditioned on an output that depends on the input.

    Independent draws have equal weights: weighting them by their probability again would count it twice. Draw number
    a comes from `fold_in(key, a)`, so adding more changes none of the earlier ones. Raises `ConfigError` where hardly
    any architecture is connected.
    """
    log = jnp.log(probabilities)
    draws = []
    for number in range(count):
        tried = jax.random.categorical(jax.random.fold_in(key, number), log, shape=(ATTEMPTS, len(log)))
        connected = [choice for choice in np.asarray(tried) if space.connected(choice)]
        require_connected(space, [connected[0] if connected else np.asarray(tried)[0]])
        draws.append(connected[0])
    return np.stack(draws)


def best_architecture(
    space: Space, probabilities: Float[Array, "decisions ops"], *, key: Key[Array, ""]
) -> Int[np.ndarray, " decisions"]:
    """The most probable architecture; where it is disconnected, the most probable connected one among many draws."""
    mode = np.asarray(jnp.argmax(probabilities, axis=-1))
    if space.connected(mode):
        return mode
    draws = draw_architectures(space, probabilities, ATTEMPTS, key=key)
    log = np.log(np.asarray(probabilities))
    return max(draws, key=lambda choice: log[np.arange(len(choice)), choice].sum())

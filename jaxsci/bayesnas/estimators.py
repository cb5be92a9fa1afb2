"""How far a sampled gradient is from the exact one: bias, spread and angle of each estimator on a tabular objective."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxsci.bayesnas.architecture import Categorical, Concrete, DirichletArchitecture
from jaxsci.bayesnas.oracle import expectation

Estimator = Callable[..., Float[Array, "decisions ops"]]
CHUNKS = 20


class Quality(NamedTuple):
    """Of an estimator g of an exact gradient G; norms are over all logits."""

    bias: Float[Array, ""]
    """|mean g - G| / |G|."""
    bias_standard_error: Float[Array, ""]
    """What an unbiased estimator of this spread would show as bias, with this many draws."""
    spread: Float[Array, ""]
    """Standard deviation of one draw, over |G|."""
    cosine: Float[Array, ""]
    """Between the mean of g and G."""


def measure(estimator: Estimator, exact: Float[Array, "decisions ops"], *, draws: int, key: Key[Array, ""]) -> Quality:
    """Average `estimator(key=...)` over `draws` independent keys, in chunks that fit memory."""
    size = max(1, draws // CHUNKS)

    def chunk(number: Array) -> tuple[Array, Array]:
        keys = jax.random.split(jax.random.fold_in(key, number), size)
        gradients = jax.vmap(lambda k: estimator(key=k))(keys)
        return jnp.mean(gradients, axis=0), jnp.mean(jnp.square(gradients), axis=0)

    means, squares = jax.lax.map(chunk, jnp.arange(CHUNKS))
    mean, square = jnp.mean(means, axis=0), jnp.mean(squares, axis=0)
    norm = jnp.linalg.norm(exact)
    spread = jnp.sqrt(jnp.sum(square - mean**2)) / norm
    cosine = jnp.sum(mean * exact) / jnp.linalg.norm(mean) / norm
    return Quality(jnp.linalg.norm(mean - exact) / norm, spread / jnp.sqrt(size * CHUNKS), spread, cosine)


def exact_gradient(accuracy: Array, logits: Float[Array, "decisions ops"]) -> Float[Array, "decisions ops"]:
    """Gradient of E[accuracy] with respect to the logits of independent categorical edges."""
    return jax.grad(lambda logits: expectation(accuracy, jax.nn.softmax(logits)))(logits)


def concrete_gradient(accuracy: Array, logits: Float[Array, "decisions ops"], temperature: float) -> Estimator:
    """Through a Gumbel-softmax draw, the table extended to the simplex by multilinearity."""

    def estimator(*, key: Key[Array, ""]) -> Array:
        value = lambda logits: expectation(accuracy, Concrete(logits).rsample(temperature, key=key))  # noqa: E731
        return jax.grad(value)(logits)

    return estimator


def score_gradient(accuracy: Array, logits: Float[Array, "decisions ops"], baseline: float) -> Estimator:
    """(accuracy of a discrete draw - baseline) x gradient of its log probability (REINFORCE): unbiased."""

    def estimator(*, key: Key[Array, ""]) -> Array:
        z = jax.lax.stop_gradient(Categorical(logits).rsample(key=key))
        reward = expectation(accuracy, z) - baseline
        return reward * jax.grad(lambda logits: Categorical(logits).log_prob(z))(logits)

    return estimator


def exact_dirichlet_gradient(accuracy: Array, beta: Float[Array, "decisions ops"]) -> Float[Array, "decisions ops"]:
    """Of E[accuracy] with respect to beta: rows are independent and the table multilinear, so only means enter."""
    return jax.grad(lambda beta: expectation(accuracy, DirichletArchitecture(beta).probabilities()))(beta)


def dirichlet_gradient(accuracy: Array, beta: Float[Array, "decisions ops"]) -> Estimator:
    """Through a Dirichlet draw."""

    def estimator(*, key: Key[Array, ""]) -> Array:
        return jax.grad(lambda beta: expectation(accuracy, DirichletArchitecture(beta).rsample(key=key)))(beta)

    return estimator

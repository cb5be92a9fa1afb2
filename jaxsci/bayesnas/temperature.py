"""One temperature for the pooled probabilities, fitted where neither weights nor architectures were."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsci.bayesnas.calibration import TINY, negative_log


def sharpen(p: Float[Array, "*batch classes"], temperature: float | Array) -> Float[Array, "*batch classes"]:
    """Probabilities to the power 1 / temperature, normalised: of a single network, its logits divided by it."""
    return jax.nn.softmax(jnp.log(jnp.maximum(p, TINY)) / temperature, axis=-1)


def fit_temperature(
    p: Float[Array, "examples classes"],
    y: Int[Array, " examples"],
    *,
    low: float = 0.2,
    high: float = 5.0,
    steps: int = 60,
) -> Float[Array, ""]:
    """The temperature of the smallest negative log-likelihood on a calibration set, by golden-section search.

    The objective has one minimum in log temperature (it is convex in 1 / temperature). Pool the members first: members
    sharpened one by one pool to something else.
    """
    golden = (jnp.sqrt(5.0) - 1) / 2

    def loss(log_temperature: Array) -> Array:
        return jnp.mean(negative_log(sharpen(p, jnp.exp(log_temperature)), y))

    def narrow(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        a, b = ends
        left, right = b - golden * (b - a), a + golden * (b - a)
        keep_left = loss(left) < loss(right)
        return jnp.where(keep_left, a, left), jnp.where(keep_left, right, b)

    a, b = jax.lax.fori_loop(0, steps, narrow, (jnp.log(jnp.float32(low)), jnp.log(jnp.float32(high))))
    return jnp.exp((a + b) / 2)

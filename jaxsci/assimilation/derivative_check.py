"""Is the gradient the gradient? Central differences and the Taylor remainder of a cost function."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Cost = Callable[[Float[Array, " n"]], Float[Array, ""]]


def gradient_relative_error(
    cost: Cost, point: Float[Array, " n"], *, key: PRNGKeyArray, directions: int = 8, step: float = 1e-4
) -> Float[Array, ""]:
    """Largest relative difference between `grad` and central differences along random unit directions."""
    along = jax.random.normal(key, (directions, len(point)), point.dtype)
    along = along / jnp.linalg.norm(along, axis=1, keepdims=True)
    exact = along @ jax.grad(cost)(point)
    approximate = jax.vmap(lambda d: (cost(point + step * d) - cost(point - step * d)) / (2 * step))(along)
    return jnp.max(jnp.abs(exact - approximate)) / jnp.max(jnp.abs(exact))


def taylor_remainders(
    cost: Cost, point: Float[Array, " n"], direction: Float[Array, " n"], steps: Float[Array, " steps"]
) -> Float[Array, " steps"]:
    """`|J(x + h d) - J(x) - h <grad J, d>|` for each `h`: falls as `h^2` for a right gradient of a curved cost."""
    value, slope = jax.jvp(cost, (point,), (direction,))
    return jax.vmap(lambda h: jnp.abs(cost(point + h * direction) - value - h * slope))(steps)

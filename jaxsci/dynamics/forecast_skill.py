"""How long a forecast of a chaotic system is worth something, and who survives on the attractor."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def relative_error(
    forecast: Float[Array, "*batch time n"], truth: Float[Array, "*truths time n"]
) -> Float[Array, "*batch time"]:
    """`|forecast - truth| / |truth|` in the 2-norm, state by state; infinite where the forecast is not finite."""
    error = jnp.linalg.norm(forecast - truth, axis=-1) / jnp.linalg.norm(truth, axis=-1)
    return jnp.where(jnp.isfinite(error), error, jnp.inf)


def correlation(
    forecast: Float[Array, "*batch time n"], truth: Float[Array, "*truths time n"]
) -> Float[Array, "*batch time"]:
    """Pearson correlation over space, state by state; -1 where the forecast is not finite."""
    a, b = (x - jnp.mean(x, axis=-1, keepdims=True) for x in (forecast, truth))
    product = jnp.linalg.norm(a, axis=-1) * jnp.linalg.norm(b, axis=-1)
    found = jnp.sum(a * b, axis=-1) / product
    return jnp.where(jnp.isfinite(found), found, -1.0)


def first_time(failed: Bool[Array, "*batch time"], dt: float) -> Float[Array, "*batch"]:
    """Time of the first failure, states lying at `dt, 2 dt, ..`; the whole span where there is none."""
    never = ~jnp.any(failed, axis=-1)
    return dt * jnp.where(never, failed.shape[-1], jnp.argmax(failed, axis=-1) + 1)


def valid_time(
    forecast: Float[Array, "*batch time n"], truth: Float[Array, "*truths time n"], dt: float, limit: float = 0.3
) -> Float[Array, "*batch"]:
    """Until the relative error first exceeds `limit`."""
    return first_time(relative_error(forecast, truth) > limit, dt)


def correlation_time(
    forecast: Float[Array, "*batch time n"], truth: Float[Array, "*truths time n"], dt: float, limit: float = 0.8
) -> Float[Array, "*batch"]:
    """Until the spatial correlation first falls below `limit`."""
    return first_time(correlation(forecast, truth) < limit, dt)


class Survival(NamedTuple):
    """What became of a trajectory whose energy was watched from a disturbed start."""

    bounded: Bool[Array, "*batch"]
    """Finite, and at or below the limit at all times after the time allowed for recovery."""
    recovery_time: Float[Array, "*batch"]
    """Time of the last excess over the limit, plus one sample; zero if there was none, infinite if at the end."""


def survival(energies: Float[Array, "*batch time"], limit: float, dt: float, allowed: float = 10.0) -> Survival:
    """Of energies at `dt, 2 dt, ..`: `limit` is an energy that the attractor never reaches, `allowed` a time."""
    over = ~(energies <= limit)  # NaN is over
    times = energies.shape[-1]
    last = jnp.where(jnp.any(over, axis=-1), times - jnp.argmax(over[..., ::-1], axis=-1), 0)
    late = jnp.arange(1, times + 1) * dt > allowed
    return Survival(~jnp.any(over & late, axis=-1), jnp.where(last == times, jnp.inf, dt * last))

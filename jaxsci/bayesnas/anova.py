"""Variance components of nested draws: architectures, restarts within them, samples within those."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.core.errors import ConfigError


class Components(NamedTuple):
    """Variances; the corrected ones are unbiased and may be negative: average over inputs before clipping."""

    architecture: Float[Array, "*rest"]
    restart: Float[Array, "*rest"]
    sample: Float[Array, "*rest"]
    plug_in_architecture: Float[Array, "*rest"]
    """Variance of the architectures' means: inflated by the other two."""
    plug_in_weights: Float[Array, "*rest"]
    """Mean variance within an architecture."""


def nested_components(t: Float[Array, "architectures restarts samples *rest"]) -> Components:
    """Balanced nested analysis of variance along the first three axes, for equal weights.

    With mean squares MS_A, MS_R, MS_S between architectures, restarts and samples,

        architecture (MS_A - MS_R) / (R S),   restart (MS_R - MS_S) / S,   sample MS_S.

    Searle, Casella, McCulloch, Variance Components, section 3.4. With one restart per architecture, architecture and
    initialisation cannot be told apart: raises `ConfigError`, as it does for one architecture.
    """
    a, r, s = t.shape[:3]
    if a < 2 or r < 2:
        raise ConfigError(
            f"restarts: expected 2 architectures and 2 restarts of each or more, got {a} and {r}; one run each "
            "confounds architecture with initialisation"
        )
    by_restart = jnp.mean(t, axis=2)
    by_architecture = jnp.mean(by_restart, axis=1)
    overall = jnp.mean(by_architecture, axis=0)
    ms_a = r * s / (a - 1) * jnp.sum(jnp.square(by_architecture - overall), axis=0)
    ms_r = s / (a * (r - 1)) * jnp.sum(jnp.square(by_restart - by_architecture[:, None]), axis=(0, 1))
    within = jnp.sum(jnp.square(t - by_restart[:, :, None]), axis=(0, 1, 2))
    ms_s = within / (a * r * (s - 1)) if s > 1 else jnp.zeros_like(overall)
    return Components(
        (ms_a - ms_r) / (r * s),
        (ms_r - ms_s) / s if s > 1 else ms_r,
        ms_s,
        jnp.var(by_architecture, axis=0),
        jnp.mean(jnp.var(t, axis=(1, 2)), axis=0),
    )


def one_way_component(t: Float[Array, "architectures restarts samples *rest"]) -> Float[Array, "*rest"]:
    """(MS between - MS within) / (R S), restarts and samples pooled: right only where they are exchangeable."""
    a, r, s = t.shape[:3]
    pooled = t.reshape(a, r * s, *t.shape[3:])
    means = jnp.mean(pooled, axis=1)
    between = r * s / (a - 1) * jnp.sum(jnp.square(means - jnp.mean(means, axis=0)), axis=0)
    within = jnp.sum(jnp.square(pooled - means[:, None]), axis=(0, 1)) / (a * (r * s - 1))
    return (between - within) / (r * s)

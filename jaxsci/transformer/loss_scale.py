"""Dynamic loss scaling: the factor that keeps float16 gradients representable.

Small gradients vanish below 6e-8 in float16, so the loss is multiplied before differentiation and the
gradients are divided after it. A step whose gradients overflowed is not taken (Micikevicius et al.
1710.03740).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

FIRST, LARGEST, PATIENCE = 2.0**15, 2.0**24, 1000


class LossScale(NamedTuple):
    """The factor, and the finite steps since it last changed."""

    value: Float[Array, ""]
    finite: Int[Array, ""]


class ScaledState(NamedTuple):
    """Optimizer state of a float16 run."""

    inner: PyTree
    scale: LossScale


def adjust(scale: LossScale, finite: Bool[Array, ""]) -> LossScale:
    """Halve after a step that overflowed, double after `PATIENCE` that did not."""
    grown = (scale.finite + 1 >= PATIENCE) & finite
    value = jnp.where(grown, jnp.minimum(scale.value * 2, LARGEST), scale.value)
    value = jnp.where(finite, value, jnp.maximum(scale.value / 2, 1.0))
    return LossScale(value, jnp.where(finite & ~grown, scale.finite + 1, 0))


def skip_overflow(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optimizer` that leaves parameters and its own state alone when a gradient is not finite."""

    def init(params: PyTree) -> ScaledState:
        return ScaledState(optimizer.init(params), LossScale(jnp.float32(FIRST), jnp.int32(0)))

    def update(updates: PyTree, state: Any, params: PyTree | None = None):
        finite = jnp.isfinite(optax.tree.norm(updates))
        changes, inner = optimizer.update(updates, state.inner, params)
        changes = jax.tree.map(lambda a: jnp.where(finite, a, 0), changes)
        inner = jax.tree.map(lambda new, old: jnp.where(finite, new, old), inner, state.inner)
        return changes, ScaledState(inner, adjust(state.scale, finite))

    return optax.GradientTransformation(init, update)

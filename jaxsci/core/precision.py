"""Numerical precision as one config key: `float32`, `float64` or `bfloat16`."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxsci.core.errors import ConfigError, did_you_mean

Precision = Literal["float32", "float64", "bfloat16"]


def apply_precision(precision: Precision) -> None:
    """Set JAX's 64-bit mode: on for `float64`, off otherwise. Call it before any array is made.

    `bfloat16` means mixed precision: parameters and optimizer state stay `float32`, and the model casts what
    it computes with (`cast_floating(params, compute_dtype(precision))`). How accelerators round `float32`
    matrix products (TF32 and the like) remains with `jax_default_matmul_precision`.
    """
    jax.config.update("jax_enable_x64", _known(precision) == "float64")


def compute_dtype(precision: Precision) -> jnp.dtype:
    """The dtype that a model computes in."""
    return jnp.dtype(_known(precision))


def param_dtype(precision: Precision) -> jnp.dtype:
    """The dtype of parameters: `float32` under `bfloat16`, in which small updates would round to nothing."""
    return jnp.dtype("float32" if _known(precision) == "bfloat16" else precision)


def cast_floating(tree: PyTree, dtype: jnp.dtype) -> PyTree:
    """Cast the real floating-point leaves of `tree` to `dtype`; leaves of any other kind pass."""

    def cast(leaf):
        leaf = jnp.asarray(leaf)
        return leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(cast, tree)


def _known(precision: str) -> str:
    known = get_args(Precision)
    if precision not in known:
        raise ConfigError(
            f"precision: expected one of {', '.join(known)}, got '{precision}'{did_you_mean(precision, known)}"
        )
    return precision

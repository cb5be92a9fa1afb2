"""The precision key: what it switches, what it casts."""

import jax
import jax.numpy as jnp
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.core.precision import apply_precision, cast_floating, compute_dtype, param_dtype


@pytest.fixture
def keep_x64():
    before = jax.config.read("jax_enable_x64")
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.mark.parametrize(
    ("precision", "compute", "kept", "default"),
    [
        ("float32", "float32", "float32", "float32"),
        ("float64", "float64", "float64", "float64"),
        ("bfloat16", "bfloat16", "float32", "float32"),
    ],
)
def test_dtypes(keep_x64, precision, compute, kept, default):
    apply_precision(precision)
    assert (compute_dtype(precision), param_dtype(precision)) == (jnp.dtype(compute), jnp.dtype(kept))
    assert jnp.ones(2).dtype == default
    assert jnp.ones(2, param_dtype(precision)).dtype == kept


def test_float64_resolves_what_float32_cannot(keep_x64):
    apply_precision("float64")
    assert jnp.asarray(1.0) + 1e-12 != 1.0
    apply_precision("float32")  # the next run of a multirun
    assert jnp.asarray(1.0) + 1e-12 == 1.0


def test_cast_floating_leaves_the_rest_alone():
    tree = {"x": jnp.ones(2), "n": jnp.arange(3), "z": jnp.ones(1, jnp.complex64), "key": jax.random.key(0)}
    cast = cast_floating(tree, compute_dtype("bfloat16"))
    assert cast["x"].dtype == jnp.bfloat16
    assert all(cast[name].dtype == tree[name].dtype for name in ("n", "z", "key"))


def test_unknown_precision():
    with pytest.raises(ConfigError, match="got 'float46'; did you mean 'float64'?"):
        apply_precision("float46")  # pyright: ignore[reportArgumentType]

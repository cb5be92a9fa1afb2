"""Ensembles: sharded over eight devices equals unsharded, member by member."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxsci.core.ensemble import ensemble, init_ensemble
from jaxsci.core.errors import ConfigError
from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.core.rollout import rollout


def init(*, key):
    first, second = jax.random.split(key)
    return {"w": jax.random.normal(first, (3, 5)), "b": jax.random.normal(second, (5,))}


def predict(params, x):
    step = lambda u: jnp.tanh(u @ params["w"] @ params["w"].T)  # noqa: E731
    return {"y": rollout(step, 4)(x)[-1] @ params["w"] + params["b"]}


X = jnp.linspace(-1, 1, 6).reshape(2, 3)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(data=1, member=8))


def test_sharded_equals_unsharded_equals_one_by_one(mesh):
    params = init_ensemble(init, 16, key=jax.random.key(0))
    plain = ensemble(predict, in_axes=(0, None))(params, X)["y"]
    sharded = jax.jit(ensemble(predict, in_axes=(0, None), mesh=mesh))(params, X)["y"]
    one_by_one = [predict(jax.tree.map(lambda leaf, i=i: leaf[i], params), X)["y"] for i in range(16)]
    assert plain.shape == (16, 2, 5)
    # float32 products of batches of 16, 2 and 1, summed in other orders
    np.testing.assert_allclose(sharded, plain, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(plain, np.stack(one_by_one), rtol=1e-5, atol=1e-6)
    assert sharded.sharding.is_equivalent_to(NamedSharding(mesh, PartitionSpec("member")), 3)


def test_every_device_computes_its_own_members_and_none_communicates(mesh):
    params = init_ensemble(init, 16, key=jax.random.key(0), mesh=mesh)
    text = jax.jit(ensemble(predict, in_axes=(0, None), mesh=mesh)).lower(params, X).compile().as_text()
    assert text
    assert not any(word in text for word in ("all-gather", "all-reduce", "all-to-all", "collective-permute"))


@pytest.mark.usefixtures("x64")  # in single precision the steep tanh lets rounding grow
def test_gradient_of_shared_and_own_arguments(mesh):
    params, x = init_ensemble(init, 8, key=jax.random.key(0)), X.astype(jnp.float64)

    def total(params, x, mesh):
        return jnp.sum(ensemble(predict, in_axes=(0, None), mesh=mesh)(params, x)["y"] ** 2)

    plain = jax.grad(total, argnums=(0, 1))(params, x, None)
    sharded = jax.grad(total, argnums=(0, 1))(params, x, mesh)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(sharded), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)  # sums over members in another order


def test_members_depend_on_key_and_index_only(mesh):
    few = init_ensemble(init, 8, key=jax.random.key(3))
    many = init_ensemble(init, 16, key=jax.random.key(3), mesh=mesh)
    assert jax.tree.all(jax.tree.map(lambda a, b: jnp.array_equal(a, b[:8]), few, many))
    assert len(np.unique(np.asarray(many["b"]))) == many["b"].size


def test_other_member_axes(mesh):
    x = jnp.arange(48.0).reshape(2, 8, 3)
    add = lambda x, pair: x + pair["a"] * pair["b"]  # noqa: E731
    pair = {"a": jnp.arange(8.0), "b": jnp.float32(2)}
    axes = (1, {"a": 0, "b": None})
    plain, sharded = ensemble(add, in_axes=axes)(x, pair), ensemble(add, in_axes=axes, mesh=mesh)(x, pair)
    assert plain.shape == (8, 2, 3)
    np.testing.assert_array_equal(plain, sharded)


def test_members_that_do_not_divide(mesh):
    with pytest.raises(ConfigError, match="12 members do not divide among mesh.member=8"):
        ensemble(jnp.sin, mesh=mesh)(jnp.ones(12))


def test_mesh_without_members_is_no_mesh():
    devices = jax.devices()[:1]
    mesh = jax.make_mesh((1,), ("data",), devices=devices)
    np.testing.assert_array_equal(ensemble(jnp.negative, mesh=mesh)(jnp.ones(3)), -np.ones(3))

"""The mesh constructor: shapes, order of devices, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from jaxsci.core.errors import ConfigError
from jaxsci.core.mesh import AXES, MeshConfig, make_mesh, replicate


def test_one_axis_takes_what_is_left():
    mesh = make_mesh(MeshConfig(data=-1, tensor=2))
    assert dict(mesh.shape) == {"member": 1, "data": 4, "pipe": 1, "fsdp": 1, "tensor": 2}
    assert mesh.axis_types == (AxisType.Auto,) * len(AXES)


def test_tensor_neighbours_are_device_neighbours():
    mesh = make_mesh(MeshConfig(data=1, member=2, fsdp=2, tensor=2))
    ids = np.vectorize(lambda device: device.id)(mesh.devices).reshape(2, 2, 2)  # member, fsdp, tensor
    np.testing.assert_array_equal(ids, np.arange(8).reshape(2, 2, 2))


def test_some_of_the_devices():
    mesh = make_mesh(MeshConfig(data=1, pipe=2), devices=jax.devices()[2:4])
    assert [device.id for device in mesh.devices.ravel()] == [2, 3]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (MeshConfig(data=3), "data=3 does not fit the 8 devices available"),
        (MeshConfig(data=2, tensor=2), "data=2 x tensor=2 does not fit the 8 devices"),
        (MeshConfig(data=-1, tensor=3), "data=-1 x tensor=3 .* divisor of 8"),
        (MeshConfig(data=1), "one device does not fit the 8 devices"),
    ],
)
def test_sizes_that_do_not_fit(config, said):
    with pytest.raises(ConfigError, match=said):
        make_mesh(config)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [({"data": 0}, "^data: .* got 0"), ({"tensor": -2}, "^tensor: "), ({"fsdp": -1}, "data and fsdp: ")],
)
def test_bad_sizes(sizes, said):
    with pytest.raises(ConfigError, match=said):
        MeshConfig(**sizes)


def test_replicate():
    mesh = make_mesh(MeshConfig())
    tree = replicate({"x": jnp.arange(3.0), "key": jax.random.key(5)}, mesh)
    assert all(leaf.sharding.is_fully_replicated and len(leaf.sharding.device_set) == 8 for leaf in tree.values())
    np.testing.assert_array_equal(jax.random.key_data(tree["key"]), jax.random.key_data(jax.random.key(5)))

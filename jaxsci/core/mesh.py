"""The only mesh constructor: five named axes over the devices at hand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from jaxsci.core.config import require
from jaxsci.core.errors import ConfigError

# From the least to the most communication, so that neighbours in the device list (the fastest links) share
# `tensor`.
AXES = ("member", "data", "pipe", "fsdp", "tensor")


@dataclass(frozen=True)
class MeshConfig:
    """How many devices each parallel axis takes. One of them may be -1: whatever the others leave.

    - `data`: replicas of the model, each on its part of the batch.
    - `fsdp`: parameters and optimizer state cut into pieces, batch as in `data`.
    - `pipe`: stages of a pipeline.
    - `tensor`: single matrix products cut into pieces.
    - `member`: ensemble members.
    """

    data: int = -1
    fsdp: int = 1
    pipe: int = 1
    tensor: int = 1
    member: int = 1

    def __post_init__(self):
        for axis in AXES:
            size = getattr(self, axis)
            require(size == -1 or size >= 1, axis, "1 or more devices, or -1 for what is left", size)
        left = [axis for axis in AXES if getattr(self, axis) == -1]
        require(len(left) <= 1, " and ".join(left), "at most one axis to be -1", len(left))


def make_mesh(config: MeshConfig, devices: Sequence[Any] | None = None) -> Mesh:
    """Arrange `devices` (default: all of them, of all processes) as `AXES`, `tensor` innermost.

    All axes are of type Auto: the compiler propagates shardings from those given to arguments. Raises
    `ConfigError` when the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    sizes = {axis: getattr(config, axis) for axis in AXES}
    asked = " x ".join(f"{axis}={size}" for axis, size in sizes.items() if size != 1) or "one device"
    fixed = math.prod(size for size in sizes.values() if size != -1)
    left = [axis for axis, size in sizes.items() if size == -1]
    if left and len(devices) % fixed == 0:
        sizes[left[0]] = len(devices) // fixed
    if math.prod(sizes.values()) != len(devices):
        advice = (
            f"the fixed axes must multiply to a divisor of {len(devices)}"
            if left
            else f"change an axis, or set one to -1, so that they multiply to {len(devices)}"
        )
        raise ConfigError(f"mesh: {asked} does not fit the {len(devices)} devices available; {advice}")
    shape = tuple(sizes[axis] for axis in AXES)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def replicate(tree: PyTree, mesh: Mesh | AbstractMesh) -> PyTree:
    """Place a copy of every leaf on each device of `mesh`; several processes must pass equal values."""
    everywhere = NamedSharding(mesh, PartitionSpec())

    def place(leaf: Array) -> Array:
        if jax.process_count() == 1:
            return jax.device_put(leaf, everywhere)
        # Between processes, only numpy arrays may be placed on devices that are not all one's own.
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        return jax.device_put(np.asarray(leaf), everywhere)

    return jax.tree.map(place, tree)

"""The measured witness: the same train step, run a few times on the devices that are present."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsci.core.errors import ConfigError
from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.pipeline import Batch
from jaxsci.transformer.plan.hardware import Hardware
from jaxsci.transformer.step import batch_sharding, init_state, make_train_step
from jaxsci.transformer.utilisation import measured_peak

PATIENCE = 60.0  # seconds that an unasked measurement may take, were it five times slower than products alone
STEPS = 9  # about as many are run
WARM_UP = 2  # the first step compiles, the second is the first from a donated state


class Measured(NamedTuple):
    """`seconds` of each step after warming up; bytes on one device: of state and batch (`argument_bytes`), and at the
    peak where the backend keeps account (`peak_bytes`)."""

    device: str
    seconds: tuple[float, ...]
    argument_bytes: int
    peak_bytes: int | None
    loss: float

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))


def reason_not_to(hardware: Hardware, devices: int, bytes_per_device: float, flops: float, asked: bool | None) -> str:
    """Why the plan is not run here, in a sentence; empty to run it. `flops`: of all devices, a step.

    Raises `ConfigError` if it was asked for and cannot be done.
    """
    here = jax.devices()
    platform = here[0].platform
    if asked is False:
        return "measure=false"
    if len(here) < devices:
        made = f"; cpu_devices={devices} makes them of the CPU" if platform == "cpu" and devices <= 64 else ""
        reason = f"the mesh needs {devices} devices, {len(here)} here{made}"
        if asked:
            raise ConfigError(f"measure: {reason}")
        return reason
    if asked:
        return ""
    if (hardware.platform == "cpu") != (platform == "cpu"):
        return f"the plan is for {hardware.title}, here is {here[0].device_kind}; measure=true runs it all the same"
    limit = (here[0].memory_stats() or {}).get("bytes_limit", _host_memory() / 2 / devices)
    if bytes_per_device > limit:
        return f"it would take more than the {limit / 1e9:.2g} GB that a device has here; measure=true tries it"
    if platform == "cpu" and 5 * flops / measured_peak().flops > PATIENCE / STEPS:
        return "it would take minutes on this machine; measure=true runs it"
    return ""


def _host_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def measure(
    model: ModelConfig,
    plan: ParallelConfig,
    mesh_shape: Mapping[str, int],
    batch: int,
    steps: int,
    optimizer: optax.GradientTransformation | None = None,
) -> Measured:
    """Time `steps` steps on random tokens. The mesh takes the first devices of this process."""
    count = int(np.prod(list(mesh_shape.values())))
    mesh = make_mesh(MeshConfig(**mesh_shape), jax.devices()[:count])
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    state = init_state(model, plan, mesh, optimizer, jax.random.key(0))
    where = batch_sharding(plan, mesh)
    shape = (plan.microbatches, batch // plan.microbatches, model.sequence)
    rng = np.random.default_rng(0)
    tokens = jax.device_put(rng.integers(0, model.vocabulary, shape, dtype=np.int32), where)
    batch_ = Batch(tokens, jax.device_put(np.roll(np.asarray(tokens), -1, -1), where))
    first = mesh.devices.flat[0]
    held = sum(_bytes_on(first, leaf) for leaf in jax.tree.leaves((state, batch_)))
    step = make_train_step(model, plan, mesh, optimizer)
    seconds, loss = [], jnp.nan
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        state, metrics = step(state, batch_)
        loss = jax.block_until_ready(metrics)["loss"]
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - start)
    stats = first.memory_stats() or {}
    return Measured(first.device_kind, tuple(seconds[WARM_UP:]), held, stats.get("peak_bytes_in_use"), float(loss))


def calibrated(hardware: Hardware, devices: int) -> Hardware:
    """A CPU with the peak measured here, shared by the `devices` that are made of it; other hardware as it is."""
    if hardware.platform != "cpu":
        return hardware
    return replace(hardware, peak_flops=measured_peak().flops / devices)


def _bytes_on(device: Any, leaf: jax.Array) -> int:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    return sum(part.data.nbytes for part in leaf.addressable_shards if part.device == device)

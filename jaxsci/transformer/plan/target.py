"""What a program can be compiled for without having the device: GPUs from their descriptions, CPUs from fakes.

The CUDA compiler comes with the wheel `jax-cuda12-pjrt` (or its CUDA 13 sister). It reads a description of the GPU and
needs no NVIDIA library, driver or device. Its entry points in `jax.experimental` may change between versions of jax:
everything that touches them is in this file.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import jax
from jax.experimental import topologies
from jax.experimental.compilation_cache import compilation_cache

from jaxsci.core.errors import ConfigError, did_you_mean

NODE = 8  # devices per node of a topology
FAKE_LIMIT = 2048  # CPU devices of one process; beyond, XLA asks for several processes


@dataclass(frozen=True)
class Target:
    """`description`: XLA's GpuTargetConfigProto in text form; empty for a CPU."""

    name: str
    kind: Literal["cuda", "cpu"]
    description: str = ""


def _gpu(
    title: str, major: int, cores: int, units: int, clock: float, shared: int, cache: int, bandwidth: float, memory: int
) -> str:
    """Compute capability `major`.0; `units` float32 units per core; clock in GHz; sizes in bytes, bandwidth in bytes/s.

    A block may ask for all of a core's shared memory but 1 KiB.
    """
    return (
        f"gpu_device_info {{ threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152 "
        f"shared_memory_per_core: {shared} shared_memory_per_block_optin: {shared - 1024} threads_per_core_limit: 2048 "
        f"core_count: {cores} fpus_per_core: {units} block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 "
        f"block_dim_limit_z: 65535 memory_bandwidth: {bandwidth:.0f} l2_cache_size: {cache} clock_rate_ghz: {clock} "
        f"device_memory_size: {memory} cuda_compute_capability {{ major: {major} }} registers_per_core_limit: 65536 "
        f'registers_per_block_limit: 65536 }} platform_name: "CUDA" '
        f'dnn_version_info {{ major: 9 minor: 8 patch: 0 }} device_description_str: "{title}"'
    )


# Cores, clocks, caches, bandwidths: NVIDIA data sheets, A100 SXM 80GB, H100 SXM, H200 SXM; shared memory per core: CUDA
# programming guide, compute capabilities 8.0 and 9.0; memory: as the driver reports it. The descriptions a100_sxm_80,
# h100_sxm and h200 of the XLA project (Apache-2.0) hold the same figures.
KIB, MIB = 1024, 1024**2
TARGETS: dict[str, Target] = {
    "a100": Target(
        "a100", "cuda", _gpu("NVIDIA A100-SXM4-80GB", 8, 108, 64, 1.41, 164 * KIB, 40 * MIB, 2039.04e9, 85100068864)
    ),
    "h100": Target(
        "h100", "cuda", _gpu("NVIDIA H100 80GB HBM3", 9, 132, 128, 1.98, 228 * KIB, 50 * MIB, 3352.32e9, 84942979072)
    ),
    "h200": Target(
        "h200", "cuda", _gpu("NVIDIA H200 141GB HBM3e", 9, 132, 128, 1.98, 228 * KIB, 50 * MIB, 4.8e12, 151397597184)
    ),
    "cpu": Target("cpu", "cpu"),
}


def target(name: str) -> Target:
    """The named target. Raises `ConfigError` with the nearest known name."""
    if name not in TARGETS:
        raise ConfigError(f"compiler: unknown '{name}'{did_you_mean(name, TARGETS)}")
    return TARGETS[name]


def devices(target: Target, count: int) -> list[Any]:
    """`count` devices to compile for: nodes of eight GPUs that need not exist, or this process's CPU devices.

    Raises `ConfigError` when the CUDA compiler is not installed, or when there are not as many CPU devices.
    """
    return _cpus(count) if target.kind == "cpu" else _gpus(target, count)


def shrunk(mesh: Mapping[str, int]) -> dict[str, int]:
    """The mesh with the largest `data` whose devices one process can fake. Raises `ConfigError` if data=1 is too many.

    The program of a device hardly depends on `data`: one sum of the gradients crosses it.
    """
    others = 1
    for axis, size in mesh.items():
        others *= size if axis != "data" else 1
    if others > FAKE_LIMIT:
        raise ConfigError(f"mesh: {others} devices beside data, but a process can fake {FAKE_LIMIT}; use target=h100")
    fits = max(d for d in range(1, mesh["data"] + 1) if mesh["data"] % d == 0 and d * others <= FAKE_LIMIT)
    return dict(mesh) | {"data": fits}


def _cpus(count: int) -> list[Any]:
    if count > FAKE_LIMIT:
        raise ConfigError(f"mesh: {count} devices, but a process can fake {FAKE_LIMIT} on a CPU; use a smaller data")
    found = jax.devices("cpu")
    if len(found) < count:
        raise ConfigError(
            f"mesh: {count} devices asked, this process has {len(found)}; start it with cpu_devices={count}"
        )
    return found[:count]


def _gpus(target: Target, count: int) -> list[Any]:
    nodes = -(-count // NODE)
    each = count if nodes == 1 else NODE
    try:
        with _quiet():
            topology = topologies.get_topology_desc(
                "", "cuda", target_config=target.description, topology=f"1x{nodes}x{each}"
            )
    except (NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:160]
        raise ConfigError(
            f"compiler: {target.name} needs the CUDA compiler ({reason}); pip install 'jaxsci[plan]', "
            f"or use target=cpu, which needs nothing"
        ) from None
    return list(topology.devices)[:count]


@contextmanager
def fresh() -> Iterator[None]:
    """Compile here without the cache of compiled programs: programs for devices that are not there can be written to it
    but not read, and one that is read brings no account of its memory.
    """
    enabled = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    compilation_cache.reset_cache()  # whether the cache is used is otherwise decided once for a process
    jax.config.update("jax_enable_compilation_cache", False)
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", enabled)
        compilation_cache.reset_cache()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the plugin logs and what does no harm: that it is registered already, or that the second wheel, with
    the kernels to run on a device, is missing.
    """
    loggers = [logging.getLogger(name) for name in ("jax._src.xla_bridge", "jax_plugins.xla_cuda12")]

    def matters(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else record.getMessage()
        return "ALREADY_EXISTS" not in str(error) and "cuda_plugin_extension" not in str(error)

    for logger in loggers:
        logger.addFilter(matters)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(matters)

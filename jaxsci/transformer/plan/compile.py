"""The compiler as a witness: a train step compiled for machines that are not there, and what it would need on them.

    compiled = compile_ahead(model, plan, {"data": 1, "fsdp": 4, "pipe": 64, "tensor": 8}, 6400, target("h100"))
    compiled.bytes_per_device

It is the program that training runs, update included, through the compiler's whole pipeline; only the device is
missing. Memory is what the compiler assigns: what its runtime adds on top (libraries, NCCL buffers, fragmentation of
the allocator, about 1 GB) is not in it.
"""

import math
import resource
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import optax
from jax.sharding import AbstractMesh, AxisType, Mesh

from jaxsci.core.errors import ConfigError
from jaxsci.core.mesh import AXES, MeshConfig, make_mesh
from jaxsci.transformer.budget import Collective, collectives
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.lowering import trace_step
from jaxsci.transformer.parallel import ParallelConfig, check
from jaxsci.transformer.plan.buffers import Buffer, largest
from jaxsci.transformer.plan.known import known_arrays
from jaxsci.transformer.plan.program import COLLECTIVES, Traffic, matmul_flops, operations, traffic
from jaxsci.transformer.plan.target import FAKE_LIMIT, Target, devices, fresh, shrunk


class Compiled(NamedTuple):
    """A step as the compiler sees it. Bytes and FLOPs are of one device and one step.

    `argument_bytes`: state and batch; of `output_bytes`, `alias_bytes` reuse them (the state is donated);
    `temporary_bytes`: everything else the step holds at one time, as the compiler packed it.
    `flops`: matrix products of the traced program. `largest`: what is alive at the peak. `peak_host_bytes`: the most
    that this process has used so far. `upper_bound`: a CPU compiler widens 16-bit numbers to 32. `attention`: the
    implementation compiled; the fused kernel of cuDNN needs its library, so `auto` means `chunked` here.
    """

    target: str
    devices: int
    argument_bytes: int
    output_bytes: int
    temporary_bytes: int
    alias_bytes: int
    lower_seconds: float
    compile_seconds: float
    collectives: list[Collective]
    traffic: list[Traffic]
    flops: int
    largest: tuple[Buffer, ...]
    peak_host_bytes: int
    upper_bound: bool
    attention: str

    @property
    def bytes_per_device(self) -> int:
        """What must be resident: arguments, temporaries, and outputs that reuse no argument."""
        return self.argument_bytes + self.temporary_bytes + self.output_bytes - self.alias_bytes

    @property
    def sent_bytes(self) -> float:
        """Bytes one device sends per step."""
        return sum(item.bytes for item in self.traffic)


class Lowered(NamedTuple):
    """A step lowered to StableHLO for a platform whose compiler is not at hand: no memory numbers.

    `operations`: how often each stands in the module (a loop's body stands there once); `collectives`: those of them
    that communicate.
    """

    platform: str
    devices: int
    characters: int
    operations: dict[str, int]
    collectives: dict[str, int]
    seconds: float


def compile_ahead(
    model: ModelConfig,
    plan: ParallelConfig,
    mesh_shape: Mapping[str, int],
    batch: int,
    target: Target,
    optimizer: optax.GradientTransformation | None = None,
) -> Compiled:
    """Compile the train step (Adam by default) of a global batch of `batch` sequences for `target`.

    `mesh_shape`: sizes of data, fsdp, pipe and tensor. Raises `ConfigError`: parts that do not fit together, a missing
    compiler, too many fake CPU devices, or the compiler's own sentence.
    """
    check(model, plan, mesh_shape, batch)
    plan = _portable(plan)
    mesh = _mesh(mesh_shape, batch, target)
    start = time.perf_counter()
    traced = trace_step(model, plan, mesh, batch, optimizer)
    lowered = traced.lower()
    lowering = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        compiled = _compile(lowered, target, folder)
        compiling = time.perf_counter() - start
        program, memory = compiled.as_text() or "", compiled.memory_analysis()
        peak = largest(Path(folder), program, known_arrays(model, plan, mesh_shape, batch))
    if memory is None:
        raise ConfigError(f"target: the compiler for {target.name} gives no account of memory; use another target")
    found = collectives(program)
    return Compiled(
        target=target.name,
        devices=mesh.size,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        alias_bytes=memory.alias_size_in_bytes,
        lower_seconds=lowering,
        compile_seconds=compiling,
        collectives=found,
        traffic=traffic(found, mesh.shape),
        flops=matmul_flops(traced.jaxpr),
        largest=peak,
        peak_host_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        upper_bound=target.kind == "cpu" and plan.dtype.itemsize == 2,
        attention=plan.attention,
    )


def lower_for(
    model: ModelConfig,
    plan: ParallelConfig,
    mesh_shape: Mapping[str, int],
    batch: int,
    platform: str = "rocm",
    optimizer: optax.GradientTransformation | None = None,
) -> Lowered:
    """Lower the train step for a platform by name, on a mesh of any size, with no device and no compiler at all."""
    check(model, plan, mesh_shape, batch)
    sizes = {axis: mesh_shape.get(axis, 1) for axis in AXES}
    mesh = AbstractMesh(tuple(sizes.values()), AXES, axis_types=(AxisType.Auto,) * len(AXES))
    start = time.perf_counter()
    module = trace_step(model, _portable(plan), mesh, batch, optimizer).lower(lowering_platforms=(platform,)).as_text()
    found = operations(module)
    return Lowered(
        platform,
        mesh.size,
        len(module),
        found,
        {name: found[name] for name in COLLECTIVES if name in found},
        time.perf_counter() - start,
    )


def _portable(plan: ParallelConfig) -> ParallelConfig:
    """The plan with an attention that every compiler has: what `auto` picks depends on the devices of the process."""
    if plan.attention == "cudnn":
        raise ConfigError("parallel.attention: cudnn needs its library and a GPU; use auto to compile ahead of time")
    return replace(plan, attention="chunked") if plan.attention == "auto" else plan


def _mesh(shape: Mapping[str, int], batch: int, target: Target) -> Mesh:
    count = math.prod(shape.values())
    if target.kind == "cpu" and count > FAKE_LIMIT:
        data = shrunk(shape)["data"]
        raise ConfigError(
            f"mesh: {count} devices, but a process can fake {FAKE_LIMIT} on a CPU; use data={data} with a global batch "
            f"of {batch * data // shape['data']}: the program of a device stays the same"
        )
    return make_mesh(MeshConfig(**shape), devices(target, count))


def _compile(lowered: jax.stages.Lowered, target: Target, folder: str) -> jax.stages.Compiled:
    """With the compiler's account of memory in `folder`."""
    try:
        with fresh():
            return lowered.compile(compiler_options={"xla_dump_to": folder, "xla_dump_hlo_as_text": True})
    except jax.errors.JaxRuntimeError as error:
        sentence = " ".join(str(error).split())[:240]
        flag = "; try XLA_FLAGS=--xla_gpu_enable_triton_gemm=false" if target.kind == "cuda" else ""
        raise ConfigError(f"compile: the {target.name} compiler refuses this program: {sentence}{flag}") from None

"""How a step is spread over a mesh and over time, and the one place that refuses what cannot work, before a
compile.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp

from jaxsci.core.config import one_of, positive, require
from jaxsci.core.errors import ConfigError
from jaxsci.transformer.attention import Implementation
from jaxsci.transformer.collectives import AXES
from jaxsci.transformer.config import ModelConfig


@dataclass(frozen=True)
class ParallelConfig:
    """Schedule, recomputation and precision of a step; the mesh says how many devices share what.

    `microbatches`: parts of the global batch that run one after another (pipeline filling, gradient
    accumulation).
    `schedule`: `gpipe` keeps the stage inputs of every micro-batch, `1f1b` those of 2 x pipe, whatever their
    number.
    `virtual`: chunks of layers per stage, above 1 the circular schedule (gpipe only): the bubble shrinks by
    it.
    `zero`: 1 gathers the weights once per step, 3 gathers each layer when it runs (needs pipe = 1). Master
    weights, gradients and optimizer state are split over `fsdp` either way.
    `remat`: what the backward pass finds stored. `none`: everything. `selective`: the results of the large
    products and of attention. `full`: the input of each stage, or of each layer when pipe = 1. `nested`: of
    both.
    `offload`: as `full`, in host memory. With `1f1b` on a pipeline a stage is always recomputed from its
    input.
    `unroll`: layers per iteration of the layer loop. `chunk`, `loss_chunk`: positions whose attention scores,
    or logits, exist at one time.
    """

    microbatches: int = 1
    schedule: Literal["gpipe", "1f1b"] = "1f1b"
    virtual: int = 1
    zero: Literal[1, 3] = 1
    remat: Literal["none", "selective", "full", "nested", "offload"] = "full"
    unroll: int = 1
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Implementation = "auto"
    chunk: int = 512
    loss_chunk: int = 2048

    def __post_init__(self):
        positive(self, "microbatches", "virtual", "unroll", "chunk", "loss_chunk")
        one_of(self, "schedule", ("gpipe", "1f1b"))
        one_of(self, "remat", ("none", "selective", "full", "nested", "offload"))
        one_of(self, "precision", ("float32", "bfloat16", "float16"))
        one_of(self, "attention", ("auto", "cudnn", "chunked", "dense"))
        require(self.zero in (1, 3), "zero", "1 or 3", self.zero)
        circular_1f1b = self.virtual > 1 and self.schedule == "1f1b"
        require(not circular_1f1b, "virtual", "1 with schedule 1f1b (or schedule=gpipe)", self.virtual)
        stored_weights = self.zero == 3 and self.remat == "none"
        require(
            not stored_weights,
            "remat",
            "full or selective with zero=3 (none would store gathered weights)",
            "none",
        )

    @property
    def dtype(self) -> jnp.dtype:
        """Type of activations and of the weights in products; master weights stay float32."""
        return jnp.dtype(self.precision)


def ticks(plan: ParallelConfig, pipe: int) -> int:
    """Turns of the pipeline loop: m with one stage, v m + p - 1 streamed, m + 2 (p - 1) for 1F1B."""
    if pipe == 1:
        return plan.microbatches
    if plan.schedule == "1f1b":
        return plan.microbatches + 2 * (pipe - 1)
    return plan.virtual * plan.microbatches + pipe - 1


def bubble(plan: ParallelConfig, pipe: int) -> float:
    """Share of the ticks in which a stage has nothing to do."""
    return 1 - plan.virtual * plan.microbatches / ticks(plan, pipe)


def check(model: ModelConfig, plan: ParallelConfig, mesh: Mapping[str, int], batch: int) -> None:
    """Refuse a model, plan, mesh (axis sizes) and global batch (sequences) that do not fit together.

    Raises `ConfigError`, one line: what was expected, what came, what to do.
    """
    for axis in AXES:
        if axis not in mesh:
            raise ConfigError(f"mesh: expected the axes {', '.join(AXES)}, got {', '.join(mesh)}")
    data, fsdp, pipe, tensor = (mesh[axis] for axis in AXES)
    _divides("mesh.tensor", tensor, "model.heads", model.heads)
    _divides("mesh.tensor", tensor, "model.kv_heads", model.groups)
    _divides("mesh.tensor", tensor, "model.feedforward", model.hidden)
    _divides("mesh.tensor", tensor, "model.sequence", model.sequence)
    if model.width % fsdp:
        fits = max(d for d in range(1, fsdp + 1) if fsdp % d == 0 and model.width % d == 0)
        raise ConfigError(
            f"mesh.fsdp: {fsdp} does not divide model.width {model.width}; "
            f"use mesh.fsdp={fits} mesh.data={data * fsdp // fits}"
        )
    _divides("parallel.microbatches", plan.microbatches, "the global batch", batch)
    share = batch // plan.microbatches
    if share % (data * fsdp):
        raise ConfigError(
            f"batch: a micro-batch of {share} sequences does not split over data x fsdp = {data * fsdp}; "
            f"give a global batch that is a multiple of {plan.microbatches * data * fsdp}"
        )
    if pipe == 1 and plan.virtual > 1:
        raise ConfigError(f"parallel.virtual: {plan.virtual} chunks per stage need mesh.pipe above 1")
    if pipe > 1 and plan.zero == 3:
        raise ConfigError(f"parallel.zero: 3 needs mesh.pipe=1, got {pipe}; use zero=1, whose state is split as far")
    if pipe > 1 and plan.schedule == "gpipe":
        _divides("mesh.pipe", pipe, "parallel.microbatches", plan.microbatches)
    if pipe * plan.virtual > model.layers:
        raise ConfigError(f"mesh.pipe: {pipe} stages x {plan.virtual} chunks exceed model.layers {model.layers}")


def _divides(name: str, value: int, of: str, total: int) -> None:
    if total % value:
        near = max(d for d in range(1, value + 1) if total % d == 0)
        raise ConfigError(f"{name}: {value} does not divide {of} {total}; the nearest smaller value is {near}")

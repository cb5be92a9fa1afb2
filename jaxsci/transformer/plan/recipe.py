"""A recipe: how a training step of a model is spread over devices and over time, as a formula sees it.

It says the same as `ParallelConfig` and a mesh, and also what other systems do: schedules of several
programs, ZeRO stages, 16-bit state. `from_parallel` translates this library's own plans.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxsci.core.config import one_of, positive, require
from jaxsci.core.errors import ConfigError
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.counts import Recompute
from jaxsci.transformer.parallel import ParallelConfig, check
from jaxsci.transformer.utilisation import recomputation

Schedule = Literal["gpipe", "lockstep", "1f1b", "interleaved"]


class Policy(NamedTuple):
    """Bytes per parameter. `weights` and `gradients` are whole on every device of a data-parallel group;
    `master`, `copy` (a second set of gradients) and `moments` are what ZeRO-1 splits. `activation` is the
    width of an activation.
    """

    weights: int
    gradients: int
    master: int
    copy: int
    moments: int
    activation: int = 2

    @property
    def total(self) -> int:
        """Bytes of state per parameter."""
        return self.weights + self.gradients + self.master + self.copy + self.moments


POLICIES = {
    "study14": Policy(2, 4, 4, 0, 4),  # table of 2312.12705: one Adam moment short
    "fp16": Policy(2, 2, 4, 0, 8),  # 1910.02054: 16-bit weights and gradients, float32 Adam
    "bf16": Policy(2, 4, 4, 0, 8),  # 16-bit weights, float32 gradients and Adam
    "megatron20": Policy(2, 2, 4, 4, 8),  # as fp16, with a float32 copy of the gradients
    "fp32": Policy(4, 4, 0, 0, 8, activation=4),
    "jax": Policy(2, 4, 4, 0, 8),  # this library at 16 bits: float32 masters, a 16-bit copy while a step runs
    "jax_fp32": Policy(4, 4, 4, 0, 8, activation=4),  # this library at 32 bits with fsdp above 1: the copy is gathered
}


@dataclass(frozen=True)
class Recipe:
    """`data`, `fsdp`, `pipe`, `tensor`: sizes of the mesh axes; state is split over `fsdp`, `data` holds
    copies. `virtual`: chunks of layers per stage. `batch`: sequences per step, all devices together;
    `microbatch`: sequences that one replica works on at a time.

    `schedule`: `gpipe` and `lockstep` are this library's single programs (streamed or circular, and 1F1B);
    `1f1b` and `interleaved` are those of systems in which every stage runs a program of its own. With
    pipe = 1 they are all the same. `recompute` `full` keeps the input of each layer, in a single program on a
    pipeline the input of each stage; `nested` both. `flash`: attention scores are never stored. `zero`: what
    is split over `fsdp`: 1 optimizer state, 2 gradients too, 3 weights too. `policy`: bytes of state, a name
    in `POLICIES`.
    """

    data: int = 1
    fsdp: int = 1
    pipe: int = 1
    tensor: int = 1
    virtual: int = 1
    batch: int = 1
    microbatch: int = 1
    schedule: Schedule = "1f1b"
    recompute: Recompute = "full"
    sequence_parallel: bool = True
    zero: Literal[0, 1, 2, 3] = 1
    policy: str = "jax"
    flash: bool = True

    def __post_init__(self):
        positive(self, "data", "fsdp", "pipe", "tensor", "virtual", "batch", "microbatch")
        one_of(self, "schedule", ("gpipe", "lockstep", "1f1b", "interleaved"))
        one_of(self, "recompute", ("none", "selective", "full", "nested"))
        one_of(self, "policy", tuple(POLICIES))
        require(self.zero in (0, 1, 2, 3), "zero", "0, 1, 2 or 3", self.zero)
        one_chunk = self.schedule in ("1f1b", "lockstep") and self.virtual > 1
        require(not one_chunk, "virtual", f"1 with schedule {self.schedule} (or interleaved, gpipe)", self.virtual)
        share = self.replicas * self.microbatch
        require(self.batch % share == 0, "batch", f"a multiple of data x fsdp x microbatch = {share}", self.batch)

    @property
    def devices(self) -> int:
        """Devices of the mesh."""
        return self.replicas * self.pipe * self.tensor

    @property
    def replicas(self) -> int:
        """Copies of the model that see different sequences."""
        return self.data * self.fsdp

    @property
    def microbatches(self) -> int:
        """Micro-batches that a replica runs one after another in a step (m)."""
        return self.batch // (self.microbatch * self.replicas)

    @property
    def single_program(self) -> bool:
        """Whether all stages run one program: what one of them needs, all of them hold and wait for."""
        return self.schedule in ("gpipe", "lockstep")

    @property
    def idle(self) -> int:
        """Turns in which a stage has nothing to do: p - 1, lockstep 2 (p - 1)."""
        return (self.pipe - 1) * (2 if self.schedule == "lockstep" else 1)

    @property
    def bubble(self) -> float:
        """Share of a step's turns that are idle: (p - 1)/(v m + p - 1), lockstep 2 (p - 1)/(m + 2 (p - 1))."""
        return self.idle / (self.virtual * self.microbatches + self.idle)


def depth(model: ModelConfig, recipe: Recipe) -> int:
    """Layers that the fullest stage works through, padding included: v ceil(l / (p v))."""
    return recipe.virtual * -(-model.layers // (recipe.pipe * recipe.virtual))


def check_recipe(model: ModelConfig, recipe: Recipe) -> None:
    """Refuse a recipe that this library could not store or run: the rules of `parallel.check`.

    Other systems' recipes may break them (ZeRO over 6 devices splits a flattened vector); the formulas of
    `memory` and `time` take those too. Raises `ConfigError`, one line.
    """
    split = recipe.zero > 0 or recipe.fsdp == 1
    if not split:
        raise ConfigError(f"zero: 0 splits nothing over fsdp={recipe.fsdp}; use data={recipe.data * recipe.fsdp}")
    circular = recipe.schedule in ("gpipe", "interleaved")
    plan = ParallelConfig(
        microbatches=recipe.microbatches,
        schedule="gpipe" if circular else "1f1b",
        virtual=recipe.virtual,
        zero=3 if recipe.zero == 3 else 1,
    )
    mesh = {"data": recipe.data, "fsdp": recipe.fsdp, "pipe": recipe.pipe, "tensor": recipe.tensor}
    check(model, plan, mesh, recipe.batch)


def from_parallel(model: ModelConfig, plan: ParallelConfig, mesh: Mapping[str, int], batch: int) -> Recipe:
    """The recipe of this library's `plan` on mesh axis sizes `mesh`, for `batch` sequences per step.

    `remat=offload` counts as full: its stage inputs lie in host memory, so the formulas say too much.
    Raises `ConfigError` where model, plan, mesh and batch do not fit together.
    """
    check(model, plan, mesh, batch)
    replicas, pipe = mesh["data"] * mesh["fsdp"], mesh["pipe"]
    gathered = "jax_fp32" if mesh["fsdp"] > 1 else "fp32"  # one float32 device works on the masters themselves
    return Recipe(
        data=mesh["data"],
        fsdp=mesh["fsdp"],
        pipe=pipe,
        tensor=mesh["tensor"],
        virtual=plan.virtual,
        batch=batch,
        microbatch=batch // (plan.microbatches * replicas),
        schedule="lockstep" if plan.schedule == "1f1b" else "gpipe",
        recompute=recomputation(plan, pipe),
        zero=plan.zero,
        policy=gathered if plan.precision == "float32" else "jax",
    )

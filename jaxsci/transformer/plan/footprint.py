"""What a train step of this library needs on each device: shapes and splits of its own arrays, added up.

Three kinds of bytes: the state and batch that come in, what lives as long as the loop over micro-batches (gathered
weights, gradient totals, stage inputs), and what lives for a moment (the stored activations of one stage or layer, the
work of the largest operation). Parameters are never listed here: their bytes follow from their shapes and their
`PartitionSpec`s.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from jaxsci.transformer.attention import divisor
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.layout import TILE, Layout, layout
from jaxsci.transformer.model import init
from jaxsci.transformer.parallel import ParallelConfig, check, ticks
from jaxsci.transformer.plan.residuals import stored_bytes
from jaxsci.transformer.sharding import local_shape, specs

F32 = 4  # bytes


class Footprint(NamedTuple):
    """Bytes per device, component by component; the names in `arguments` are those of state and batch."""

    arguments: dict[str, int]
    temporaries: dict[str, int]

    @property
    def bytes_per_device(self) -> int:
        """Everything, bytes on the fullest device."""
        return sum(self.arguments.values()) + sum(self.temporaries.values())


class Sizes(NamedTuple):
    """Of one device: `width` bytes of an activation or weight, `sequences` of one micro-batch, `depth` layers of a
    stage, bytes of one micro-batch `whole` (between gather and scatter) and `shard` (between layers)."""

    width: int
    sequences: int
    depth: int
    whole: int
    shard: int


def footprint(
    model: ModelConfig, plan: ParallelConfig, mesh_shape: Mapping[str, int], batch: int, widened: bool = False
) -> Footprint:
    """Bytes per device of the train step with Adam, for a global batch of `batch` sequences.

    `widened`: as a CPU's compiler has it, 16-bit numbers widened to 32: an upper bound. Raises `ConfigError` when the
    parts do not fit together.
    """
    check(model, plan, mesh_shape, batch)
    if widened:
        plan = replace(plan, precision="float32")
    mesh = {axis: mesh_shape[axis] for axis in ("data", "fsdp", "pipe", "tensor")}
    params = shapes(model, layout(model, plan, mesh))
    tables, blocks = {k: a for k, a in params.items() if k != "blocks"}, {"blocks": params["blocks"]}
    size = sizes(model, plan, mesh, batch)

    master = _bytes(params, mesh, lambda spec: F32)
    tokens = batch // (mesh["data"] * mesh["fsdp"]) * model.sequence * 4
    streamed = plan.schedule == "gpipe" and mesh["pipe"] > 1
    arguments = {
        "master weights": master,
        "Adam moments": 2 * master,
        "tokens": 2 * tokens // (mesh["pipe"] if streamed else 1),
    }

    gathered = mesh | {"fsdp": 1}
    split = mesh if plan.zero == 3 else gathered  # blocks: gathered layer by layer, or once
    copies = size.width < F32 or mesh["fsdp"] > 1  # else the masters themselves are used

    temporaries = {
        "weights, gathered": copies * _bytes(blocks, split, _of_matrices(size.width)),
        "weights of the chunk at work": _bytes(blocks, split, _of_matrices(size.width))
        // plan.virtual
        * (plan.virtual > 1),
        "tables, gathered": copies * _bytes(tables, gathered, _of_matrices(size.width)),
        "gradient totals of weights": _bytes(blocks, split, lambda spec: F32),
        "gradient totals of tables": _bytes(tables, gathered, lambda spec: F32),
    }
    temporaries |= _stage_inputs(plan, mesh, size)
    temporaries |= _moment(model, plan, mesh, size)
    return Footprint(arguments, temporaries)


def shapes(model: ModelConfig, stored: Layout) -> PyTree:
    """Shapes and dtypes of all parameters as stored, without allocating any."""
    return jax.eval_shape(lambda key: init(model, stored, key), jax.random.key(0))


def sizes(model: ModelConfig, plan: ParallelConfig, mesh: Mapping[str, int], batch: int) -> Sizes:
    """Sizes in bytes and numbers that all components of the footprint are made of; `mesh` maps axis names to their
    sizes.
    """
    width = plan.dtype.itemsize
    sequences = batch // (plan.microbatches * mesh["data"] * mesh["fsdp"])
    whole = sequences * model.sequence * model.width * width
    depth = layout(model, plan, mesh).depth // mesh["pipe"]
    return Sizes(width, sequences, depth, whole, whole // mesh["tensor"])


def _bytes(tree: PyTree, mesh: Mapping[str, int], width: Callable) -> int:
    """Bytes of one device's part of `tree`; `width(spec)` bytes an entry."""
    total = 0
    flat, table = jax.tree.leaves(tree), jax.tree.leaves(specs(tree), is_leaf=lambda x: isinstance(x, P))
    for a, spec in zip(flat, table, strict=True):
        total += int(np.prod(local_shape(spec, a.shape, dict(mesh)), dtype=np.int64)) * width(spec)
    return total


def _of_matrices(width: int) -> Callable:
    """Bytes of an entry of a matrix; vectors are used as they are stored."""
    return lambda spec: width if "fsdp" in spec else 0


def _stage_inputs(plan: ParallelConfig, mesh: Mapping[str, int], size: Sizes) -> dict[str, int]:
    """What waits between stages: a ring of 2p inputs, or one input a tick and the slots that stream in and out."""
    pipe = mesh["pipe"]
    if pipe == 1:
        return {}
    if plan.schedule == "1f1b":
        return {"ring of stage inputs": (2 * pipe + 2) * size.shard}
    slots = plan.microbatches // pipe
    kept = ticks(plan, pipe) if plan.remat in ("full", "nested") else 0
    return {"stage inputs of all ticks": kept * size.shard, "micro-batches streaming": 2 * slots * size.shard}


def kept_of_layers(plan: ParallelConfig, pipe: int) -> tuple[str, int]:
    """What each layer keeps for its backward pass, as a `remat`, and of how many turns of the loop at one time."""
    if pipe == 1:
        return {"nested": "full"}.get(plan.remat, plan.remat), 1
    kept = {"nested": "full", "selective": "selective"}.get(plan.remat, "none")
    every_tick = plan.schedule == "gpipe" and plan.remat in ("none", "selective")
    return kept, ticks(plan, pipe) if every_tick else 1


def _moment(model: ModelConfig, plan: ParallelConfig, mesh: Mapping[str, int], size: Sizes) -> dict[str, int]:
    """The worse of two moments: the head makes logits and the gradient of its table, or a layer goes backward; either
    beside the activations stored by then."""

    def stored(remat: str) -> int:
        return stored_bytes(model, plan, mesh["tensor"], size.sequences, remat)

    kept, turns = kept_of_layers(plan, mesh["pipe"])
    layers = 0 if kept == "offload" else turns * size.depth * stored(kept)
    rows = layout(model, plan, mesh).vocabulary // mesh["tensor"]
    positions = min(plan.loss_chunk, size.sequences * model.sequence)
    in_loop = turns > 1 or not (plan.schedule == "gpipe" and mesh["pipe"] > 1)  # else the head runs before them
    head = {
        "activations stored": layers if in_loop else 0,
        "one chunk of logits": positions * rows * F32,
        "one table's gradient": rows * model.width * (F32 + size.width),
    }
    one = shapes(replace(model, layers=1), Layout(1, 1, TILE * mesh["tensor"]))["blocks"]
    matrices = [
        _bytes({"blocks": {path[-1].key: a}}, {**mesh, "fsdp": 1, "pipe": 1}, _of_matrices(size.width))
        for path, a in jax.tree_util.tree_leaves_with_path(one)
    ]
    layer = {
        "activations stored": layers,
        "one layer's activations, recomputed": 0 if kept == "none" else stored("none"),
        "one layer's weights, gathered": sum(matrices) if plan.zero == 3 else 0,
        "one matrix's gradient": max(matrices),
        "work of one layer": max(_feedforward_work(model, mesh, size), _attention_work(model, plan, mesh, size)),
    }
    return max(head, layer, key=lambda parts: sum(parts.values()))


def _feedforward_work(model: ModelConfig, mesh: Mapping[str, int], size: Sizes) -> int:
    """Cotangents on both sides of the feed-forward layer: whole inside, its hidden units three times."""
    hidden = size.sequences * model.sequence * model.gates * model.hidden // mesh["tensor"] * size.width
    return 2 * size.whole + 3 * hidden


def _attention_work(model: ModelConfig, plan: ParallelConfig, mesh: Mapping[str, int], size: Sizes) -> int:
    """Float32 sums of dq, dk, dv, and three blocks of scores."""
    heads = size.sequences * model.heads // mesh["tensor"]
    rows = size.sequences * model.sequence * model.head_size * (model.heads + 2 * model.groups) // mesh["tensor"]
    edge = model.sequence if plan.attention == "dense" else divisor(model.sequence, plan.chunk)
    return size.whole + rows * F32 + 3 * heads * edge**2 * F32

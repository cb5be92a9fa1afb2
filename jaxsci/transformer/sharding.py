"""Where everything lies: one table for parameters, one for activations, and what follows from them.

`tensor` splits heads, hidden units and the vocabulary; `fsdp` splits the width of every matrix between steps
(master weights, gradients, optimizer state) and the batch; `pipe` splits the layers; `data` holds copies.
Optimizer state follows its parameter.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, PyTree

from jaxsci.transformer.collectives import AXES, BATCH, all_gather, sum_scatter, total, vary

# Last name of a leaf -> its split. Leaves under `blocks` have two more leading axes, (chunk, layer).
PARAMETERS: dict[str, P] = {
    "embed": P("tensor", "fsdp"),  # (vocabulary, width)
    "head": P("tensor", "fsdp"),  # (vocabulary, width), untied only
    "position": P("tensor", "fsdp"),  # (sequence, width), learned only
    "inward": P(None, "fsdp"),  # (inputs, width), of a regression
    "outward": P(None, "fsdp"),  # (outputs, width), of a regression
    "scale": P(None),  # (width)
    "bias": P(None),  # (width)
    "qkv": P("fsdp", "tensor", None, None),  # (width, key heads, queries + 2, head size)
    "qkv_bias": P("tensor", None, None),  # (key heads, queries + 2, head size)
    "out": P("tensor", None, None, "fsdp"),  # (key heads, queries, head size, width)
    "out_bias": P(None),  # (width)
    "up": P("fsdp", None, "tensor"),  # (width, gates, hidden)
    "up_bias": P(None, "tensor"),  # (gates, hidden)
    "down": P("tensor", "fsdp"),  # (hidden, width)
    "down_bias": P(None),  # (width)
}
STACK = P(None, "pipe")  # (chunk, layer) in front of every leaf of `blocks`

ACTIVATIONS: dict[str, P] = {
    "residual": P(BATCH, "tensor", None),  # (batch, sequence, width)
    "heads": P(BATCH, None, "tensor", None, None),  # (batch, sequence, key heads, queries + 2, head size)
    "hidden": P(BATCH, None, None, "tensor"),  # (batch, sequence, gates, hidden)
    "logits": P(BATCH, None, "tensor"),  # (batch, sequence, vocabulary)
    "tokens": P(None, BATCH, None),  # (micro-batch, batch, sequence)
    "tokens_streamed": P("pipe", BATCH, None),  # the same under gpipe: micro-batches wait on their stages
    "cache": P(None, BATCH, None, "tensor", None),  # (layer, batch, sequence, key heads, head size)
}


def leaf_spec(path: tuple) -> P:
    """The split of the leaf at this tree path, in a parameter tree or in anything shaped like one."""
    names = [str(getattr(entry, "key", getattr(entry, "name", ""))) for entry in path]
    spec = PARAMETERS.get(names[-1], P())
    return P(*STACK, *spec) if "blocks" in names else spec


def specs(params: PyTree) -> PyTree:
    """The tree of `PartitionSpec` for a parameter tree, or for optimizer state that holds such trees."""
    return jax.tree_util.tree_map_with_path(lambda path, a: leaf_spec(path) if jnp.ndim(a) else P(), params)


def shardings(mesh: Mesh, params: PyTree) -> PyTree:
    """The `NamedSharding` of every parameter, a tree of the same structure."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs(params), is_leaf=lambda x: isinstance(x, P))


def present(mesh: Mesh, table: PyTree) -> PyTree:
    """The same splits without the axes of size 1, as `shard_map` must see them: nothing varies over those."""

    def one(spec: P) -> P:
        def kept(entry):
            return tuple(a for a in ((entry,) if isinstance(entry, str) else entry or ()) if mesh.shape[a] > 1)

        return P(*[kept(entry) or None for entry in spec])

    return jax.tree.map(one, table, is_leaf=lambda x: isinstance(x, P))


def tokens_spec(schedule: str, pipe: int) -> P:
    """The split of a batch (micro-batch, batch, sequence) under a schedule."""
    return ACTIVATIONS["tokens_streamed" if schedule == "gpipe" and pipe > 1 else "tokens"]


def local_shape(spec: P, shape: tuple[int, ...], mesh: dict[str, int]) -> tuple[int, ...]:
    """One device's part of an array of this shape."""
    parts = [1] * len(shape)
    for dimension, entry in enumerate(spec):
        for axis in (entry,) if isinstance(entry, str) else entry or ():
            parts[dimension] *= mesh[axis]
    return tuple(n // part for n, part in zip(shape, parts, strict=True))


def fetch(params: PyTree, dtype: Any, *, gather: Callable[[tuple], bool] = lambda path: True) -> PyTree:
    """Inside `shard_map`: 16-bit copies of the matrices, made varying, then gathered over `fsdp` where asked.

    Marked before gathering, so that gradients are scattered over `fsdp` first and summed over `data` on the
    shard. Vectors (norms, biases) stay float32: they are small and precision in them is cheap.
    """

    def one(path, a):
        d = _dimension(leaf_spec(path))
        a = vary(a if d is None else a.astype(dtype))
        return a if d is None or not gather(path) else all_gather(a, "fsdp", d)

    return jax.tree_util.tree_map_with_path(one, params)


def gather_layer(layer: PyTree) -> PyTree:
    """Inside the layer loop, ZeRO-3: gather one layer's matrices over `fsdp`; gradients are scattered on the
    way back.
    """

    def one(path, a):
        d = _dimension(PARAMETERS[path[-1].key])
        return a if d is None else all_gather(a, "fsdp", d)

    return jax.tree_util.tree_map_with_path(one, layer)


def reduce(gradients: PyTree, *, scattered: Callable[[tuple], bool] = lambda path: False) -> PyTree:
    """Inside `shard_map`: scatter over `fsdp`, then sum over every axis that a leaf is not split over."""

    def one(path, g: Array):
        spec = leaf_spec(path)
        d = _dimension(spec)
        if d is not None and not scattered(path):
            g = sum_scatter(g, "fsdp", d)
        return total(g, tuple(axis for axis in AXES if axis not in spec))

    return jax.tree_util.tree_map_with_path(one, gradients)


def _dimension(spec: P) -> int | None:
    return spec.index("fsdp") if "fsdp" in spec else None

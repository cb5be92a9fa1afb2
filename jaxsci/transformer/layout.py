"""How a model is stored for a mesh: layers padded to whole stages, vocabulary padded to whole tiles.

Blocks are stacked (chunk, layer, ...) with the layers in their order, so that splitting the second axis over
`pipe` gives stage i of p the layers (c p + i) n ... (c p + i + 1) n - 1 of every chunk c: contiguous for one
chunk, circular for several. Padding holds zeros, is the identity in the forward pass, gets exactly zero
gradients, and therefore stays zero under any optimizer that maps zero to zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.parallel import ParallelConfig

TILE = 128  # rows of the vocabulary per device come in multiples of this: full tiles in the largest product


@dataclass(frozen=True)
class Layout:
    """`chunks` x `depth` stored layers and `vocabulary` stored rows."""

    chunks: int
    depth: int
    vocabulary: int

    @property
    def stored(self) -> int:
        return self.chunks * self.depth


def layout(model: ModelConfig, plan: ParallelConfig, mesh: Mapping[str, int]) -> Layout:
    """The smallest storage that splits evenly over `pipe` x virtual stages and over `tensor`."""
    places = mesh["pipe"] * plan.virtual
    each = -(-model.layers // places)
    tile = TILE * mesh["tensor"]
    return Layout(plan.virtual, each * mesh["pipe"], -(-model.vocabulary // tile) * tile)


def waste(model: ModelConfig, stored: Layout) -> float:
    """Share of the stored layers that are padding: time that stages spend on the identity."""
    return 1 - model.layers / stored.stored


def relayout(tree: PyTree, model: ModelConfig, new: Layout) -> PyTree:
    """Parameters, or optimizer state shaped like them, moved from whatever layout they have into `new`."""

    return jax.tree_util.tree_map_with_path(lambda path, a: relayout_leaf(path, a, model, new), tree)


def relayout_leaf(path: tuple, a: Array, model: ModelConfig, new: Layout) -> Array:
    """`relayout` of the one leaf at this tree path."""
    names = [getattr(entry, "key", getattr(entry, "name", "")) for entry in path]
    if "blocks" in names and jnp.ndim(a) >= 2:
        a = _resize(a.reshape(-1, *a.shape[2:]), model.layers, new.stored)
        return a.reshape(new.chunks, new.depth, *a.shape[1:])
    if names[-1] in ("embed", "head"):
        return _resize(a, model.vocabulary, new.vocabulary)
    return a


def _resize(a: Array, real: int, rows: int) -> Array:
    return jnp.pad(a[:real], [(0, rows - real)] + [(0, 0)] * (a.ndim - 1))

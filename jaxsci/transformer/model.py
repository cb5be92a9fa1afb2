"""The decoder: initial parameters, and what one device does with its part of them.

    x = embed[tokens] + position;   x = block_n(x), n = 1 ... l;   loss = cross-entropy(norm(x) head^T,
    targets)

The methods run inside one fully manual `shard_map` over (data, fsdp, pipe, tensor); on one device the same
mesh has four axes of size 1. Master parameters are float32 and travel as a plain nested dict.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxsci.transformer.attention import attention
from jaxsci.transformer.collectives import SequenceSharded
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.cross_entropy import IGNORED, cross_entropy, lookup
from jaxsci.transformer.deposit import deposit
from jaxsci.transformer.layers import Block, Norm, dropout
from jaxsci.transformer.layout import Layout
from jaxsci.transformer.parallel import ParallelConfig

f32 = jnp.float32
Activation = Float[Array, "batch shard width"]


def identity(x):
    """What is given, unchanged."""
    return x


def init(model: ModelConfig, stored: Layout, key: Key[Array, ""]) -> PyTree:
    """Float32 parameters in a layout. Bits depend on `key` alone: not on the mesh, not on the padding.

    Normal with deviation `initial_deviation`, divided by sqrt(2 layers) for the matrices that write into the
    residual stream (GPT-2).
    """
    tables, blocks = jax.random.split(key)
    embed, head, position = jax.random.split(tables, 3)

    def table(key, rows, real):
        values = model.initial_deviation * jax.random.normal(key, (rows, model.width), f32)
        return jnp.where(jnp.arange(rows)[:, None] < real, values, 0)

    params = {
        "embed": table(embed, stored.vocabulary, model.vocabulary),
        "norm": nnx.to_pure_dict(nnx.split(Norm(model))[1]),
        "blocks": init_blocks(model, stored, blocks),
    }
    if model.positions == "learned":
        params["position"] = table(position, model.sequence, model.sequence)
    if not model.tied:
        params["head"] = table(head, stored.vocabulary, model.vocabulary)
    return params


def init_blocks(model: ModelConfig, stored: Layout, key: Key[Array, ""]) -> PyTree:
    """The layers of `init`, stacked (chunk, layer, ...); padding is zero."""

    def layer(n):
        values = nnx.to_pure_dict(nnx.split(Block(model, jax.random.fold_in(key, n)))[1])
        return jax.tree.map(lambda a: jnp.where(n < model.layers, a, 0), values)

    stack = jax.vmap(layer)(jnp.arange(stored.stored))
    return jax.tree.map(lambda a: a.reshape(stored.chunks, stored.depth, *a.shape[1:]), stack)


def decays(params: PyTree) -> PyTree:
    """True for the leaves that weight decay acts on: matrices and tables, not norms or biases."""
    return jax.tree_util.tree_map_with_path(lambda path, _: not path[-1].key.endswith(("scale", "bias")), params)


@dataclass(frozen=True)
class Decoder:
    """The forward pass in pieces: `embed`, `stage` (a run of layers) and `loss`.

    Its first and last piece, `init` and `counted` are what another kind of sequence model replaces (`regression`).
    """

    model: ModelConfig
    plan: ParallelConfig

    init = staticmethod(init)

    @staticmethod
    def counted(targets: Int[Array, "batch sequence"]) -> Bool[Array, "batch sequence"]:
        """Which targets the loss is summed over."""
        return targets != IGNORED

    @cached_property
    def graphs(self) -> tuple[Any, Any]:
        """Structure of a block and of the final norm, split from their parameters once."""
        block = nnx.eval_shape(lambda: Block(self.model, jax.random.key(0)))
        return nnx.split(block)[0], nnx.split(nnx.eval_shape(lambda: Norm(self.model)))[0]

    def keys(self, key: Key[Array, ""] | None, sequences: Int[Array, " batch"]) -> Key[Array, " batch"] | None:
        """One dropout key per global sequence of this step; None when nothing is dropped."""
        if key is None or self.model.dropout == 0:
            return None
        return jax.vmap(partial(jax.random.fold_in, key))(sequences)

    def embed(self, e: PyTree, tokens: Int[Array, "batch sequence"], keys: Key[Array, " batch"] | None) -> Activation:
        """Tokens to activations; `e` holds the gathered tables."""
        x = SequenceSharded.leave(lookup(e["embed"], tokens))
        if "position" in e:
            x = x + e["position"]
        return dropout(x, self.model.dropout, self._layer_keys(keys, 0), 0)

    def stage(
        self,
        w: PyTree,
        x: Activation,
        first: Int[Array, ""] | int,
        keys: Key[Array, " batch"] | None,
        *,
        remat: Callable = identity,
        unpack: Callable[[PyTree], PyTree] = identity,
        padded: bool = False,
        totals: PyTree = None,
        row: Int[Array, ""] | int = 0,
    ) -> tuple[Activation, PyTree]:
        """The layers whose parameters are stacked in `w`, the first of them being layer `first` of the model.

        `unpack` turns one layer's slice of `w` into its weights; `remat` wraps a layer; layers at or beyond
        `model.layers` are skipped when the stack is `padded`. Gradients of the weights go to `totals`, layer by
        layer from `row` on (see `deposit`), which are returned with the activation.
        """

        @remat
        def layer(carry, slice_):
            (x, totals), (w, k) = carry, slice_
            n = first + k
            x = checkpoint_name(x, "layer_in")
            w, totals = deposit(w, totals, row + k)
            active = (n < self.model.layers).astype(x.dtype) if padded else 1.0
            return (self.block(unpack(w), x, active, self._layer_keys(keys, n + 1)), totals), None

        count = jax.tree.leaves(w)[0].shape[0]
        w = w if totals is None else lax.stop_gradient(w)  # here, not in the loop: there it would store a copy
        return lax.scan(layer, (x, totals), (w, jnp.arange(count)), unroll=self.plan.unroll)[0]

    def block(self, w: PyTree, x: Activation, active: Any, keys: Key[Array, " batch"] | None) -> Activation:
        """One layer on sequence-sharded activations."""
        attend = partial(attention, implementation=self.plan.attention, chunk=self.plan.chunk)
        positions = jnp.arange(x.shape[1] * lax.axis_size("tensor"))
        return nnx.merge(self.graphs[0], w)(x, positions, attend, SequenceSharded, active, keys)

    def loss(self, e: PyTree, x: Activation, targets: Int[Array, "batch sequence"]) -> Float[Array, ""]:
        """Cross-entropy in nats, summed over the targets that are not -1."""
        x = nnx.merge(self.graphs[1], e["norm"])(x)
        return cross_entropy(x, e.get("head", e["embed"]), targets, self.model.vocabulary, self.plan.loss_chunk)

    def _layer_keys(self, keys, n):
        """Key 0 is the embedding's, key n + 1 that of layer n."""
        return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, n))(keys)

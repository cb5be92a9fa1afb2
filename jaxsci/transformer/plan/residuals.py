"""What the backward pass of one layer finds stored: read from the layer's own derivative, traced and never run.

A formula such as 34 s b h counts the arrays of one implementation. Here the layer itself is differentiated on shapes,
and the arrays that its backward pass keeps are counted, whatever the recomputation, activation, norm or attention.
"""

from dataclasses import replace
from functools import lru_cache

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh
from jax.sharding import PartitionSpec as P

from jaxsci.transformer.collectives import AXES, vary
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.layout import TILE, Layout
from jaxsci.transformer.model import Decoder, init
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.pipeline import rematerialise, zeros
from jaxsci.transformer.sharding import local_shape, specs


def stored_arrays(
    model: ModelConfig, plan: ParallelConfig, tensor: int, sequences: int, remat: str
) -> tuple[jax.ShapeDtypeStruct, ...]:
    """What one layer keeps per device for `sequences` sequences under `remat` (`none`: everything), its weights
    excepted; first axis: the layer. `plan` gives precision and attention.
    """
    attention = "chunked" if plan.attention == "auto" else plan.attention
    same = ParallelConfig(precision=plan.precision, attention=attention, chunk=plan.chunk)
    return _stored(replace(model, layers=1), same, tensor, sequences, remat)


def stored_bytes(model: ModelConfig, plan: ParallelConfig, tensor: int, sequences: int, remat: str) -> int:
    """Bytes of `stored_arrays`."""
    return sum(a.size * a.dtype.itemsize for a in stored_arrays(model, plan, tensor, sequences, remat))


@lru_cache(maxsize=4096)
def _stored(model: ModelConfig, plan: ParallelConfig, tensor: int, sequences: int, remat: str):
    decoder, mesh = Decoder(model, plan), AbstractMesh((1, 1, 1, tensor), AXES)
    params = jax.eval_shape(lambda key: init(model, Layout(1, 1, TILE * tensor), key), jax.random.key(0))

    def weight(a, spec):
        shape = local_shape(spec, a.shape, dict(mesh.shape))[1:]  # one chunk
        return jax.ShapeDtypeStruct(shape, plan.dtype if "fsdp" in spec else a.dtype)

    w = jax.tree.map(weight, params["blocks"], specs(params)["blocks"])
    x = jax.ShapeDtypeStruct((sequences, model.sequence // tensor, model.width), plan.dtype)
    kept: tuple[jax.ShapeDtypeStruct, ...] = ()

    def layer(w, x, key):
        nonlocal kept
        w, x = jax.tree.map(vary, (w, x))
        keys = decoder.keys(key, jnp.arange(sequences))
        wrap = rematerialise(remat, "layer_in")
        _, pull = jax.vjp(lambda z, x: decoder.stage(w, x, 0, keys, remat=wrap, totals=z), zeros(w), x)
        weights = {(a.shape, a.dtype) for a in jax.tree.leaves(w)}
        arrays = [a for a in jax.tree.leaves(pull) if not jnp.issubdtype(a.dtype, jax.dtypes.extended)]  # no keys
        kept = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in arrays if (a.shape, a.dtype) not in weights)
        return 0.0

    spread = jax.shard_map(layer, mesh=mesh, in_specs=(P(), P(), P()), out_specs=P())
    jax.eval_shape(spread, w, x, jax.eval_shape(lambda: jax.random.key(0)))
    return kept

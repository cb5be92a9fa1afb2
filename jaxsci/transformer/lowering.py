"""The gradient program of a model on a mesh, lowered from shapes alone: nothing is allocated, nothing runs."""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.layout import layout
from jaxsci.transformer.model import init
from jaxsci.transformer.parallel import ParallelConfig, check
from jaxsci.transformer.pipeline import Batch
from jaxsci.transformer.sharding import shardings
from jaxsci.transformer.step import batch_sharding, make_gradients


def lower_gradients(model: ModelConfig, plan: ParallelConfig, mesh: Mesh, batch: int) -> jax.stages.Lowered:
    """For a global batch of `batch` sequences. `.compile().memory_analysis()` says what a device needs."""
    check(model, plan, mesh.shape, batch)
    stored = layout(model, plan, mesh.shape)
    params = jax.eval_shape(lambda key: init(model, stored, key), jax.random.key(0))
    params = jax.tree.map(
        lambda a, where: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where), params, shardings(mesh, params)
    )
    shape = (plan.microbatches, batch // plan.microbatches, model.sequence)
    tokens = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=batch_sharding(plan, mesh))
    gradients = jax.jit(make_gradients(model, plan, mesh))
    return gradients.lower(params, Batch(tokens, tokens), jax.random.key(0), jnp.float32(1))

"""The programs of a model on a mesh, traced and lowered from shapes alone: nothing is allocated, nothing runs.

`.lower().compile().memory_analysis()` of a traced step says what a device needs; its `.jaxpr` says what a device
computes, shapes inside `shard_map` being those of one device.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import PyTree

from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.layout import layout
from jaxsci.transformer.model import init
from jaxsci.transformer.parallel import ParallelConfig, check
from jaxsci.transformer.pipeline import Batch
from jaxsci.transformer.sharding import shardings
from jaxsci.transformer.step import batch_sharding, init_state, make_gradients, make_train_step


def lower_gradients(model: ModelConfig, plan: ParallelConfig, mesh: Mesh, batch: int) -> jax.stages.Lowered:
    """Loss and gradients of a global batch of `batch` sequences."""
    check(model, plan, mesh.shape, batch)
    stored = layout(model, plan, mesh.shape)
    params = placed(mesh, jax.eval_shape(lambda key: init(model, stored, key), jax.random.key(0)))
    gradients = jax.jit(make_gradients(model, plan, mesh))
    return gradients.lower(params, batch_shapes(model, plan, mesh, batch), jax.random.key(0), jnp.float32(1))


def trace_step(
    model: ModelConfig,
    plan: ParallelConfig,
    mesh: Any,
    batch: int,
    optimizer: optax.GradientTransformation | None = None,
) -> jax.stages.Traced:
    """The whole train step, update included and state donated, for a global batch of `batch` sequences.

    `optimizer`: Adam when None. `mesh`: a `Mesh`, of devices or of a topology's, or an `AbstractMesh`.
    """
    check(model, plan, mesh.shape, batch)
    optimizer = optax.adam(1e-3) if optimizer is None else optimizer
    key = jax.eval_shape(partial(jax.random.key, 0))
    state = placed(mesh, jax.eval_shape(partial(init_state, model, plan, mesh, optimizer), key))
    return make_train_step(model, plan, mesh, optimizer).trace(state, batch_shapes(model, plan, mesh, batch))


def lower_step(
    model: ModelConfig,
    plan: ParallelConfig,
    mesh: Mesh,
    batch: int,
    optimizer: optax.GradientTransformation | None = None,
) -> jax.stages.Lowered:
    """`trace_step`, lowered for the platform of the mesh's devices."""
    return trace_step(model, plan, mesh, batch, optimizer).lower()


def placed(mesh: Any, shapes: PyTree) -> PyTree:
    """The same shapes, each with the place its array has on the mesh."""
    return jax.tree.map(
        lambda a, where: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where), shapes, shardings(mesh, shapes)
    )


def batch_shapes(model: ModelConfig, plan: ParallelConfig, mesh: Any, batch: int) -> Batch:
    """Shapes and sharding of one step's tokens and targets, (microbatches, sequences, positions), without any data."""
    shape = (plan.microbatches, batch // plan.microbatches, model.sequence)
    tokens = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=batch_sharding(plan, mesh))
    return Batch(tokens, tokens)

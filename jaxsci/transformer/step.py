"""One train step for every mesh: gather, run the schedule, reduce, clip, update.

    state = init_state(model, plan, mesh, optimizer, key)
    step = make_train_step(model, plan, mesh, optimizer)
    state, metrics = step(state, batch)

Forward and backward run in one `shard_map` manual over all axes. The optimizer runs outside it on sharded
global arrays, so a global norm counts every distinct shard once and every optax rule works unchanged. The
state is that of `jaxsci.core.train`, and `make_update` is what its `HostStep` drives.

`kind` is the sequence model: the `Decoder` of tokens, or another with its methods (`regression.Regressor`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Key, PyTree

from jaxsci.core.trainstep import TrainState
from jaxsci.transformer.collectives import AXES, total, varying
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.layout import layout
from jaxsci.transformer.loss_scale import ScaledState, skip_overflow
from jaxsci.transformer.model import Decoder
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.pipeline import Batch, accumulate, one_forward_one_backward, streamed, streamed_loss
from jaxsci.transformer.sharding import fetch, present, reduce, shardings, specs, tokens_spec

f32 = jnp.float32


def batch_sharding(plan: ParallelConfig, mesh: Mesh) -> NamedSharding:
    """Where the token arrays (micro-batch, batch, sequence) of a `Batch` must lie."""
    return NamedSharding(mesh, tokens_spec(plan.schedule, mesh.shape["pipe"]))


def init_state(
    model: ModelConfig,
    plan: ParallelConfig,
    mesh: Mesh,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""],
    *,
    kind: type[Decoder] = Decoder,
) -> TrainState:
    """The state at step 0, made where it lies. The real parameters have the same bits on every mesh.

    Dropout of step n draws from `fold_in(state.key, n)`.
    """
    stored, optimizer = layout(model, plan, mesh.shape), _for_precision(optimizer, plan)

    def make(key):
        params = kind.init(model, stored, key)
        return TrainState(jnp.int32(0), params, optimizer.init(params), jax.random.fold_in(key, 1))

    return jax.jit(make, out_shardings=shardings(mesh, jax.eval_shape(make, key)))(key)


def make_gradients(
    model: ModelConfig, plan: ParallelConfig, mesh: Mesh, *, fill: float = 0.0, kind: type[Decoder] = Decoder
) -> Callable:
    """`gradients(params, batch, key, scale) -> (loss, gradients)`: mean loss (of tokens: nats) per counted target.

    `key` is this step's dropout key; `scale` multiplies the loss before differentiation and divides the
    gradients after it (1 unless float16). `fill` fills pipeline buffers before first use; nothing depends on
    it.
    """
    decoder, pipe = kind(model, plan), mesh.shape["pipe"]

    def per_layer(path):
        return plan.zero == 3 and "blocks" in [getattr(entry, "key", "") for entry in path]

    def local(params, batch, key, scale):
        tables = fetch(params, plan.dtype, gather=lambda path: not per_layer(path))
        blocks = tables.pop("blocks")
        count = decoder.counted(batch.targets).sum()
        count = jnp.maximum(total(count, varying(count)), 1).astype(f32)
        if pipe == 1:
            loss, gw, ge = accumulate(decoder, blocks, tables, batch, key, scale / count)
        else:
            schedule = streamed if plan.schedule == "gpipe" else one_forward_one_backward
            loss, gw, ge = schedule(decoder, blocks, tables, batch, key, scale / count, fill)
        gradients = reduce(ge | {"blocks": gw}, scattered=per_layer)
        return total(loss, AXES[:3]) / scale, jax.tree.map(lambda g: g / scale, gradients)

    def gradients(params, batch, key, scale):
        table, tokens = specs(params), tokens_spec(plan.schedule, pipe)
        inward, outward = (table, jax.tree.map(lambda _: tokens, batch), P(), P()), (P(), table)
        spread = jax.shard_map(local, mesh=mesh, in_specs=present(mesh, inward), out_specs=present(mesh, outward))
        return spread(params, batch, key, scale)

    return gradients


def make_update(
    model: ModelConfig,
    plan: ParallelConfig,
    mesh: Mesh,
    optimizer: optax.GradientTransformation,
    *,
    kind: type[Decoder] = Decoder,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """The pure `update(state, batch) -> (state, metrics)`: one training step, on any mesh.

    Metrics, scalars on the device: `loss` (per counted target; of tokens in nats) and `gradient_norm` (global, before
    clipping). float16 adds `loss_scale`, with which this step was made, and `skipped`, 1 when gradients
    overflowed: such a step changes nothing but the scale, and its norm is given as 0.
    """
    gradients, optimizer = make_gradients(model, plan, mesh, kind=kind), _for_precision(optimizer, plan)

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Array]]:
        scaled = isinstance(state.opt_state, ScaledState)
        scale = state.opt_state.scale.value if scaled else jnp.float32(1)
        loss, g = gradients(state.params, batch, jax.random.fold_in(state.key, state.step), scale)
        changes, opt_state = optimizer.update(g, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        norm = optax.tree.norm(g)
        metrics = {"loss": loss, "gradient_norm": norm}
        if scaled:  # an overflow is part of the search for the scale, no reason to stop the run
            finite = jnp.isfinite(norm)
            metrics |= {
                "gradient_norm": jnp.where(finite, norm, 0),
                "loss_scale": scale,
                "skipped": 1.0 - finite,
            }
        after = TrainState(state.step + 1, params, opt_state, state.key)
        return lax.with_sharding_constraint(after, shardings(mesh, after)), metrics

    return update


def make_train_step(
    model: ModelConfig,
    plan: ParallelConfig,
    mesh: Mesh,
    optimizer: optax.GradientTransformation,
    *,
    kind: type[Decoder] = Decoder,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """`make_update`, jitted; the state passed in is donated."""
    return jax.jit(make_update(model, plan, mesh, optimizer, kind=kind), donate_argnums=0)


def _for_precision(optimizer: optax.GradientTransformation, plan: ParallelConfig) -> optax.GradientTransformation:
    return skip_overflow(optimizer) if plan.precision == "float16" else optimizer


def make_evaluate(
    model: ModelConfig, plan: ParallelConfig, mesh: Mesh, *, kind: type[Decoder] = Decoder
) -> Callable[[PyTree, Batch], Float[Array, ""]]:
    """A jitted `evaluate(params, batch) -> loss`, mean per counted target (of tokens: nats), without dropout.

    Forward only, streamed over the stages: the micro-batches of the batch must be a multiple of `pipe`.
    """
    decoder, tokens = kind(model, plan), tokens_spec("gpipe", mesh.shape["pipe"])

    def local(params, batch):
        tables = fetch(params, plan.dtype)
        blocks = tables.pop("blocks")
        count = decoder.counted(batch.targets).sum()
        loss, _ = streamed_loss(decoder, blocks, tables, batch, None)
        return total(loss, AXES[:3]) / jnp.maximum(total(count, varying(count)), 1)

    def evaluate(params, batch):
        inward = present(mesh, (specs(params), jax.tree.map(lambda _: tokens, batch)))
        return jax.shard_map(local, mesh=mesh, in_specs=inward, out_specs=P())(params, batch)

    return jax.jit(evaluate)

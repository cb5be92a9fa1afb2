"""The train step: one norm whatever the mesh, sharded gradients and state, loss scaling, evaluation."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import transformer_cases as cases
from transformer_cases import GPT

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.train import fit
from jaxsci.core.trainstep import HostStep
from jaxsci.transformer.data import Windows
from jaxsci.transformer.layout import Layout, layout, relayout
from jaxsci.transformer.loss_scale import FIRST, LARGEST, PATIENCE, LossScale, adjust
from jaxsci.transformer.model import decays
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.sharding import PARAMETERS, leaf_spec, local_shape
from jaxsci.transformer.step import batch_sharding, init_state, make_train_step, make_update


@pytest.mark.parametrize("shape", [(2, 2, 2, 1), (1, 2, 2, 2), (8, 1, 1, 1), (1, 1, 1, 8)])
def test_the_gradient_norm_counts_every_shard_once(shape):
    _, g = cases.reference(GPT)
    exact = np.sqrt(sum(float((leaf.astype(np.float64) ** 2).sum()) for leaf in jax.tree.leaves(g)))
    plan, on = ParallelConfig(microbatches=2), cases.mesh(shape)
    rule = optax.sgd(0.0)
    state = init_state(GPT, plan, on, rule, jax.random.key(0))._replace(params=cases.placed(GPT, plan, on))
    _, metrics = make_train_step(GPT, plan, on, rule)(state, cases.place(GPT, plan, on, *cases.tokens(GPT)))
    assert float(metrics["gradient_norm"]) == pytest.approx(exact, rel=1e-6)


def test_state_stays_where_the_table_says():
    """Parameters and both Adam moments, before and after a step; each device holds its part and no more."""
    plan, on, rule = ParallelConfig(microbatches=2), cases.mesh((1, 2, 2, 2)), optax.adam(1e-3)
    state = init_state(GPT, plan, on, rule, jax.random.key(0))
    after, _ = make_train_step(GPT, plan, on, rule)(state, cases.place(GPT, plan, on, *cases.tokens(GPT)))
    moments = after.opt_state[0]
    for tree in (after.params, moments.mu, moments.nu):
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            part = local_shape(leaf_spec(path), leaf.shape, on.shape)
            assert {shard.data.shape for shard in leaf.addressable_shards} == {part}
    matrices = [path for path, leaf in jax.tree_util.tree_leaves_with_path(after.params) if "fsdp" in leaf_spec(path)]
    assert len(matrices) == 6 and {path[-1].key for path in matrices} <= set(PARAMETERS)


def test_padding_is_never_moved():
    """Vocabulary rows beyond 101 and layers beyond 7 stay zero under Adam with decay."""
    model, plan = replace(GPT, layers=7), ParallelConfig(microbatches=4)
    on, rule = cases.mesh((1, 2, 2, 2)), optax.adamw(1e-2, weight_decay=0.1, mask=decays)
    state, step = init_state(model, plan, on, rule, jax.random.key(0)), make_train_step(model, plan, on, rule)
    for _ in range(3):
        state, _ = step(state, cases.place(model, plan, on, *cases.tokens(model)))
    params = jax.device_get(state.params)
    assert (params["embed"][101:] == 0).all() and np.abs(params["embed"][:101]).max() > 0
    assert all((leaf[0, 7:] == 0).all() for leaf in jax.tree.leaves(params["blocks"]))


def test_a_state_moves_to_another_layout_and_back():
    """(1, 8, 128) -> (2, 4, 256) -> back: parameters and optimizer state, bit for bit."""
    plan, on, rule = ParallelConfig(), cases.mesh((1, 1, 1, 1)), optax.adam(1e-3)
    state = init_state(GPT, plan, on, rule, jax.random.key(0))
    state, _ = make_train_step(GPT, plan, on, rule)(state, cases.place(GPT, plan, on, *cases.tokens(GPT)))
    held = state.params, state.opt_state
    moved = relayout(held, GPT, Layout(2, 5, 256))
    assert moved[0]["blocks"]["attention"]["qkv"].shape[:2] == (2, 5)
    assert moved[1][0].mu["embed"].shape == (256, GPT.width)
    back = relayout(moved, GPT, layout(GPT, plan, on.shape))
    jax.tree.map(np.testing.assert_array_equal, back, held)


def test_decay_spares_norms_and_biases():
    marks = jax.tree_util.tree_leaves_with_path(decays(cases.initial(GPT)))
    spared = {path[-1].key for path, mark in marks if not mark}
    assert spared == {"scale", "bias", "qkv_bias", "out_bias", "up_bias", "down_bias"}
    assert {path[-1].key for path, mark in marks if mark} == {"embed", "position", "qkv", "out", "up", "down"}


def test_the_loss_scale_halves_on_overflow_and_doubles_after_patience():
    scale = LossScale(jnp.float32(FIRST), jnp.int32(0))
    assert float(adjust(scale, jnp.array(False)).value) == FIRST / 2
    patient = adjust(scale._replace(finite=jnp.int32(PATIENCE - 1)), jnp.array(True))
    assert (float(patient.value), int(patient.finite)) == (2 * FIRST, 0)
    assert int(adjust(scale, jnp.array(True)).finite) == 1
    top = LossScale(jnp.float32(LARGEST), jnp.int32(PATIENCE - 1))
    assert float(adjust(top, jnp.array(True)).value) == LARGEST
    assert float(adjust(LossScale(jnp.float32(1), jnp.int32(0)), jnp.array(False)).value) == 1


def test_float16_skips_an_overflow_and_then_learns():
    plan, on, rule = ParallelConfig(precision="float16"), cases.mesh((1, 1, 1, 2)), optax.adam(1e-2)
    state, step = init_state(GPT, plan, on, rule, jax.random.key(0)), make_train_step(GPT, plan, on, rule)
    huge = LossScale(jnp.float32(2.0**40), jnp.int32(0))
    state = state._replace(opt_state=state.opt_state._replace(scale=huge))
    before = jax.device_get(state.params)
    batch = cases.place(GPT, plan, on, *cases.tokens(GPT))
    state, metrics = step(state, batch)
    assert float(metrics["skipped"]) == 1 and float(metrics["gradient_norm"]) == 0
    assert float(state.opt_state.scale.value) == 2.0**39
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), before)
    state = state._replace(opt_state=state.opt_state._replace(scale=LossScale(jnp.float32(FIRST), jnp.int32(0))))
    losses = []
    for _ in range(10):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
        assert float(metrics["skipped"]) == 0
    assert losses[-1] < losses[0] - 0.3  # nats, the same batch ten times


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_masters():
    loss, g, _ = cases.gradients(GPT, ParallelConfig(precision="bfloat16"), (1, 1, 1, 2))
    expected, exact = cases.reference(GPT)
    assert loss == pytest.approx(expected, rel=1e-2)  # 8 bits of mantissa
    assert 1e-4 < cases.largest_difference(g, exact) < 0.1  # not float32 by mistake, and not wrong
    assert all(leaf.dtype == np.float32 for leaf in jax.tree.leaves(g))


def test_the_core_loop_drives_the_same_step(tmp_path):
    """Several updates per dispatch, a save, and a resumption: the curve of plain calls, bit for bit."""
    plan, on, rule = ParallelConfig(microbatches=2), cases.mesh((1, 2, 2, 1)), optax.adam(1e-3)
    windows = Windows(np.random.default_rng(0).integers(0, GPT.vocabulary, 5000), GPT.sequence)
    where = batch_sharding(plan, on)

    def load(n):
        return windows.batch(n, 8, plan.microbatches, where)

    state, step, plain = (
        init_state(GPT, plan, on, rule, jax.random.key(0)),
        make_train_step(GPT, plan, on, rule),
        [],
    )
    for n in range(6):
        state, metrics = step(state, jax.device_put(load(n), where))
        plain.append(float(metrics["loss"]))

    rows = {}
    for until in (4, 6):
        kept = Checkpoints(tmp_path / "checkpoints")
        driven = HostStep(make_update(GPT, plan, on, rule), load, steps_per_dispatch=2, sharding=where)
        start = init_state(GPT, plan, on, rule, jax.random.key(0))
        end = fit(
            start,
            driven,
            steps=until,
            log_every=1,
            save_every=4,
            checkpoints=kept,
            on_log=lambda row, n: rows.__setitem__(n, row["loss"]),
        )
        kept.close()
    assert int(end.stats["resumed_from"]) == 4 and int(end.state.step) == 6
    # One program per dispatch of two steps against one per step: the compiler may fuse differently.
    np.testing.assert_allclose([rows[n] for n in range(1, 7)], plain, rtol=1e-6)

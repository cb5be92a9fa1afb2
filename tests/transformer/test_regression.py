"""The decoder on vectors: the same on every mesh, causal, and differentiable forward and backward outside of one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.transformer.model import decays
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.pipeline import Batch
from jaxsci.transformer.regression import RegressionConfig, Regressor, gathered, predict
from jaxsci.transformer.step import batch_sharding, init_state, make_evaluate, make_gradients, make_train_step

MODEL = RegressionConfig(layers=2, width=16, heads=2, sequence=4, inputs=3, outputs=5)
OPTIMIZER = OptimizerConfig("adamw", learning_rate=1e-2, weight_decay=0.1)
KEY = jax.random.key(0)


def batch(microbatches: int = 2, size: int = 4) -> Batch:
    """Some targets are missing."""
    rng = np.random.default_rng(0)
    shape = (microbatches, size, MODEL.sequence)
    targets = rng.standard_normal((*shape, MODEL.outputs)).astype(np.float32)
    return Batch(
        rng.standard_normal((*shape, MODEL.inputs)).astype(np.float32),
        np.where(rng.uniform(size=targets.shape) < 0.2, np.nan, targets),
    )


def stirred(params):
    """Parameters none of which is zero: outputs start at zero, and a zero hides mistakes."""
    leaves, structure = jax.tree.flatten(params)
    return structure.unflatten(
        [a + 0.1 * np.random.default_rng(n).standard_normal(a.shape) for n, a in enumerate(leaves)]
    )


def plain_loss(params, data: Batch):
    """Mean squared error of `predict`, without a mesh."""
    inputs, targets = (jnp.asarray(a.reshape(-1, *a.shape[2:])) for a in data)
    said = jax.vmap(lambda series: predict(MODEL, params, series))(inputs)
    counted = ~jnp.isnan(targets)
    return jnp.sum(jnp.where(counted, said - jnp.nan_to_num(targets), 0) ** 2) / counted.sum()


@pytest.mark.parametrize(
    ("axes", "plan"),
    [
        ({}, ParallelConfig(microbatches=2)),
        ({"data": 2, "fsdp": 2, "tensor": 2}, ParallelConfig(microbatches=2)),
        pytest.param({"fsdp": 2, "tensor": 2}, ParallelConfig(microbatches=2, zero=3), marks=pytest.mark.slow),
        ({"fsdp": 2, "pipe": 2, "tensor": 2}, ParallelConfig(microbatches=2)),
        pytest.param(
            {"pipe": 2, "tensor": 2}, ParallelConfig(microbatches=2, schedule="gpipe"), marks=pytest.mark.slow
        ),
    ],
    ids=["one", "data_fsdp_tensor", "zero3", "1f1b", "gpipe"],
)
def test_loss_and_gradients_on_a_mesh_are_those_of_the_plain_function(axes, plan):
    config = MeshConfig(**({"data": 1} | axes))
    size = int(np.prod(list(axes.values()), initial=1))
    mesh, data = make_mesh(config, jax.devices()[:size]), batch()
    state = init_state(MODEL, plan, mesh, OPTIMIZER.build(10), KEY, kind=Regressor)
    params = jax.tree.map(
        lambda a, like: jax.device_put(np.asarray(a, np.float32), like.sharding), stirred(state.params), state.params
    )
    placed = jax.device_put(data, batch_sharding(plan, mesh))
    gradients = make_gradients(MODEL, plan, mesh, kind=Regressor)
    loss, found = jax.jit(gradients)(params, placed, KEY, jnp.float32(1))
    expected, wanted = jax.value_and_grad(plain_loss)(gathered(MODEL, params), data)
    # float32: sums of a hundred products in another order
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    found = gathered(MODEL, found)
    for (path, a), b in zip(jax.tree_util.tree_flatten_with_path(found)[0], jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6, err_msg=str(path))
    evaluated = make_evaluate(MODEL, plan, mesh, kind=Regressor)(
        params, jax.device_put(data, batch_sharding(replace(plan, schedule="gpipe"), mesh))
    )
    np.testing.assert_allclose(evaluated, expected, rtol=1e-5)


def test_training_starts_at_zero_and_learns_a_linear_filter():
    mesh, plan = make_mesh(MeshConfig(data=1), jax.devices()[:1]), ParallelConfig()
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((1, 64, MODEL.sequence, MODEL.inputs)).astype(np.float32)
    mixing = rng.standard_normal((MODEL.inputs, MODEL.outputs)).astype(np.float32)
    data = Batch(inputs, 0.5 * inputs @ mixing)
    state = init_state(MODEL, plan, mesh, OPTIMIZER.build(200, decay_mask=decays), KEY, kind=Regressor)
    step = make_train_step(MODEL, plan, mesh, OPTIMIZER.build(200, decay_mask=decays), kind=Regressor)
    losses = []
    for _ in range(200):
        state, metrics = step(state, data)
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(losses[0], np.mean(data.targets**2), rtol=1e-5)  # all outputs are zero
    assert losses[-1] < 0.1 * losses[0]


def test_an_output_depends_on_its_past_alone_and_derivatives_agree(x64):
    params = stirred(
        jax.tree.map(
            np.asarray,
            gathered(
                MODEL,
                init_state(
                    MODEL,
                    ParallelConfig(),
                    make_mesh(MeshConfig(data=1), jax.devices()[:1]),
                    OPTIMIZER.build(1),
                    KEY,
                    kind=Regressor,
                ).params,
            ),
        )
    )
    series = jnp.asarray(np.random.default_rng(2).standard_normal((MODEL.sequence, MODEL.inputs)))

    def says(series):
        return predict(MODEL, params, series)

    forward, backward = jax.jacfwd(says)(series), jax.jacrev(says)(series)
    assert forward.dtype == jnp.float64
    np.testing.assert_allclose(forward, backward, atol=1e-13)  # rounding of float64
    for now in range(MODEL.sequence):
        assert np.all(forward[now, :, now + 1 :] == 0) and np.all(np.any(forward[now, :, : now + 1] != 0, axis=(0, 2)))
    tangent = jnp.asarray(np.random.default_rng(3).standard_normal(series.shape))
    step = 1e-5
    differences = (says(series + step * tangent) - says(series - step * tangent)) / (2 * step)
    # central differences: error h^2 f''' and rounding over h, both near 1e-10
    np.testing.assert_allclose(jnp.einsum("aobi,bi->ao", forward, tangent), differences, atol=1e-8)


def test_numbers_of_inputs_are_checked():
    with pytest.raises(ConfigError, match="outputs"):
        RegressionConfig(layers=1, width=8, heads=1, sequence=2, inputs=2, outputs=0)

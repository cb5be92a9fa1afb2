"""Optimizers: the course of the learning rate, clipping, decay and each rule's first step in closed form."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.core.optimizer import OptimizerConfig


def rates(config, total, at):
    return [float(config.learning_rate_at(total)(step)) for step in at]


def test_schedules_have_their_closed_forms():
    course = {"learning_rate": 2.0, "warmup_steps": 10, "final_fraction": 0.1}
    at = [0, 5, 10, 35, 60, 110, 200]
    # constant; cosine from 2 to 0.2 over 100 steps: 0.2 + 0.9 (1 + cos(pi s / 100)); linear: 2 - 1.8 s / 100
    cosine = [0.2 + 0.9 * (1 + np.cos(np.pi * s / 100)) for s in (25, 50)]
    expected = {
        "constant": [0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0],
        "cosine": [0.0, 1.0, 2.0, *cosine, 0.2, 0.2],
        "linear": [0.0, 1.0, 2.0, 1.55, 1.1, 0.2, 0.2],
    }
    for schedule, values in expected.items():
        found = rates(OptimizerConfig(schedule=schedule, **course), 110, at)
        np.testing.assert_allclose(found, values, rtol=1e-5, err_msg=schedule)  # evaluated in float32


def test_without_warmup_the_first_step_has_the_peak():
    assert rates(OptimizerConfig(schedule="cosine", learning_rate=0.5), 10, [0, 10]) == [0.5, 0.0]


def test_warmup_as_long_as_the_training_or_longer():
    assert rates(OptimizerConfig(schedule="cosine", warmup_steps=4, learning_rate=1.0), 4, [0, 2, 4]) == [
        0,
        0.5,
        1,
    ]
    with pytest.raises(ConfigError, match="at most the 3 steps of training, got 4"):
        OptimizerConfig(warmup_steps=4).build(3)


def first_update(config, params, gradient, total=10) -> Any:
    optimizer = config.build(total)
    return optimizer.update(gradient, optimizer.init(params), params)[0]


def test_gradients_are_clipped_by_their_global_norm():
    config = OptimizerConfig(name="sgd", b1=0.0, learning_rate=1.0, clip_norm=1.0)
    params = {"a": jnp.zeros(2), "b": jnp.zeros(1)}
    long = {"a": jnp.array([2.0, 4.0]), "b": jnp.array([4.0])}  # norm 6
    update = first_update(config, params, long)
    np.testing.assert_allclose(optax.tree.norm(update), 1.0, rtol=1e-6)
    np.testing.assert_allclose(update["a"], [-1 / 3, -2 / 3], rtol=1e-6)
    short = jax.tree.map(lambda leaf: leaf / 60, long)
    jax.tree.map(lambda u, g: np.testing.assert_array_equal(u, -g), first_update(config, params, short), short)


@pytest.mark.parametrize("name", ["adam", "adamw", "lion"])
def test_first_step_follows_the_sign(name):
    update = first_update(OptimizerConfig(name=name, learning_rate=0.1), jnp.zeros(3), jnp.array([3.0, -0.2, 50.0]))
    # adam divides by |g| + 1e-8, up to its float32 bias correction
    np.testing.assert_allclose(update, [-0.1, 0.1, -0.1], rtol=1e-5)


def test_sgd_has_momentum():
    config = OptimizerConfig(name="sgd", b1=0.5, learning_rate=1.0)
    optimizer, gradient = config.build(10), jnp.float32(1.0)
    state, position = optimizer.init(gradient), jnp.float32(0.0)
    for _ in range(3):
        update, state = optimizer.update(gradient, state, gradient)
        position = optax.apply_updates(position, update)
    assert position == -(1 + 1.5 + 1.75)


def test_decay_is_decoupled_scheduled_and_masked():
    config = OptimizerConfig(name="adamw", learning_rate=0.5, weight_decay=0.1, clip_norm=1.0)
    params, gradient = {"w": jnp.ones(2), "b": jnp.ones(1)}, {"w": jnp.zeros(2), "b": jnp.zeros(1)}
    optimizer = config.build(10, decay_mask={"w": True, "b": False})
    update: Any = optimizer.update(gradient, optimizer.init(params), params)[0]
    np.testing.assert_allclose(update["w"], -0.05, rtol=1e-6)
    np.testing.assert_array_equal(update["b"], 0.0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": "adma"}, "^name: "),
        ({"learning_rate": 0.0}, "^learning_rate: "),
        ({"schedule": "cosin"}, "^schedule: "),
        ({"warmup_steps": -1}, "^warmup_steps: "),
        ({"final_fraction": 1.5}, "^final_fraction: "),
        ({"weight_decay": 0.1}, "use name=adamw"),
        ({"clip_norm": 0.0}, "^clip_norm: "),
        ({"b1": 1.0}, "^b1: "),
    ],
)
def test_refusals_name_the_field(fields, said):
    with pytest.raises(ConfigError, match=said):
        OptimizerConfig(**fields)

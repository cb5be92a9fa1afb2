"""Training: better than linear where there is more than linear, frozen where promised, never worse than the start."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.emulators import fit_linear
from jaxsci.emulators.delay import training_pairs
from jaxsci.emulators.skill import forecast_all
from jaxsci.emulators.training import RecurrentConfig, train_recurrent

QUICK = RecurrentConfig(
    lags=2,
    width=8,
    members=2,
    steps=80,
    batch_size=32,
    input_noise=0.02,
    evaluate_every=10,
    patience=8,
    optimizer=OptimizerConfig("adamw", learning_rate=1e-2, weight_decay=0.1, clip_norm=1.0),
)


def bent(days, seed):
    """A two-mode map that folds back: a linear model sees little of it."""
    rng = np.random.default_rng(seed)
    x = [rng.uniform(-1, 1, 2)]
    for _ in range(days - 1):
        u, v = x[-1]
        x.append(np.array([1 - 1.2 * u**2 + 0.2 * v, 0.6 * u]))  # a tame Henon map
    return 10 * np.array(x)


@pytest.fixture(scope="module")
def outcome():
    train, validation = bent(400, 0), bent(120, 1)
    linear = fit_linear(train, validation, lags=2, leads=2, ridges=(1e-6, 1e-2))
    logged = []
    found = train_recurrent(
        train, validation, linear, QUICK, key=jax.random.key(0), on_log=lambda m, s: logged.append((m, s))
    )
    return train, validation, linear, found, logged


def validation_loss(emulator, train, validation):
    states, targets = (jnp.asarray(a, jnp.float32) for a in training_pairs(validation, 2, 2))
    error = np.asarray(forecast_all(emulator, states)) - targets
    return np.mean(np.sum(error**2, -1)) / np.sum(train.std(0) ** 2)


def test_learns_what_a_linear_model_cannot(outcome):
    train, validation, linear, found, _ = outcome
    assert found.validation_loss < 0.8 * validation_loss(linear, train, validation)


def test_returns_the_ensemble_of_its_best_evaluation(outcome):
    train, validation, _, found, logged = outcome
    # Both in float32, the one inside a larger program.
    np.testing.assert_allclose(validation_loss(found.emulator, train, validation), found.validation_loss, rtol=1e-4)
    seen = {step: metrics["validation_loss"] for metrics, step in logged if "validation_loss" in metrics}
    assert found.best_step > 0 and found.best_step == min(seen, key=lambda step: seen[step])
    np.testing.assert_allclose(seen[found.best_step], found.validation_loss, rtol=1e-6)


def test_the_linear_forecast_and_the_scale_stay_fixed(outcome):
    train, _, linear, found, _ = outcome
    members = found.emulator.members
    for member in range(QUICK.members):
        # Weight decay would have shrunk them by several per cent.
        np.testing.assert_array_equal(members.skip[member], linear.maps.astype(np.float32))
        np.testing.assert_array_equal(members.scale[member], train.std(0).astype(np.float32))


def test_members_differ(outcome):
    weights = outcome[3].emulator.members.encoder.weight_hh
    assert np.abs(weights[0] - weights[1]).max() > 1e-2


def test_hopeless_training_returns_the_linear_forecast():
    days = np.random.default_rng(0).normal(size=(2000, 2))  # nothing to learn
    linear = fit_linear(days[:80], days[80:], lags=2, leads=2, ridges=(1e6,))  # the best: nearly zero
    wild = replace(QUICK, steps=60, patience=2, optimizer=OptimizerConfig("adamw", learning_rate=0.3))
    found = train_recurrent(days[:80], days[80:], linear, wild, key=jax.random.key(1))
    assert found.best_step == 0
    states = jnp.asarray(training_pairs(days, 2, 2)[0], jnp.float32)
    # The mean of two equal float32 forecasts
    np.testing.assert_allclose(forecast_all(found.emulator, states), forecast_all(linear, states), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lags": 0}, "lags"),
        ({"width": 0}, "width"),
        ({"members": -1}, "members"),
        ({"input_noise": -0.1}, "input_noise"),
    ],
)
def test_ranges(changes, said):
    with pytest.raises(ConfigError, match=said):
        RecurrentConfig(**changes)


def test_lags_other_than_the_linear_model_has():
    days = bent(60, 2)
    linear = fit_linear(days, days, lags=2, leads=2, ridges=(1e-3,))
    with pytest.raises(ConfigError, match="lags: expected 2, those of the linear model, got 3"):
        train_recurrent(days, days, linear, RecurrentConfig(lags=3), key=jax.random.key(0))

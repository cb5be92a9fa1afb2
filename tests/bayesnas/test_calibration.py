"""Calibration errors and their floors, temperature, selection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.bayesnas import calibration as c
from jaxsci.bayesnas.selection import greedy, stacking
from jaxsci.bayesnas.temperature import fit_temperature, sharpen

KEY = jax.random.key(0)


def test_errors_of_a_hand_made_case():
    confidence = jnp.array([0.95, 0.95, 0.55, 0.55])
    correct = jnp.array([1.0, 1.0, 1.0, 0.0])
    # Two bins: |.95 - 1| and |.55 - .5|, each with half of the examples.
    assert c.equal_width_error(confidence, correct) == pytest.approx(0.05, abs=1e-6)
    assert c.equal_mass_error(confidence, correct, bins=2) == pytest.approx(0.05, abs=1e-6)
    assert c.equal_mass_error(confidence, correct, bins=1) == pytest.approx(0.0, abs=1e-6)


def test_probabilities_of_exactly_zero_and_one():
    p = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    scores = c.scores(p, jnp.array([0, 1, 1]))
    assert all(np.isfinite(value) for value in scores)
    assert scores.ece == pytest.approx(1 / 3, abs=1e-6) and scores.gap == pytest.approx(1 / 3, abs=1e-6)
    assert scores.brier == pytest.approx(2 / 3, abs=1e-6) and scores.nll == pytest.approx(-np.log(c.TINY) / 3, rel=1e-4)
    assert np.isfinite(c.scores(sharpen(p, 0.5), jnp.array([0, 1, 1])).nll)


# Simulated by the specification with 300 repetitions: confidence ~ Beta(7, 0.33), mean and deviation of the error.
@pytest.mark.parametrize(
    "count, width, deviation, mass", [(900, 0.0138, 0.004, 0.0155), (2000, 0.0090, 0.0026, 0.0104)]
)
def test_floor_of_perfect_calibration(count, width, deviation, mass):
    floors = []
    for seed in range(6):
        key = jax.random.key(seed)
        confidence = jnp.clip(jax.random.beta(key, 7.0, 0.33, (count,)), 0, 1)
        floors.append(c.floor(confidence, draws=300, key=key))
    # standard error of 6 x 300 repetitions about 1e-4, spread between confidence samples about 3e-4
    assert np.mean([f.ece for f in floors]) == pytest.approx(width, abs=6e-4)
    assert np.mean([f.ece_std for f in floors]) == pytest.approx(deviation, rel=0.15)
    assert np.mean([f.adaptive_ece for f in floors]) == pytest.approx(mass, abs=6e-4)


def test_brier_parts_add_up_where_bins_are_pure():
    p = jnp.stack([jnp.array([0.9] * 10 + [0.6] * 10), jnp.array([0.1] * 10 + [0.4] * 10)], axis=1)
    y = jnp.array([0] * 8 + [1] * 2 + [0] * 7 + [1] * 3)
    parts = c.brier_parts(p, y)
    confidence, correct = c.top(p, y)
    total = jnp.mean(jnp.square(confidence - correct))
    assert parts.reliability - parts.resolution + parts.uncertainty == pytest.approx(float(total), abs=1e-6)


def test_bootstrap_interval_of_a_mean():
    y = jnp.zeros(400, int)
    p = jnp.stack([jnp.where(jnp.arange(400) < 300, 0.9, 0.1), jnp.where(jnp.arange(400) < 300, 0.1, 0.9)], axis=1)
    interval = c.bootstrap(lambda p, y: jnp.mean(jnp.argmax(p, -1) == y), p, y, key=KEY)
    spread = np.sqrt(0.75 * 0.25 / 400)
    assert interval.low == pytest.approx(0.75 - 1.96 * spread, abs=0.01)
    assert interval.high == pytest.approx(0.75 + 1.96 * spread, abs=0.01)


def test_temperature_recovers_the_one_that_was_applied():
    logits = 2 * jax.random.normal(KEY, (20_000, 5))
    y = jax.random.categorical(jax.random.key(1), logits)
    assert fit_temperature(jax.nn.softmax(3 * logits), y) == pytest.approx(3, rel=0.05)  # sampling error about 1 %
    assert fit_temperature(jax.nn.softmax(logits), y) == pytest.approx(1, rel=0.05)


def test_pooling_comes_before_the_temperature():
    """Two members (0.9, 0.1) and (0.5, 0.5) pool to 0.7; at temperature 1/2 that is 0.49 / 0.58."""
    pooled = jnp.mean(jnp.array([[0.9, 0.1], [0.5, 0.5]]), axis=0)
    assert sharpen(pooled, 0.5)[0] == pytest.approx(0.49 / 0.58, abs=1e-6)
    apart = jnp.mean(sharpen(jnp.array([[0.9, 0.1], [0.5, 0.5]]), 0.5), axis=0)
    assert abs(float(apart[0]) - 0.49 / 0.58) > 0.05


def test_selection_finds_the_useful_candidates():
    y = jax.random.randint(KEY, (300,), 0, 2)
    good = jnp.where(jax.nn.one_hot(y, 2) > 0, 0.8, 0.2)
    bad = jnp.full((300, 2), 0.5)
    p = jnp.stack([bad, good, bad])
    chosen = greedy(p, y, 5)
    np.testing.assert_allclose(chosen.weights, [0, 1, 0])
    assert chosen.losses[-1] == pytest.approx(-np.log(0.8), abs=1e-5)
    assert stacking(p, y, strength=0.0).weights[1] > 0.99


def test_stacking_reaches_the_greatest_likelihood():
    """Two candidates that are right on different parts: the optimum weight is the share of the parts."""
    y = jnp.zeros(100, int)
    first = jnp.where(jnp.arange(100)[:, None] < 70, jnp.array([0.99, 0.01]), jnp.array([0.01, 0.99]))
    weights = stacking(jnp.stack([first, first[:, ::-1]]), y, strength=0.0).weights
    assert weights[0] == pytest.approx(0.704, abs=0.002)  # zero of 70 * .98 / (.98 w + .01) = 30 * .98 / (.99 - .98 w)

"""Regressors against their formulas, their intervals against draws from the model, and the guard's choice."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from jaxsci.drift.guard import Guard, prequential, weighted_median
from jaxsci.drift.performance import fit_gaussian_process, fit_network, fit_ridge
from jaxsci.drift.replay import Replay, oracle_regrets


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 3))
    return jnp.asarray(x), jnp.asarray(np.sin(x[:, 0]) + 0.3 * x[:, 1] + 0.1 * rng.standard_normal(60))


def test_gaussian_process_is_the_textbook_formula(x64, sample):
    x, y = (np.asarray(part) for part in sample)
    at = x[:7] + 0.3
    mean, deviation = fit_gaussian_process(sample[0], sample[1], jnp.ones(60), grid=np.array([(2.0, 0.1)]))(
        jnp.asarray(at)
    )

    def kernel(a, b):
        return np.exp(-0.5 * ((a[:, None] - b[None]) ** 2).sum(axis=2) / 4)

    scaled = (y - y.mean()) / y.std()
    inverse = np.linalg.inv(kernel(x, x) + 0.1 * np.eye(60))
    cross = kernel(at, x)
    np.testing.assert_allclose(mean, y.mean() + y.std() * cross @ inverse @ scaled, rtol=1e-8)
    variance = 1.1 - np.einsum("mi,ij,mj->m", cross, inverse, cross)
    np.testing.assert_allclose(deviation, y.std() * np.sqrt(variance), rtol=1e-8)


@pytest.mark.parametrize("fit", [fit_gaussian_process, fit_ridge], ids=["gaussian process", "ridge"])
def test_padding_of_weight_zero_changes_nothing(x64, sample, fit):
    x, y = sample
    padded = jnp.concatenate([x, jnp.zeros((20, 3))]), jnp.concatenate([y, jnp.full(20, 9.0)])
    weight = jnp.concatenate([jnp.ones(60), jnp.zeros(20)])
    for a, b in zip(fit(x, y, jnp.ones(60))(x + 0.1), fit(*padded, weight)(x + 0.1), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)  # a padded row keeps a weight of 1e-9


def test_a_weight_of_two_is_a_sample_seen_twice(x64, sample):
    x, y = sample
    twice = fit_ridge(jnp.concatenate([x, x[:5]]), jnp.concatenate([y, y[:5]]), jnp.ones(65))
    weighted = fit_ridge(x, y, jnp.ones(60).at[:5].set(2.0))
    np.testing.assert_allclose(weighted.coefficients, twice.coefficients, rtol=1e-10)


def test_ninety_percent_intervals_cover_ninety_percent(x64):
    """Draws of y from the linear model itself; 4,000 test points: a standard error of 0.5 %, and the prior's bias."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4200, 4))
    y = x @ np.array([1.0, -2.0, 0.5, 0.0]) + 0.5 * rng.standard_normal(4200)
    for fit in (fit_ridge, fit_gaussian_process):
        mean, deviation = fit(jnp.asarray(x[:200]), jnp.asarray(y[:200]), jnp.ones(200))(jnp.asarray(x[200:]))
        inside = np.mean(np.abs(np.asarray(mean) - y[200:]) < 1.645 * np.asarray(deviation))
        assert 0.85 < inside < 0.95


def test_networks_learn_and_know_where_they_do_not(sample):
    x, y = (part.astype(jnp.float32) for part in sample)
    model = eqx.filter_jit(lambda x, y: fit_network(x, y, jnp.ones(60), key=random.key(0), members=3, steps=200))(x, y)
    mean, near = model(x)
    assert float(((mean - y) ** 2).mean()) < 0.1 * float(y.var())
    _, far = model(x + 20)
    assert float(jnp.median(far)) > float(jnp.median(near))


def test_the_guard_learns_whom_to_believe_for_which_kind(x64):
    rng = np.random.default_rng(2)
    y = rng.standard_normal(200) * 0.01
    kind = np.tile([0, 1], 100)
    right = y + 0.01 * rng.standard_normal(200)
    wrong = y + 0.4
    predictions = np.where((kind == 0)[:, None], np.c_[right, wrong], np.c_[wrong, right])
    answer, weights = prequential(
        Guard(), jnp.asarray(predictions), jnp.asarray(y), jnp.asarray(kind), jnp.ones(200, bool), kinds=2
    )
    assert np.abs(np.asarray(answer)[20:] - right[20:]).max() < 1e-12
    assert weights[-1, 1] > 0.95 and weights[-2, 0] > 0.95


def test_the_guard_sees_no_value_it_is_not_shown(x64):
    rng = np.random.default_rng(3)
    predictions, y = jnp.asarray(rng.standard_normal((50, 3))), rng.standard_normal(50)
    learn = jnp.arange(50) < 20
    kind = jnp.zeros(50, int)
    one = prequential(Guard(), predictions, jnp.asarray(y), kind, learn, kinds=1)
    other = prequential(Guard(), predictions, jnp.asarray(np.r_[y[:20], y[20:] + 5]), kind, learn, kinds=1)
    np.testing.assert_array_equal(one[0], other[0])


def test_a_prior_decides_until_the_jobs_do(x64):
    """Two nats for the second candidate; then every job speaks for the first by rate * 0.4."""
    n = 40
    predictions = jnp.stack([jnp.zeros(n), jnp.full(n, 1.0)], axis=1)  # right, and wrong by more than the cap of 0.4
    guard = Guard(rate=1.0, kind_memory=1.0, memory=1.0, shrinkage=0.0, prior=jnp.array([0.0, 2.0]))
    kind = jnp.zeros(n, int)
    answer, weights = prequential(guard, predictions, jnp.zeros(n), kind, jnp.ones(n, bool), kinds=1)
    log_odds = np.log(np.asarray(weights[:, 1] / weights[:, 0]))
    np.testing.assert_allclose(log_odds, 2.0 - 0.4 * np.arange(n), atol=1e-9)
    assert (np.asarray(answer[:5]) == 1.0).all() and (np.asarray(answer[6:]) == 0.0).all()  # even at the fifth job


def test_an_oracle_of_half_the_jobs_has_no_regret_where_one_candidate_is_best():
    rng = np.random.default_rng(4)
    noise = np.abs(rng.standard_normal((60, 1))) + 0.1
    clear = replay_of(np.concatenate([noise, 2 * noise], axis=1))
    alike = replay_of(np.abs(rng.standard_normal((60, 5))))
    regrets = oracle_regrets([clear, alike], seed=0)
    assert regrets.shape == (100, 2) and (regrets[:, 0] == 0).all()
    assert regrets[:, 1].mean() > 0.1 and (regrets >= 0).all()  # five equal candidates: only chance


def replay_of(errors: np.ndarray) -> Replay:
    names = tuple(map(str, range(errors.shape[1])))
    return Replay(0, 0, (), {}, {}, np.zeros((0, errors.shape[1])), names, errors, 0.9)


def test_candidates_without_a_prediction_get_no_say(x64):
    predictions = jnp.array([[1.0, jnp.nan], [2.0, jnp.nan], [3.0, 7.0]])
    answer, _ = prequential(Guard(), predictions, jnp.zeros(3), jnp.zeros(3, int), jnp.ones(3, bool), kinds=1)
    np.testing.assert_array_equal(answer[:2], [1.0, 2.0])


def test_weighted_median_by_hand():
    values = jnp.array([5.0, 1.0, 3.0])
    assert float(weighted_median(values, jnp.array([0.2, 0.2, 0.6]))) == 3.0
    assert float(weighted_median(values, jnp.array([0.6, 0.2, 0.2]))) == 5.0

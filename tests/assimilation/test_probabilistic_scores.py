"""Scores of ensembles against their definitions, closed forms and what reliable ensembles must show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxsci.assimilation.probabilistic_scores import (
    crps_ensemble,
    crps_gaussian,
    ensemble_coverage,
    rank_histogram,
    spread_skill,
)

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
DRAWN, CAME_TRUE = RNG.normal(size=(9, 20000)), RNG.normal(size=20000)


@pytest.fixture
def drawn(x64):
    """Nine members and a truth from one distribution, twenty thousand times."""
    return jnp.asarray(DRAWN), jnp.asarray(CAME_TRUE)


def test_ensemble_crps_is_its_definition(drawn):
    members, truth = drawn
    x, y = DRAWN[:, :5], CAME_TRUE[:5]
    pairs = np.abs(x[:, None] - x[None, :]).sum((0, 1)) / (2 * 9 * 8)
    np.testing.assert_allclose(crps_ensemble(members[:, :5], truth[:5]), np.abs(x - y).mean(0) - pairs, rtol=1e-12)


@pytest.mark.parametrize("size", [2, 3, 9])
def test_fair_crps_does_not_depend_on_the_size_of_the_ensemble(size, drawn):
    members, truth = drawn
    scores = np.asarray(crps_ensemble(members[:size], truth))
    expected = np.mean(crps_gaussian(jnp.zeros(20000), jnp.ones(20000), truth))
    error = scores.std() / np.sqrt(len(scores))
    np.testing.assert_allclose(scores.mean(), expected, atol=4 * error)


@pytest.mark.parametrize("truth", [-2.0, 0.3, 5.0])
def test_gaussian_crps_is_the_integral_of_squared_differences(truth):
    mean, spread = 0.5, 1.5
    below, _ = integrate.quad(lambda x: stats.norm.cdf(x, mean, spread) ** 2, -20, truth)
    above, _ = integrate.quad(lambda x: stats.norm.sf(x, mean, spread) ** 2, truth, 20)
    found = crps_gaussian(jnp.asarray(mean), jnp.asarray(spread), jnp.asarray(truth))
    np.testing.assert_allclose(found, below + above, rtol=1e-7)  # quadrature


def test_rank_histogram_of_a_reliable_ensemble_is_flat(drawn):
    members, truth = drawn
    counts = np.asarray(rank_histogram(members, truth, key=jax.random.key(0)))
    assert counts.sum() == 20000 and len(counts) == 10
    assert stats.chisquare(counts).pvalue > 1e-3


def test_rank_histogram_of_a_narrow_ensemble_is_a_bowl(drawn):
    members, truth = drawn
    counts = rank_histogram(0.3 * members, truth, key=jax.random.key(0))
    assert min(counts[0], counts[-1]) > 4 * max(counts[1:-1])


def test_rank_histogram_spreads_ties():
    """Members and truth all zero, as where it does not rain: every rank is as likely."""
    counts = rank_histogram(jnp.zeros((4, 5000)), jnp.zeros(5000), key=jax.random.key(0))
    assert stats.chisquare(np.asarray(counts)).pvalue > 1e-3


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_spread_skill_tells_how_overconfident_an_ensemble_is(scale, drawn):
    members, truth = drawn
    found = spread_skill(scale * members, truth)
    # Error variance of the mean: 1 + scale^2 / 9; spread, corrected: scale^2 10 / 9. Sampling error near 1 / sqrt(2 n).
    expected = np.sqrt(scale**2 * 10 / 9 / (1 + scale**2 / 9))
    np.testing.assert_allclose(found, expected, rtol=4 / np.sqrt(2 * 20000))


@pytest.mark.parametrize("level", [0.8, 0.4])
def test_coverage_of_a_reliable_ensemble_is_its_level(level, drawn):
    members, truth = drawn
    found = ensemble_coverage(members, truth, level)
    # Levels that fall on members (multiples of 1 / 10): exact but for sampling.
    np.testing.assert_allclose(found, level, atol=4 * np.sqrt(level * (1 - level) / 20000))

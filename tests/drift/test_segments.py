"""Segment models: marginal likelihoods in closed form, special cases, robustness, missing coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxsci.drift.segments import Autoregressive, Gaussian, Independent, Level, Poisson, Regression, Trend, Wishart


def run(segment, points):
    """Log predictives of all points in turn, and the final statistics."""
    statistics, scores = segment.empty(), []
    for z in points:
        scores.append(float(segment.log_predictive(statistics, z)))
        statistics = segment.update(statistics, z)
    return np.array(scores), statistics


def marginal_t(design, y, prior_covariance, alpha, beta):
    """Closed-form marginal of Bayesian linear regression: multivariate Student-t with 2 alpha degrees of freedom."""
    shape = beta / alpha * (np.eye(len(y)) + design @ prior_covariance @ design.T)
    return stats.multivariate_t(np.zeros(len(y)), shape, df=2 * alpha).logpdf(y)


@pytest.fixture
def values():
    return np.random.default_rng(0).standard_normal(12)


def test_gaussian_is_the_closed_form_marginal(x64, values):
    segment = Gaussian(kappa=0.5, alpha=1.5, beta=0.7)
    scores, _ = run(segment, jnp.asarray(values)[:, None])
    np.testing.assert_allclose(
        scores.sum(), marginal_t(np.ones((12, 1)), values, np.eye(1) / 0.5, 1.5, 0.7), rtol=1e-11
    )


def test_the_table_changes_nothing(x64, values):
    for segment in (Gaussian(alpha=0.3), Level(alpha=0.3), Trend()):
        plain, _ = run(segment, jnp.asarray(values)[:, None])
        tabled, _ = run(segment.prepare(20), jnp.asarray(values)[:, None])
        np.testing.assert_allclose(plain, tabled, rtol=1e-12)


def test_level_and_wishart_are_gaussian_in_their_special_cases(x64, values):
    points = jnp.asarray(values)[:, None]
    expected, _ = run(Gaussian(kappa=0.5, alpha=1.5, beta=0.7), points)
    level, _ = run(Level(intercept_precision=0.5, alpha=1.5, beta=0.7), points)
    wishart, _ = run(Wishart(1, kappa=0.5, scale=2 * 0.7, excess=2 * 1.5 - 1), points)
    np.testing.assert_allclose(level, expected, rtol=1e-11)
    np.testing.assert_allclose(wishart, expected, rtol=1e-11)


def test_regression_is_the_closed_form_marginal_and_posterior(x64, values):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((12, 2))
    segment = Regression(inputs=2, precision=2.0, intercept_precision=0.5, alpha=1.2, beta=0.8)
    scores, statistics = run(segment, jnp.asarray(np.c_[x, values]))
    design, prior = np.c_[np.ones(12), x], np.diag([1 / 0.5, 1 / 2.0, 1 / 2.0])
    np.testing.assert_allclose(scores.sum(), marginal_t(design, values, prior, 1.2, 0.8), rtol=1e-10)
    covariance = np.linalg.inv(np.linalg.inv(prior) + design.T @ design)
    np.testing.assert_allclose(statistics.covariance, covariance, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(statistics.mean, covariance @ design.T @ values, rtol=1e-9)


def test_wishart_updates_are_those_of_the_scale_matrix(x64):
    x = np.random.default_rng(2).standard_normal((20, 3))
    _, statistics = run(Wishart(3, kappa=0.5, scale=2.0), jnp.asarray(x))
    mean = x.mean(axis=0)
    scatter = (x - mean).T @ (x - mean) + 0.5 * 20 / 20.5 * np.outer(mean, mean)
    psi = 2 * np.eye(3) + scatter
    np.testing.assert_allclose(statistics.inverse, np.linalg.inv(psi), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(statistics.log_determinant, np.linalg.slogdet(psi)[1], rtol=1e-10)


@pytest.mark.parametrize("segment", [Gaussian(), Wishart(1), Level(degrees=3.0)], ids=lambda s: type(s).__name__)
def test_predictive_densities_integrate_to_one(x64, values, segment):
    _, statistics = run(segment, jnp.asarray(values)[:5, None])
    # The tails of a Student-t are long: substitute z = sinh(u).
    u = jnp.linspace(-25, 25, 20001)
    density = jax.vmap(lambda z: jnp.exp(segment.log_predictive(statistics, z[None])))(jnp.sinh(u))
    np.testing.assert_allclose(jnp.trapezoid(density * jnp.cosh(u), u), 1.0, rtol=1e-6)


def test_poisson_predictive_is_negative_binomial(x64):
    _, statistics = run(Poisson(shape=2.0, rate=0.5), jnp.array([[3.0], [0.0], [7.0]]))
    counts = np.arange(300)
    ours = jax.vmap(lambda x: Poisson().log_predictive(statistics, x[None]))(jnp.asarray(counts, float))
    np.testing.assert_allclose(ours, stats.nbinom.logpmf(counts, 12.0, 3.5 / 4.5), rtol=1e-9)
    np.testing.assert_allclose(jnp.exp(ours).sum(), 1.0, rtol=1e-9)


def test_robust_levels_hardly_move_for_an_outlier(x64, values):
    points = jnp.asarray(np.append(values, 50.0))[:, None]
    moved = []
    for degrees in (1e6, 4.0):
        segment = Level(intercept_precision=0.1, degrees=degrees)
        _, before = run(segment, points[:-1])
        moved.append(float(abs(run(segment, points)[1].mean[0] - before.mean[0])))
    assert moved[1] < 0.1 * moved[0]


def test_robust_with_many_degrees_is_gaussian(x64, values):
    points = jnp.asarray(values)[:, None]
    many, plain = run(Level(degrees=1e12), points)[0], run(Level(), points)[0]
    np.testing.assert_allclose(many, plain, rtol=1e-9)


def test_trend_learns_a_line_and_autoregression_a_coefficient(x64):
    rng = np.random.default_rng(3)
    line = 0.3 + 0.05 * np.arange(200) + 0.1 * rng.standard_normal(200)
    _, statistics = run(Trend(precision=1e-3, intercept_precision=1e-3, width=100.0), jnp.asarray(line)[:, None])
    # Standard errors: intercept 0.014, slope 0.012 per hundred points.
    np.testing.assert_allclose(statistics.mean, [0.3, 5.0], atol=0.06)
    y = np.zeros(600)
    for t in range(1, 600):
        y[t] = 0.7 * y[t - 1] + rng.standard_normal()
    segment, memory, statistics = Autoregressive(precision=1e-3, intercept_precision=1e-3), None, None
    memory, statistics = segment.memory(), segment.empty()
    step = jax.jit(segment.update)
    for value in jnp.asarray(y):
        memory, z = segment.observe(memory, value[None], jnp.ones(1, bool))
        statistics = step(statistics, z)
    np.testing.assert_allclose(statistics.mean[1], 0.7, atol=0.09)  # three standard errors of 0.029


def test_a_missing_coordinate_leaves_the_others_alone(x64, values):
    segment = Independent(Gaussian(), 2)
    pairs = jnp.asarray(np.c_[values, values[::-1]])
    statistics = segment.empty()
    known = jnp.array([True, False])
    for x in pairs:
        _, z = segment.observe(segment.memory(), x, known)
        score, statistics = segment.step(statistics, z, known)
    alone, expected = run(Gaussian(), jnp.asarray(values)[:, None])
    np.testing.assert_allclose(score, alone[-1], rtol=1e-12)
    np.testing.assert_allclose(statistics.mean[0], expected.mean, rtol=1e-12)
    assert int(statistics.count[1]) == 0

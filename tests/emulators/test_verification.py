"""Scores against NumPy and against cases whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.emulators.verification import anomaly_correlation, coverage, rmse, spread_against_error

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(2)
LATITUDES = np.repeat([60.0, 45.0, 30.0], 4)
COSINES = np.cos(np.deg2rad(LATITUDES))
with jax.enable_x64(True):
    WEIGHTS = jnp.asarray(COSINES / COSINES.mean())
    A, B = (jnp.asarray(RNG.normal(size=(20, 12))) for _ in range(2))
ROUNDING = 1e-13  # relative


def test_rmse_is_the_weighted_mean_square():
    np.testing.assert_allclose(
        rmse(A, WEIGHTS), np.sqrt(np.average(A**2, weights=np.tile(WEIGHTS, (20, 1)))), rtol=ROUNDING
    )
    np.testing.assert_allclose(rmse(jnp.full((3, 12), -7.0), WEIGHTS), 7.0, rtol=ROUNDING)
    north = jnp.asarray(LATITUDES == 60, float)[None]
    # One of three rows, weighted by cos(60) = 1/2
    np.testing.assert_allclose(rmse(north, WEIGHTS) ** 2, 0.5 / (0.5 + np.sqrt(0.5) + np.sqrt(0.75)), rtol=1e-12)


def test_correlation_against_numpy():
    weighted_a, weighted_b = (A * np.sqrt(WEIGHTS)).ravel(), (B * np.sqrt(WEIGHTS)).ravel()
    cosine = weighted_a @ weighted_b / np.linalg.norm(weighted_a) / np.linalg.norm(weighted_b)
    np.testing.assert_allclose(anomaly_correlation(A, B, WEIGHTS), cosine, rtol=ROUNDING)


def test_correlation_of_special_cases():
    np.testing.assert_allclose(anomaly_correlation(A, A, WEIGHTS), 1, rtol=ROUNDING)
    np.testing.assert_allclose(anomaly_correlation(-3 * A, A, WEIGHTS), -1, rtol=ROUNDING)
    # Uncentred: a constant anomaly counts, and does correlate with a constant of the other sign.
    np.testing.assert_allclose(
        anomaly_correlation(jnp.ones((2, 12)), -5 * jnp.ones((2, 12)), WEIGHTS), -1, rtol=ROUNDING
    )
    assert anomaly_correlation(jnp.zeros_like(A), A, WEIGHTS) == 0  # climatology has none, and is no NaN
    halves = jnp.where(jnp.arange(12) < 6, 1.0, 0.0)
    assert anomaly_correlation(halves[None], 1 - halves[None], WEIGHTS) == 0


def test_coverage_of_gaussian_errors_is_nominal():
    spread = jnp.exp(jax.random.normal(jax.random.key(0), (4000, 12)))
    error = spread * jax.random.normal(jax.random.key(1), (4000, 12))
    # A share p of n independent cases has standard deviation sqrt(p (1 - p) / n) = 0.0014; weights make it 2 % more.
    np.testing.assert_allclose(coverage(error, spread, WEIGHTS), 0.9, atol=5 * 0.0014)
    np.testing.assert_allclose(coverage(error, spread, WEIGHTS, quantile=1.0), 0.6827, atol=5 * 0.0022)


def test_coverage_is_weighted_by_area():
    error = jnp.where(LATITUDES == 60, 10.0, 0.0)[None]  # outside its interval in the north only
    expected = (np.sqrt(0.5) + np.sqrt(0.75)) / (0.5 + np.sqrt(0.5) + np.sqrt(0.75))
    np.testing.assert_allclose(coverage(error, jnp.ones((1, 12)), WEIGHTS), expected, rtol=ROUNDING)


def test_spread_against_error_sorts_and_bins():
    spread = np.array([4.0, 1.0, 3.0, 2.0, 6.0, 5.0, 7.0])
    error = np.array([40.0, -10.0, 30.0, 20.0, -60.0, 50.0, 1000.0])
    found_spread, found_error = spread_against_error(jnp.asarray(error), jnp.asarray(spread), 3)
    expected = np.sqrt([(1 + 4) / 2, (9 + 16) / 2, (25 + 36) / 2])  # the seventh does not fill a bin
    np.testing.assert_allclose(found_spread, expected, rtol=ROUNDING)
    np.testing.assert_allclose(found_error, 10 * expected, rtol=ROUNDING)

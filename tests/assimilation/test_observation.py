"""Whitened departures are the quadratic form of R^-1, and a missing value is as if it had never been."""

import inspect

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import (
    Background,
    LinearOperator,
    Observations,
    Window,
    assimilate,
    observe,
    station_covariance,
)
from jaxsci.assimilation.observation import whitening
from jaxsci.core.errors import DataError

pytestmark = pytest.mark.usefixtures("x64")

solve = eqx.filter_jit(assimilate)

RNG = np.random.default_rng(0)
TIMES, STATIONS, N = 3, 5, 4
with jax.enable_x64(True):
    MATRIX = jnp.asarray(RNG.normal(size=(STATIONS, N)))
FACTOR = RNG.normal(size=(STATIONS, STATIONS))
COVARIANCE = FACTOR @ FACTOR.T + np.eye(STATIONS)
VALUES = RNG.normal(size=(TIMES, STATIONS))
with jax.enable_x64(True):
    STATES = jnp.asarray(RNG.normal(size=(TIMES, N)))
MISSING = np.array([[0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)  # some, none, all


def quadratic_form(values):
    """sum_k d' R^-1 d over the values that are there."""
    total = 0.0
    for value, state in zip(values, STATES, strict=True):
        here = np.isfinite(value)
        d = (value - MATRIX @ state)[here]
        total += d @ np.linalg.solve(COVARIANCE[np.ix_(here, here)], d)
    return total


def test_whitener_inverts_the_covariance():
    whitener = whitening(jnp.asarray(COVARIANCE))
    np.testing.assert_allclose(whitener @ COVARIANCE @ whitener.T, np.eye(STATIONS), atol=1e-12)  # rounding


def test_squared_norm_is_the_quadratic_form():
    observations = observe(jnp.asarray(VALUES), LinearOperator(MATRIX), jnp.asarray(COVARIANCE))
    np.testing.assert_allclose(np.sum(observations.whitened(STATES) ** 2), quadratic_form(VALUES), rtol=1e-12)


def test_one_whitener_for_each_time():
    scales = np.array([1.0, 2.0, 3.0])
    whiteners = jnp.stack([whitening(jnp.asarray(s * COVARIANCE)) for s in scales])
    found = Observations(jnp.asarray(VALUES), LinearOperator(MATRIX), whiteners).whitened(STATES)
    shared = observe(jnp.asarray(VALUES), LinearOperator(MATRIX), jnp.asarray(COVARIANCE)).whitened(STATES)
    np.testing.assert_allclose(found, shared / np.sqrt(scales)[:, None], rtol=1e-12)


def test_missing_values_are_cut_out_of_correlated_errors():
    values = np.where(MISSING, np.nan, VALUES)
    observations = observe(jnp.asarray(values), LinearOperator(MATRIX), jnp.asarray(COVARIANCE), missing=True)
    whitened = observations.whitened(STATES)
    np.testing.assert_array_equal(whitened[MISSING], 0)
    np.testing.assert_allclose(np.sum(whitened**2), quadratic_form(values), rtol=1e-12)
    np.testing.assert_array_equal(observations.present, ~MISSING)


def test_missing_true_with_nothing_missing_changes_nothing():
    plain = observe(jnp.asarray(VALUES), LinearOperator(MATRIX), jnp.asarray(COVARIANCE))
    cut = observe(jnp.asarray(VALUES), LinearOperator(MATRIX), jnp.asarray(COVARIANCE), missing=True)
    np.testing.assert_allclose(cut.whitened(STATES), plain.whitened(STATES), rtol=1e-12)


def test_missing_values_are_noticed():
    values = np.where(MISSING, np.nan, VALUES)
    found, said = (
        observe(jnp.asarray(values), LinearOperator(MATRIX), jnp.asarray(COVARIANCE), missing=m) for m in (None, True)
    )
    np.testing.assert_array_equal(found.whitener, said.whitener)
    assert observe(jnp.asarray(VALUES), LinearOperator(MATRIX), jnp.asarray(COVARIANCE)).whitener.ndim == 2


@pytest.mark.parametrize(
    ("values", "covariance", "says"),
    [
        (
            np.zeros((0, 2)),
            np.eye(2),
            r"values: expected \(times, stations\) with one time or more, got shape \(0, 2\)",
        ),
        (np.zeros(2), np.eye(2), "values: expected"),
        (np.zeros((3, 2)), np.eye(3), "covariance: expected that of the 2 stations"),
        (np.zeros((3, 2)), np.diag([1.0, -1.0]), "covariance: expected a positive definite covariance"),
        (np.zeros((3, 2)), np.array([[1.0, 0.5], [0.0, 1.0]]), "covariance: expected a symmetric matrix"),
        (np.zeros((3, 2)), np.full((2, 2), np.nan), "covariance: expected finite entries"),
    ],
)
def test_bad_input_is_one_line(values, covariance, says):
    with pytest.raises(DataError, match=says) as caught:
        inspect.unwrap(observe)(jnp.asarray(values), LinearOperator(jnp.eye(2)), jnp.asarray(covariance))
    assert "\n" not in str(caught.value)


def test_analysis_with_missing_stations_equals_one_of_a_network_without_them():
    """Two of five stations never report: the window of the other three gives the same analysis."""
    kept = np.array([0, 2, 3])
    values = VALUES.copy()
    values[:, [1, 4]] = np.nan
    model = lambda x: 0.9 * jnp.roll(x, 1) + 0.1 * jnp.sin(x)  # noqa: E731
    background = Background(jnp.ones(N), 0.5 * jnp.eye(N))

    def analysis(values, matrix, covariance, missing):
        observations = observe(jnp.asarray(values), LinearOperator(matrix), jnp.asarray(covariance), missing=missing)
        return solve(Window(model, background, observations))

    with_gaps = analysis(values, MATRIX, COVARIANCE, True)
    without = analysis(values[:, kept], MATRIX[kept], COVARIANCE[np.ix_(kept, kept)], False)
    # The same numbers through differently ordered sums, over a few iterations.
    np.testing.assert_allclose(with_gaps.value, without.value, atol=1e-12)
    np.testing.assert_allclose(with_gaps.stats.cost, without.stats.cost, rtol=1e-12)


def test_gradient_is_finite_where_values_are_missing():
    values = jnp.asarray(np.where(MISSING, np.nan, VALUES))
    observations = observe(values, LinearOperator(MATRIX), jnp.asarray(COVARIANCE), missing=True)
    gradient = jax.grad(lambda s: jnp.sum(observations.whitened(s) ** 2))(STATES)
    assert np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[2], 0)  # nothing was seen at the third time
    assert np.abs(gradient[:2]).min() > 0


def test_windows_as_a_leading_axis():
    values = jnp.asarray(np.stack([np.where(MISSING, np.nan, VALUES), VALUES]))
    many = observe(values, LinearOperator(MATRIX), jnp.asarray(COVARIANCE), missing=True)
    assert many.whitener.shape == (2, TIMES, STATIONS, STATIONS)
    for window in range(2):
        one = observe(values[window], LinearOperator(MATRIX), jnp.asarray(COVARIANCE), missing=True)
        np.testing.assert_allclose(many.whitener[window], one.whitener, atol=1e-14)


def test_operator_sees_the_newest_day_of_a_delay_state():
    state = jnp.asarray(RNG.normal(size=(3, N)))
    np.testing.assert_array_equal(LinearOperator(MATRIX)(state), MATRIX @ state[0])
    np.testing.assert_array_equal(LinearOperator(MATRIX)(state[1]), MATRIX @ state[1])


def test_station_covariance_adds_instrument_and_truncation():
    rest = RNG.normal(size=(STATIONS, 7))
    found = station_covariance(3.0, jnp.asarray(rest))
    np.testing.assert_allclose(found, 9 * np.eye(STATIONS) + rest @ rest.T, rtol=1e-13)
    # It is the covariance of what stations see beside the modes: truncated scales plus noise.
    draws = rest @ RNG.normal(size=(7, 100_000)) + 3 * RNG.normal(size=(STATIONS, 100_000))
    # Standard error sqrt(2 / 100 000) of variances near 16
    np.testing.assert_allclose(np.cov(draws), found, atol=5 * 0.0045 * float(found.max()))

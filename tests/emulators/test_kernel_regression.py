"""Radial basis functions and Gaussian processes against independent solutions; DMD of linear systems."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import RBFInterpolator

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.emulators.dmd import fit_dmd
from jaxsci.emulators.kernel_regression import fit_gaussian_process, fit_rbf
from jaxsci.emulators.trajectory import Trajectories, predict_all

RNG = np.random.default_rng(0)
PARAMETERS = RNG.uniform(-1, 1, (30, 2)).astype(np.float32)
AT = jnp.asarray(RNG.uniform(-0.8, 0.8, (12, 2)), jnp.float32)


def series(parameters):
    x, y = np.asarray(parameters, np.float64).T
    time = np.linspace(0, 1, 4)[:, None]
    values = [np.sin(2 * x + time) + y, x * y + time, np.cos(x - y) * time]
    return np.stack(values, -1).transpose(1, 0, 2).astype(np.float32)


TRAIN = Trajectories(PARAMETERS, series(PARAMETERS))


def identity(parameters):
    return parameters


def test_splines_are_those_of_scipy():
    found = predict_all(fit_rbf(TRAIN, identity), AT)
    flat = TRAIN.coefficients.reshape(30, -1).astype(np.float64)
    peer = RBFInterpolator(PARAMETERS.astype(np.float64), flat)(np.asarray(AT, np.float64)).reshape(12, 4, 3)
    np.testing.assert_allclose(found, peer, rtol=0, atol=2e-5)  # float32 sums of 30 terms of order one


@pytest.mark.parametrize("fit", [fit_rbf, fit_gaussian_process])
def test_training_runs_are_met(fit):
    found = predict_all(fit(TRAIN, identity), jnp.asarray(PARAMETERS))
    np.testing.assert_allclose(found, TRAIN.coefficients, atol=5e-3)  # the noise of the process is at least 1e-8


def test_a_process_predicts_smooth_series_and_knows_where_it_does_not():
    process = fit_gaussian_process(TRAIN, identity)
    truth = series(AT)
    error = np.asarray(predict_all(process, AT)) - truth
    assert np.mean(error**2) < 1e-3 * np.var(truth)
    spread = process.spread(np.asarray(AT))
    far = process.spread(np.array([[6.0, -6.0]]))[0]
    at_run = process.spread(PARAMETERS[:1])[0]
    assert at_run.mean() < spread.mean() < far.mean()
    prior = np.sqrt(process.amplitude) * np.asarray(process.mean.scale.spread)
    np.testing.assert_allclose(far, np.broadcast_to(prior, far.shape), rtol=0.02)  # nothing is known there


def test_the_posterior_is_that_of_the_textbook():
    process = fit_gaussian_process(TRAIN, identity)
    scaled = PARAMETERS.astype(np.float64) / np.asarray(process.mean.length, np.float64)
    x = np.asarray(AT[0], np.float64) / np.asarray(process.mean.length, np.float64)
    kernel = lambda a, b: np.exp(-np.square(a[:, None] - b[None]).sum(-1) / 2)  # noqa: E731
    matrix = kernel(scaled, scaled) + process.noise * np.eye(30)
    to_runs = kernel(x[None], scaled)[0]
    variance = process.amplitude * (1 + process.noise - to_runs @ np.linalg.solve(matrix, to_runs))
    found = process.spread(np.asarray(AT[:1]))[0] / np.asarray(process.mean.scale.spread)
    np.testing.assert_allclose(found, np.sqrt(variance), rtol=0.01)  # the condition of the matrix times rounding


def test_too_few_runs_for_the_linear_part():
    with pytest.raises(DataError, match="more than 2"):
        fit_rbf(Trajectories(PARAMETERS[:2], TRAIN.coefficients[:2]), identity)


def test_dmd_finds_the_matrix_of_a_linear_system():
    turn = 0.98 * np.array([[np.cos(0.3), -np.sin(0.3), 0], [np.sin(0.3), np.cos(0.3), 0], [0, 0, 0.5]])
    runs = [RNG.normal(size=3) for _ in range(4)]
    series = np.stack([[np.linalg.matrix_power(turn, k) @ x for k in range(6)] for x in runs])
    found = fit_dmd(series.astype(np.float32))
    np.testing.assert_allclose(found.operator, turn, atol=1e-5)  # float32
    np.testing.assert_allclose(np.sort(np.abs(found.eigenvalues())), np.sort([0.49, 0.98, 0.98]), atol=1e-5)
    np.testing.assert_allclose(found(jnp.asarray(series[0, 2], jnp.float32)), series[0, 3], atol=1e-5)


def test_dmd_of_few_dimensions_keeps_to_them():
    flat = np.zeros((2, 5, 4), np.float32)
    flat[:, :, 0] = 0.9 ** np.arange(5)
    assert np.linalg.matrix_rank(fit_dmd(flat).operator) == 1
    with pytest.raises(ConfigError, match="rank: expected 1 to 4"):
        fit_dmd(flat, rank=9)
    with pytest.raises(DataError, match="times"):
        fit_dmd(flat[:, :1])

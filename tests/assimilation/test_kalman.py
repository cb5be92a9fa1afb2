"""The oracle: filter and smoother against a reference in NumPy, against 4D-Var, and with observations missing."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ortho_group

from jaxsci.assimilation.background import Background, covariance_root
from jaxsci.assimilation.inverse_factor import inverse_factor
from jaxsci.assimilation.kalman import Gaussian, Kalman, LinearModel, best_linear_estimate, kalman_smoother
from jaxsci.assimilation.observation import LinearOperator, observe
from jaxsci.assimilation.problem import Problem
from jaxsci.assimilation.variational import GaussNewton, Window, assimilate
from jaxsci.dynamics import Lorenz63

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(3)
N, STATIONS, TIMES = 5, 3, 6
F = 0.97 * ortho_group.rvs(N, random_state=RNG) + 0.05 * RNG.normal(size=(N, N))
H = RNG.normal(size=(STATIONS, N))
ROOT_B, ROOT_R, ROOT_Q = RNG.normal(size=(N, N)), RNG.normal(size=(STATIONS, STATIONS)), 0.3 * RNG.normal(size=(N, N))
B, R, Q = ROOT_B @ ROOT_B.T + np.eye(N), ROOT_R @ ROOT_R.T + np.eye(STATIONS), ROOT_Q @ ROOT_Q.T
MEAN = RNG.normal(size=N)
VALUES = 3 * RNG.normal(size=(TIMES, STATIONS))
# Rounding of covariances with condition numbers below 1e4.
EXACT: dict[str, Any] = {"rtol": 1e-10, "atol": 1e-10}
update = eqx.filter_jit(best_linear_estimate)


def smoothed(values, error=Q):
    arrays = [jnp.asarray(a) for a in (F, error, H, R)]
    return jax.jit(kalman_smoother)(
        LinearModel(*arrays), Gaussian(jnp.asarray(MEAN), jnp.asarray(B)), jnp.asarray(values)
    )


@pytest.mark.parametrize("gaps", [False, True])
def test_smoother_is_the_reference(smoother, gaps):
    values = VALUES.copy()
    if gaps:
        values[1, 2] = values[3, :] = values[4, 0] = np.nan
    exact, found = smoother(F, Q, H, R, MEAN, B, values), smoothed(values)
    np.testing.assert_allclose(found.smoothed.mean, exact.mean, **EXACT)
    np.testing.assert_allclose(found.smoothed.covariance, exact.covariance, **EXACT)
    np.testing.assert_allclose(found.filtered.mean[-1], exact.mean[-1], **EXACT)


def test_smoother_without_model_error_is_4dvar():
    background = Background(jnp.asarray(MEAN), covariance_root(B))
    window = Window(
        lambda x: F @ x, background, observe(jnp.asarray(VALUES), LinearOperator(jnp.asarray(H)), jnp.asarray(R))
    )
    solution = jax.jit(lambda: assimilate(window, GaussNewton(tolerance=1e-11)))()
    np.testing.assert_allclose(smoothed(VALUES, 0 * Q).smoothed.mean, solution.value, **EXACT)


def test_one_update_by_hand():
    here = Background(jnp.asarray(MEAN), jnp.asarray(B))
    problem = Problem(lambda x: x, LinearOperator(jnp.asarray(H)), jnp.asarray(R), here, here)
    prior = Gaussian(jnp.asarray(MEAN), jnp.asarray(B))
    found, fit = update(prior, problem, jnp.asarray(VALUES[0]))
    innovation, departure = H @ B @ H.T + R, VALUES[0] - H @ MEAN
    gain = B @ H.T @ np.linalg.inv(innovation)
    np.testing.assert_allclose(found.mean, MEAN + gain @ departure, **EXACT)
    np.testing.assert_allclose(found.covariance, B - gain @ H @ B, **EXACT)
    np.testing.assert_allclose(fit, departure @ np.linalg.solve(innovation, departure) / STATIONS, **EXACT)


def test_a_missing_observation_is_a_row_removed():
    here = Background(jnp.asarray(MEAN), covariance_root(B))
    whole = Problem(lambda x: x, LinearOperator(jnp.asarray(H)), jnp.asarray(R), here, here)
    cut = Problem(
        lambda x: x, LinearOperator(jnp.asarray(H[[0, 2]])), jnp.asarray(R[np.ix_([0, 2], [0, 2])]), here, here
    )
    prior = Gaussian(jnp.asarray(MEAN), jnp.asarray(B))
    gap, fit = update(prior, whole, jnp.asarray(VALUES[0]).at[1].set(jnp.nan))
    removed, fit_removed = update(prior, cut, jnp.asarray(VALUES[0, [0, 2]]))
    for a, b in zip((*gap, fit), (*removed, fit_removed), strict=True):
        np.testing.assert_allclose(a, b, **EXACT)


def test_extended_filter_linearises_and_inflates_per_unit_of_time():
    """One forecast of Lorenz-63: the covariance is that of the Jacobian, times the inflation to the power of dt."""
    model, dt = Lorenz63(), 0.5
    here = Background(jnp.array([1.0, 2.0, 20.0]), 0.1 * jnp.eye(3))
    problem = Problem(model, lambda x: x[:1], jnp.ones(1), here, here, dt)
    algorithm = Kalman(inflation=3.0).build(problem)
    first = algorithm.init(jax.random.key(0))
    _, info = jax.jit(algorithm.update)(first, jnp.full(1, jnp.nan), jax.random.key(1))
    jacobian = jax.jacfwd(model)(here.mean)
    variance = 3.0**dt * 0.01 * jnp.diagonal(jacobian @ jacobian.T)
    np.testing.assert_allclose(info.forecast_spread, jnp.sqrt(variance.mean()), rtol=1e-12)
    np.testing.assert_array_equal(info.mean, info.forecast)  # nothing was observed


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 40])
def test_inverse_factor(n):
    root = np.random.default_rng(n).normal(size=(n, n + 2))
    matrix = root @ root.T + np.eye(n)
    found = np.asarray(jax.jit(inverse_factor)(jnp.asarray(matrix)))
    np.testing.assert_allclose(found.T @ found @ matrix, np.eye(n), atol=1e-12 * np.linalg.cond(matrix))
    assert np.all(np.triu(found, 1) == 0)

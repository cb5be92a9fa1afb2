"""Gross errors are refused or outvoted; sound observations count as before."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background, GaussNewton, LinearOperator, Window, assimilate, covariance_root, observe
from jaxsci.assimilation.derivative_check import taylor_remainders
from jaxsci.assimilation.quality_control import Huber, background_check, predicted_variance
from jaxsci.assimilation.variational import CONVERGED

pytestmark = pytest.mark.usefixtures("x64")

solve = eqx.filter_jit(assimilate)
ROBUST = GaussNewton(200, 1e-10)

RNG = np.random.default_rng(0)
N, STATIONS, TIMES = 3, 5, 3
F = 0.6 * RNG.normal(size=(N, N))
H, FACTOR = RNG.normal(size=(STATIONS, N)), RNG.normal(size=(N, N))
B = FACTOR @ FACTOR.T + 0.1 * np.eye(N)
R = np.diag(RNG.uniform(0.5, 2.0, STATIONS))
VALUES = RNG.normal(size=(TIMES, STATIONS))
SPOILT = VALUES.copy()
SPOILT[1, 2] = 60.0


class Linear(eqx.Module):
    """One type of model: windows of different values share one compiled program."""

    matrix: jax.Array

    def __call__(self, x):
        return self.matrix @ x


def window(values, missing: bool = False) -> Window:
    matrix, noise = jnp.asarray(F), jnp.asarray(R)
    observations = observe(jnp.asarray(values), LinearOperator(jnp.asarray(H)), noise, missing=missing)
    return Window(Linear(matrix), Background(jnp.zeros(N), covariance_root(B)), observations)


def huber_rho(departures, limit):
    size = np.abs(departures)
    return np.sum(np.where(size <= limit, size**2 / 2, limit * size - limit**2 / 2))


def test_predicted_variance_is_the_diagonal_of_hbh():
    found = eqx.filter_jit(predicted_variance)(window(VALUES))
    power = np.eye(N)
    for k in range(TIMES):
        np.testing.assert_allclose(found[k], np.diag(H @ power @ B @ power.T @ H.T), rtol=1e-10)  # rounding
        power = F @ power


def test_background_check_refuses_the_gross_error_alone():
    problem = window(SPOILT)
    innovations = problem.observations.departures(problem.trajectory(problem.origin))
    checked = jax.jit(background_check)(
        innovations, eqx.filter_jit(predicted_variance)(problem) + jnp.diag(jnp.asarray(R))
    )
    np.testing.assert_array_equal(np.isnan(checked), SPOILT != VALUES)
    kept = np.where(np.isnan(checked), np.nan, SPOILT)
    clean = solve(window(kept, missing=True))
    direct = solve(window(np.where(SPOILT != VALUES, np.nan, VALUES), missing=True))
    np.testing.assert_array_equal(clean.control, direct.control)


def test_background_check_refuses_as_many_as_the_normal_tail():
    draws = jnp.asarray(RNG.normal(size=100000))
    share = np.mean(np.isnan(background_check(2 * draws, jnp.full(draws.shape, 4.0), 2.0)))
    np.testing.assert_allclose(share, 0.0455, atol=4 * np.sqrt(0.0455 / 100000))  # P(|z| > 2), four standard errors


def test_background_check_leaves_missing_values_missing():
    assert np.isnan(background_check(jnp.array([jnp.nan]), jnp.ones(1)))[0]


@pytest.mark.parametrize("values", [VALUES, SPOILT], ids=["sound", "spoilt"])
def test_cost_is_huber_by_hand(values):
    plain = window(values)
    control = jnp.asarray(RNG.normal(size=N))
    expected = 0.5 * control @ control + huber_rho(np.asarray(plain.departures(control)), 1.5)
    np.testing.assert_allclose(Huber(plain, 1.5).cost(control), expected, rtol=1e-12)


def test_a_wide_limit_is_the_quadratic_cost():
    plain = window(SPOILT)
    robust = Huber(plain, 1e3)
    np.testing.assert_array_equal(solve(robust).control, solve(plain).control)
    np.testing.assert_array_equal(robust.weights(plain.origin), 1.0)


def test_the_minimum_is_the_reweighted_least_squares_one():
    """Fixed point of weighted analyses with the weights `min(1, limit / |d|)`: an independent way to the minimum."""
    robust = Huber(window(SPOILT), 1.5)
    solution = solve(robust, ROBUST)
    assert solution.code == CONVERGED
    sensitivity, base = jax.jacfwd(robust.window.departures)(robust.origin), robust.window.departures(robust.origin)
    control = np.zeros(N)
    for _ in range(300):
        d = base + sensitivity @ control
        pull = sensitivity.T * np.minimum(1, 1.5 / np.abs(d))
        control = -np.linalg.solve(np.eye(N) + pull @ sensitivity, pull @ base)
    np.testing.assert_allclose(
        solution.control, control, atol=1e-8
    )  # the minimiser's tolerance times gradients near 10
    weights = robust.weights(solution.control).reshape(TIMES, STATIONS)
    assert np.argmin(weights) == np.flatnonzero(SPOILT.ravel() != VALUES.ravel())[0] and weights.min() < 0.1


def test_a_gross_error_moves_the_robust_analysis_far_less():
    truth = solve(window(VALUES)).control
    plain = np.linalg.norm(solve(window(SPOILT)).control - truth)
    robust = np.linalg.norm(solve(Huber(window(SPOILT), 1.5), ROBUST).control - truth)
    assert robust < 0.2 * plain


def test_influence_is_bounded():
    """However wrong the value, the pull is that of `limit`: the analysis does not move when it gets worse."""
    far, farther = (np.where(SPOILT != VALUES, size, SPOILT) for size in (1e3, 1e5))
    controls = [solve(Huber(window(values), 1.5), ROBUST).control for values in (far, farther)]
    np.testing.assert_allclose(controls[0], controls[1], atol=1e-4)  # tolerance 1e-9 of gradients up to 1e5


def test_huber_gradient_has_a_taylor_remainder_of_second_order():
    robust, control = Huber(window(SPOILT), 1.0), jnp.asarray(RNG.normal(size=N))
    direction, steps = jnp.ones(N) / np.sqrt(N), jnp.logspace(-2, -6, 5)
    ends = [np.abs(robust.window.departures(v)) for v in (control, control + steps[0] * direction)]
    assert (ends[0] > 1).any() and (ends[0] < 1).any()  # both branches ...
    np.testing.assert_array_equal(ends[0] > 1, ends[1] > 1)  # ... and no kink of J'' within a step
    remainders = jax.jit(lambda v: taylor_remainders(robust.cost, v, direction, steps))(control)
    # Quadratic and linear branches have no third-order term; at 1e-6 rounding is 1e-14 of costs near 50.
    np.testing.assert_allclose(-np.diff(np.log10(remainders)), 2.0, atol=0.15)


def test_huber_adjoint_is_the_transpose_of_the_tangent():
    robust, control = Huber(window(SPOILT), 1.0), jnp.asarray(RNG.normal(size=N))
    v, w = jnp.asarray(RNG.normal(size=N)), jnp.asarray(RNG.normal(size=N + TIMES * STATIONS))
    forward = jax.jit(lambda: jax.jvp(robust.residual, (control,), (v,))[1])()
    backward = jax.jit(lambda: jax.vjp(robust.residual, control)[1](w)[0])()
    np.testing.assert_allclose(jnp.vdot(forward, w), jnp.vdot(v, backward), rtol=1e-11)


def test_missing_values_count_nothing_under_huber():
    values = np.where(SPOILT != VALUES, np.nan, VALUES)
    robust, plain = (solve(w, ROBUST) for w in (Huber(window(values, True), 50.0), window(values, True)))
    assert np.isfinite(robust.control).all()
    np.testing.assert_allclose(robust.control, plain.control, atol=1e-9)

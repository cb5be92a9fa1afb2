"""Sensitivity to observations against re-analyses with displaced observations; impacts add up to the whole."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background, GaussNewton, LinearOperator, Window, assimilate, covariance_root, observe
from jaxsci.assimilation.impact import observation_impact, observation_sensitivity
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Lorenz63

pytestmark = pytest.mark.usefixtures("x64")

METHOD = GaussNewton(60, 1e-13)
solve = eqx.filter_jit(assimilate)
sensitivity_of, impact_of = eqx.filter_jit(observation_sensitivity), eqx.filter_jit(observation_impact)
RNG = np.random.default_rng(0)
N, STATIONS, TIMES = 4, 3, 3
F, H = 0.6 * RNG.normal(size=(N, N)), RNG.normal(size=(STATIONS, N))
FACTORS = RNG.normal(size=(N, N)), RNG.normal(size=(STATIONS, STATIONS))
B, R = (f @ f.T + np.eye(len(f)) for f in FACTORS)
VALUES = RNG.normal(size=(TIMES, STATIONS))
TRUTH = RNG.normal(size=N)


def linear_window(values=VALUES) -> Window:
    matrix = jnp.asarray(F)
    observations = observe(jnp.asarray(values), LinearOperator(jnp.asarray(H)), jnp.asarray(R), missing=True)
    return Window(lambda x: matrix @ x, Background(jnp.zeros(N), covariance_root(B)), observations)


def linear_error(states):
    """Squared error of a forecast of one step from the window's end."""
    return 0.5 * jnp.sum((jnp.asarray(F) @ states[-1] - TRUTH) ** 2)


@functools.cache
def lorenz():
    """A window of Lorenz-63 and the error of a ten-step forecast from its end."""
    model, start = Lorenz63(), jnp.array([5.0, 7.5, 20.0])
    truth = rollout(model, 18, include_initial=True)(start)
    noise = 0.5 * np.random.default_rng(1).normal(size=(9, 3))
    observations = observe(truth[:9] + noise, LinearOperator(jnp.eye(3)), 0.25 * jnp.eye(3))
    window = Window(model, Background(start + 0.8, jnp.eye(3)), observations)

    def error(states):
        return 0.5 * jnp.sum((rollout(model, 10)(states[-1])[-1] - truth[-1]) ** 2)

    return window, error


@eqx.filter_jit
def analysed_aspect(window, values, aspect):
    moved = eqx.tree_at(lambda w: w.observations.values, window, values)
    return aspect(assimilate(moved, METHOD).value)


def test_sensitivity_is_the_difference_between_re_analyses():
    window, error = lorenz()
    control = solve(window, METHOD).control
    found = np.asarray(sensitivity_of(window, control, error))
    values, step = window.observations.values, 1e-4
    entries = [(0, 0), (3, 1), (8, 2)]
    differences = []
    for entry in entries:
        up, down = (float(analysed_aspect(window, values.at[entry].add(s), error)) for s in (step, -step))
        differences.append((up - down) / (2 * step))
    # Central differences: the second-order term at 1e-4, and re-analyses exact to about 1e-11 over the step.
    np.testing.assert_allclose([found[e] for e in entries], differences, rtol=1e-5, atol=1e-6)


def test_taylor_remainder_of_the_analysed_error_is_of_second_order():
    """Along all observations at once, over three decades: the implicit derivative is the derivative."""
    window, error = lorenz()
    values = window.observations.values
    direction = jax.random.normal(jax.random.key(0), values.shape)
    base = float(analysed_aspect(window, values, error))
    control = solve(window, METHOD).control
    slope = float(jnp.vdot(sensitivity_of(window, control, error), direction))
    steps = [1e-1, 1e-2, 1e-3, 1e-4]
    remainders = [abs(float(analysed_aspect(window, values + h * direction, error)) - base - h * slope) for h in steps]
    # The third-order term at 1e-1; analyses exact to 1e-11 at 1e-4, where the remainder is near 1e-8.
    np.testing.assert_allclose(-np.diff(np.log10(remainders)), 2.0, atol=0.15)


def test_linear_sensitivity_is_the_transposed_gain():
    window = linear_window()
    control = solve(window).control
    operator = np.concatenate([H @ np.linalg.matrix_power(F, k) for k in range(TIMES)])
    noise = np.kron(np.eye(TIMES), R)
    gain = B @ operator.T @ np.linalg.inv(operator @ B @ operator.T + noise)
    ahead = np.linalg.matrix_power(F, TIMES)
    expected = gain.T @ ahead.T @ (ahead @ gain @ VALUES.ravel() - TRUTH)
    found = sensitivity_of(window, control, linear_error)
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-10)


@pytest.mark.parametrize("gaps", [False, True])
def test_impacts_add_up_to_what_the_analysis_gained(gaps):
    values = VALUES.copy()
    if gaps:
        values[1, 0] = values[2] = np.nan
    window = linear_window(values)
    solution = solve(window, GaussNewton(tolerance=1e-12))
    shares = impact_of(window, solution.control, linear_error)
    whole = linear_error(solution.value) - linear_error(window.trajectory(window.origin))
    np.testing.assert_allclose(jnp.sum(shares), whole, atol=1e-10)  # exact: linear model, quadratic error
    np.testing.assert_array_equal(np.asarray(shares)[np.isnan(values)], 0)
    sensitivity = sensitivity_of(window, solution.control, linear_error)
    np.testing.assert_array_equal(np.asarray(sensitivity)[np.isnan(values)], 0)


def test_impacts_of_a_nonlinear_window_explain_most_of_the_gain():
    window, error = lorenz()
    solution = solve(window, METHOD)
    whole = error(solution.value) - error(window.trajectory(window.origin))
    explained = jnp.sum(impact_of(window, solution.control, error)) / whole
    assert whole < 0 and 0.7 < explained < 1.3  # the trapezoidal rule's error along a finite increment

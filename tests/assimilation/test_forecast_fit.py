"""AIEADA's cost: value and gradient of one function, its minimum known where the emulator is linear."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background, assimilate
from jaxsci.assimilation.derivative_check import gradient_relative_error, taylor_remainders
from jaxsci.assimilation.forecast_fit import ForecastFit, grid_root
from jaxsci.assimilation.minimisers import LBFGS, SLSQP
from jaxsci.emulators.attention_lstm import AttentionLstm

pytestmark = pytest.mark.usefixtures("x64")

INPUTS, LEADS, MODES, POINTS, STATIONS, SCALE = 3, 2, 2, 6, 4, 0.05
RNG = np.random.default_rng(0)
BASIS = RNG.normal(size=(POINTS, MODES))
MAPS = RNG.normal(size=(LEADS * MODES, INPUTS * MODES))
WINDOW = RNG.normal(size=(INPUTS, MODES))
VALUES = 3 * RNG.normal(size=(LEADS, STATIONS))


def linear(window):
    return (jnp.asarray(MAPS) @ window.ravel()).reshape(LEADS, MODES)


def network():
    made = AttentionLstm(jnp.zeros(MODES), jnp.ones(MODES), LEADS, 4, key=jax.random.key(1))
    return jax.tree.map(lambda a: a.astype(float) if eqx.is_inexact_array(a) else a, made)


def problem(emulator=linear, values=VALUES):
    basis, window = jnp.asarray(BASIS), jnp.asarray(WINDOW)
    background = Background(window, grid_root(basis, INPUTS, SCALE))
    return ForecastFit(emulator, background, jnp.asarray(values), basis[:STATIONS], SCALE)


def published_cost(window, values=VALUES):
    """`s / 2 (|Phi (a - a_b)|^2 + sum |y - H Phi F(a)|^2)`, written out."""
    moved = BASIS @ (window - WINDOW).T
    forecast = (MAPS @ window.ravel()).reshape(LEADS, MODES)
    return SCALE / 2 * (np.sum(moved**2) + np.nansum((values - forecast @ BASIS[:STATIONS].T) ** 2))


def test_cost_is_the_published_one():
    fit, control = problem(), jnp.asarray(RNG.normal(size=INPUTS * MODES))
    window = np.asarray(fit.background(control))
    np.testing.assert_allclose(fit.cost(control), published_cost(window), rtol=1e-10)


def test_minimum_of_a_linear_emulator_is_the_normal_equations():
    whole = np.kron(np.eye(INPUTS), BASIS)
    seen = np.kron(np.eye(LEADS), BASIS[:STATIONS]) @ MAPS
    misfit = VALUES.ravel() - seen @ WINDOW.ravel()
    step = np.linalg.solve(whole.T @ whole + seen.T @ seen, seen.T @ misfit)
    expected = (WINDOW.ravel() + step).reshape(INPUTS, MODES)
    for method in (None, LBFGS(200, 1e-8), SLSQP(200, 1e-14)):
        solution = assimilate(problem(), method)
        np.testing.assert_allclose(problem().background(solution.control), expected, atol=1e-5)
        np.testing.assert_allclose(solution.value, linear(jnp.asarray(expected)), atol=1e-5)


def test_gradient_through_the_network_belongs_to_the_cost():
    fit, control = problem(network()), 0.1 * jnp.asarray(RNG.normal(size=INPUTS * MODES))
    assert jax.jit(lambda v: gradient_relative_error(fit.cost, v, key=jax.random.key(2)))(control) < 1e-6
    direction = jnp.ones(INPUTS * MODES)
    remainders = jax.jit(lambda h: taylor_remainders(fit.cost, control, direction, h))(10.0 ** -jnp.arange(1, 5))
    # The third derivative times h bends the first decade by a few hundredths.
    np.testing.assert_allclose(-np.diff(np.log10(remainders)), 2.0, atol=0.1)


def test_days_that_are_not_seen_count_nothing():
    values = np.where(np.arange(LEADS)[:, None] == 1, np.nan, VALUES)
    fit, control = problem(values=values), jnp.zeros(INPUTS * MODES)
    np.testing.assert_allclose(fit.cost(control), published_cost(WINDOW, values), rtol=1e-10)
    assert np.isfinite(jax.grad(fit.cost)(control)).all()

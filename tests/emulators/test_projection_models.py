"""Galerkin, hyper-reduced and LSPG models: exact where the basis is, and equal to each other where they must be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import ShallowWater, gaussian_bump
from jaxsci.emulators.galerkin import Galerkin, SampledShallowWater, choose_sampling
from jaxsci.emulators.interpolation_points import deim_points, gappy_inverse, qdeim_points
from jaxsci.emulators.lspg import Lspg
from jaxsci.emulators.state_basis import StateBasis, fit_state_basis

pytestmark = pytest.mark.usefixtures("x64")
CELLS, DT = 8, 8e-3


@pytest.fixture(scope="module")
def run():
    """A wave over a hill, and the rates of change along it."""
    with jax.enable_x64(True):
        bottom = 0.2 * (gaussian_bump(jnp.array([0.1, -0.2]), CELLS, width=0.15)[0] - 1)
        model = ShallowWater(1 / CELLS, DT, bottom=bottom)
        first = gaussian_bump(jnp.array([0.2, 0.1]), CELLS, width=0.2, amplitude=0.2).at[0].add(-bottom)
        states = jax.jit(rollout(model, 30, include_initial=True))(first)
        return model, np.asarray(states), np.asarray(jax.jit(jax.vmap(model.tendency))(states))


def basis_of(run, modes):
    return fit_state_basis(run[1], modes, method="svd")


def complete_basis():
    """Every cell is a mode."""
    points = CELLS * CELLS
    return StateBasis(jnp.stack([jnp.eye(points)] * 3), jnp.zeros((3, points)), (CELLS, CELLS))


def test_lift_and_project(run):
    basis = basis_of(run, 4)
    a = jax.random.normal(jax.random.key(0), (12,))
    np.testing.assert_allclose(basis.project(basis.lift(a)), a, atol=1e-12)
    np.testing.assert_allclose(basis.project_change(basis.lift_change(a)), a, atol=1e-12)
    np.testing.assert_allclose(basis.lift(a) - basis.lift(0 * a), basis.lift_change(a), atol=1e-12)
    small = basis.truncate(2)
    state = jnp.asarray(run[1][5])
    np.testing.assert_allclose(small.project(state).reshape(3, 2), basis.project(state).reshape(3, 4)[:, :2])


def test_with_a_complete_basis_galerkin_is_the_full_model(run):
    model, states, _ = run
    basis = complete_basis()
    step = Galerkin(model.tendency, basis, DT)
    found = jax.jit(rollout(step, 5))(basis.project(jnp.asarray(states[0])))
    np.testing.assert_allclose(jax.vmap(basis.lift)(found), states[1:6], atol=1e-12)


def test_galerkin_of_a_linear_model_is_the_projected_matrix(run):
    basis = basis_of(run, 3)
    factor = jnp.linspace(-1.0, 1.0, 3 * CELLS * CELLS).reshape(3, CELLS, CELLS)
    step = Galerkin(lambda q: factor * q, basis, DT)
    flat = jnp.stack([basis.lift_change(e).ravel() for e in jnp.eye(9)], 1)
    matrix = flat.T @ (factor.reshape(-1, 1) * flat)
    offset = flat.T @ (factor * basis.lift(jnp.zeros(9))).ravel()
    a = jax.random.normal(jax.random.key(1), (9,))
    np.testing.assert_allclose(step.vector_field(a), matrix @ a + offset, atol=1e-12)


def test_sampled_tendency_is_the_full_one_in_its_cells(run):
    model, states, _ = run
    basis = basis_of(run, 5)
    cells = np.array([0, 7, 13, 56, 63])  # corners and edges too
    a = basis.project(jnp.asarray(states[10]))
    full = model.tendency(basis.lift(a)).reshape(3, -1)[:, cells]
    np.testing.assert_allclose(SampledShallowWater(model, basis, cells)(a), full, atol=1e-12)


@pytest.mark.parametrize("selection", ["deim", "qdeim"])
def test_hyper_reduction_is_exact_where_the_rates_are_in_their_modes(run, selection):
    model, states, rates = run
    basis = basis_of(run, 4)
    a = basis.project(jnp.asarray(states[12]))
    here = np.asarray(model.tendency(basis.lift(a)))  # that of the lifted state, which is not quite the true one
    modes = fit_state_basis(np.concatenate([rates, here[None]]), 31, centre=None, method="svd")
    reduced = choose_sampling(basis, modes, selection=selection).reduce(model, basis)
    exact = Galerkin(model.tendency, basis, DT).vector_field(a)
    # Rates that are within the 31 modes but for what the other two components' points add: to rounding, which the
    # interpolation's condition makes a few 1e-8 of the largest (measured 1.5e-8).
    np.testing.assert_allclose(reduced.vector_field(a), exact, rtol=0, atol=1e-7 * float(jnp.abs(exact).max()))


def test_points_of_both_methods_interpolate():
    basis = np.linalg.qr(np.random.default_rng(2).normal(size=(40, 6)))[0]
    for points in (deim_points(basis), qdeim_points(basis)):
        assert len(set(points.tolist())) == 6
        coefficients = 1 + np.arange(6.0)
        np.testing.assert_allclose(gappy_inverse(basis, points) @ (basis @ coefficients)[points], coefficients)
    more = np.arange(12)
    np.testing.assert_allclose(gappy_inverse(basis, more) @ basis[more], np.eye(6), atol=1e-12)
    with pytest.raises(ConfigError, match="expected 6"):
        gappy_inverse(basis, np.arange(5))


def test_lspg_of_a_linear_model_solves_its_normal_equations(run):
    basis = basis_of(run, 3)
    rows = jnp.stack([basis.lift_change(e).ravel() for e in jnp.eye(9)], 1)
    factor = jnp.linspace(-20.0, 5.0, len(rows))
    rates = lambda a: factor * (rows @ a)  # noqa: E731
    a, dt = jax.random.normal(jax.random.key(3), (9,)), 0.05
    found = Lspg(rates, rows, dt, implicit=0.5, iterations=1)(a)
    matrix = rows - dt / 2 * factor[:, None] * rows
    right = rows @ a + dt / 2 * rates(a)
    np.testing.assert_allclose(found, jnp.linalg.lstsq(matrix, right)[0], atol=1e-10)


def test_lspg_with_a_complete_basis_is_the_implicit_step():
    decay = lambda a: -jnp.square(a)  # noqa: E731
    a, dt = jnp.array([0.5, 1.0, 2.0]), 0.1
    found = Lspg(decay, jnp.eye(3), dt, implicit=1.0, iterations=6)(a)
    np.testing.assert_allclose(found, (-1 + jnp.sqrt(1 + 4 * dt * a)) / (2 * dt), rtol=1e-12)  # x + dt x^2 = a


def test_lspg_of_second_order_follows_the_wave(run):
    model, states, _ = run
    basis = complete_basis()
    step = Lspg(lambda a: model.tendency(basis.lift(a)).ravel(), jnp.eye(basis.size), DT, iterations=2)
    found = jax.jit(lambda a: step(a))(basis.project(jnp.asarray(states[0])))
    explicit = states[1].ravel() - states[0].ravel()
    # Trapezoidal against three-stage steps: they differ in the third order of a Courant number of a half.
    assert np.linalg.norm(found - states[1].ravel()) < 0.02 * np.linalg.norm(explicit)

"""Weak-constraint 4D-Var is the Kalman smoother with model noise where that is exact."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import ortho_group

from jaxsci.assimilation import (
    Background,
    GaussNewton,
    LinearOperator,
    Window,
    assimilate,
    covariance_root,
    observe,
    posterior_root,
)
from jaxsci.assimilation.derivative_check import taylor_remainders
from jaxsci.assimilation.variational import CONVERGED
from jaxsci.assimilation.weak_constraint import WeakWindow, residual_covariance
from jaxsci.core.errors import DataError
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Lorenz63

pytestmark = pytest.mark.usefixtures("x64")

solve = eqx.filter_jit(assimilate)

RNG = np.random.default_rng(0)
N, STATIONS, TIMES = 4, 3, 5
F = 0.95 * ortho_group.rvs(N, random_state=RNG) + 0.1 * RNG.normal(size=(N, N))
H = RNG.normal(size=(STATIONS, N))


def covariance(n):
    factor = RNG.normal(size=(n, n))
    return factor @ factor.T + 0.5 * np.eye(n)


B, R, Q = covariance(N), covariance(STATIONS), 0.3 * covariance(N)
MEAN, VALUES = RNG.normal(size=N), 3 * RNG.normal(size=(TIMES, STATIONS))
GAPS = np.where(RNG.uniform(size=VALUES.shape) < 0.3, np.nan, VALUES)


def linear_window(values, error_root) -> WeakWindow:
    observations = observe(jnp.asarray(values), LinearOperator(jnp.asarray(H)), jnp.asarray(R), missing=True)
    matrix = jnp.asarray(F)
    return WeakWindow(lambda x: matrix @ x, Background(jnp.asarray(MEAN), covariance_root(B)), observations, error_root)


@functools.cache
def lorenz_window() -> tuple[WeakWindow, jax.Array]:
    start = jnp.array([5.0, 7.5, 20.0])
    states = rollout(Lorenz63(), 12, include_initial=True)(start)
    values = states[:, :2] + 0.5 * jax.random.normal(jax.random.key(0), (13, 2))
    observations = observe(values, LinearOperator(jnp.eye(3)[:2]), 0.25 * jnp.eye(2))
    window = WeakWindow(Lorenz63(), Background(start + 1, jnp.eye(3)), observations, 0.1 * jnp.eye(3))
    return window, 0.3 * jax.random.normal(jax.random.key(1), window.origin.shape)


@pytest.mark.parametrize("values", [VALUES, GAPS], ids=["complete", "with gaps"])
@pytest.mark.parametrize("inner", ["dense", "conjugate_gradients"])
def test_linear_case_is_the_kalman_smoother_with_model_noise(smoother, values, inner):
    exact = smoother(F, Q, H, R, MEAN, B, values)
    window = linear_window(values, covariance_root(Q))
    solution = solve(window, GaussNewton(tolerance=1e-10, inner=inner))
    assert solution.code == CONVERGED
    # Both exact up to rounding; the smoother inverts covariances with condition numbers near 1e2.
    np.testing.assert_allclose(solution.value, exact.mean, atol=1e-10)
    deviations = jax.jacfwd(window.trajectory)(solution.control) @ posterior_root(window, solution.control)
    np.testing.assert_allclose(jnp.einsum("tic,tjc->tij", deviations, deviations), exact.covariance, atol=1e-10)


def test_without_model_error_it_is_the_strong_constraint():
    weak = linear_window(VALUES, jnp.zeros((N, N)))
    strong = Window(weak.model, weak.background, weak.observations)
    np.testing.assert_allclose(solve(weak).value, solve(strong).value, atol=1e-11)  # two orders of summation


def test_gradient_has_a_taylor_remainder_of_second_order():
    window, control = lorenz_window()
    direction = jax.random.normal(jax.random.key(2), control.shape)
    direction = direction / jnp.linalg.norm(direction)
    steps = jnp.logspace(-2, -6, 5)
    remainders = jax.jit(lambda v: taylor_remainders(window.cost, v, direction, steps))(control)
    # 2 up to the third-order term at steps of 1e-2, and up to rounding, 1e-13 of costs near 100, at 1e-6.
    np.testing.assert_allclose(-np.diff(np.log10(remainders)), 2.0, atol=0.15)


def test_adjoint_is_the_transpose_of_the_tangent():
    window, control = lorenz_window()
    v = jax.random.normal(jax.random.key(3), control.shape)
    forward = jax.jit(lambda x, v: jax.jvp(window.residual, (x,), (v,))[1])(control, v)
    w = jax.random.normal(jax.random.key(4), forward.shape)
    backward = jax.jit(lambda x, w: jax.vjp(window.residual, x)[1](w)[0])(control, w)
    # Rounding relative to the size of the products summed
    assert abs(jnp.vdot(forward, w) - jnp.vdot(v, backward)) < 1e-12 * jnp.linalg.norm(forward) * jnp.linalg.norm(w)


def test_errors_are_what_the_trajectory_departs_from_the_model_by():
    window, control = lorenz_window()
    states = window.trajectory(control)
    found = states[1:] - jax.vmap(window.model)(states[:-1])
    np.testing.assert_allclose(found, window.errors(control), atol=1e-12)  # differences of states near 30


def test_rows_of_zeros_spare_the_older_lags_of_a_delay_state():
    """A delay state of two lags: whatever the control, yesterday's entry is the day before's newest."""
    observations = observe(jnp.ones((4, 2)), lambda z: z[0], jnp.eye(2))
    newest = jnp.eye(4)[:, :2]
    model = lambda z: jnp.stack([0.9 * z[0] - 0.2 * z[1], z[0]])  # noqa: E731
    window = WeakWindow(model, Background(jnp.zeros((2, 2)), jnp.eye(4)), observations, newest)
    states = window.trajectory(jax.random.normal(jax.random.key(0), window.origin.shape))
    np.testing.assert_array_equal(states[1:, 1], states[:-1, 0])
    assert not np.allclose(states[1:, 0], jax.vmap(model)(states[:-1])[:, 0])


def test_weak_constraint_recovers_a_drifting_truth_better_than_strong():
    """Random forcing of known covariance at every step: strong-constraint analyses cannot follow it."""
    model, steps, seeds = Lorenz63(), 8, 20
    root = 0.5 * jnp.eye(3)

    def errors(key):
        first, forcing, noise = jax.random.split(key, 3)
        start = jnp.array([5.0, 7.5, 20.0])
        pushes = jax.random.normal(forcing, (steps, 3)) @ root

        def step(x, push):
            return model(x) + push, model(x) + push

        truth = jnp.concatenate([start[None], jax.lax.scan(step, start, pushes)[1]])
        values = truth + 0.5 * jax.random.normal(noise, truth.shape)
        observations = observe(values, lambda x: x, 0.25 * jnp.eye(3))
        background = Background(start + jax.random.normal(first, (3,)), jnp.eye(3))
        windows = Window(model, background, observations), WeakWindow(model, background, observations, root)
        return [jnp.mean((assimilate(w).value - truth) ** 2) for w in windows]

    strong, weak = jax.jit(jax.vmap(errors))(jax.random.split(jax.random.key(0), seeds))
    assert np.mean(weak) < 0.5 * np.mean(strong)
    assert np.sqrt(np.mean(weak)) < 0.5  # no worse than the observations themselves


def test_residual_covariance_by_hand():
    states = jnp.array([[0.0, 0.0], [1.0, 2.0], [3.0, 3.0]])
    found = residual_covariance(lambda x: x, states)  # residuals (1, 2) and (2, 1)
    np.testing.assert_allclose(found, [[2.5, 2.0], [2.0, 2.5]], rtol=1e-15)


def test_residual_covariance_counts_a_bias():
    states = jnp.arange(5.0)[:, None]
    np.testing.assert_allclose(residual_covariance(lambda x: x, states), [[1.0]], rtol=1e-15)


def test_residual_covariance_of_a_linear_process_is_its_q(make_weather):
    weather = make_weather(4000)
    pairs = jnp.asarray(weather.coefficients)
    delays = jnp.stack([pairs[1:], pairs[:-1]], axis=1)

    def step(z):
        return jnp.stack([weather.emulator(z)[0], z[0]])

    found = residual_covariance(step, delays)[:3, :3]
    # Standard error of a variance from 4000 draws: sqrt(2 / 4000) = 2 % of it; four of those.
    np.testing.assert_allclose(found, weather.error, atol=0.09 * weather.error.max())


@pytest.mark.parametrize(
    "states, message",
    [
        (jnp.ones((1, 2)), "states: expected two consecutive states or more, got 1"),
        (jnp.ones((3, 2)).at[1, 0].set(jnp.nan), "states: expected finite residuals, got NaN or infinity"),
    ],
)
def test_residual_covariance_refuses_in_one_line(states, message):
    with pytest.raises(DataError, match=f"^{message}") as caught:
        residual_covariance(lambda x: x, states)
    assert "\n" not in str(caught.value)

"""Model error absorbed by old lags: the strong-constraint analysis is then the Kalman one, in every number."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

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
from jaxsci.assimilation.background import tangent_matrix
from jaxsci.assimilation.model_error import absorb, accumulated_error, response_of_lags, steady_background
from jaxsci.emulators import LinearEmulator

pytestmark = pytest.mark.usefixtures("x64")

solve = eqx.filter_jit(assimilate)

MODES, STATIONS = 3, 2
RNG = np.random.default_rng(3)
H = RNG.normal(size=(STATIONS, MODES))
R = np.array([[0.5, 0.1], [0.1, 0.3]])
Q_FACTOR = RNG.normal(size=(MODES, MODES))
Q = 0.3 * (Q_FACTOR @ Q_FACTOR.T + np.eye(MODES))


def autoregression(lags) -> tuple[LinearEmulator, np.ndarray]:
    """A stable linear emulator whose response to every lag is invertible, and its transition matrix."""
    rng = np.random.default_rng(lags)
    blocks = [np.linalg.qr(rng.normal(size=(MODES, MODES)))[0] * size for size in (0.6, 0.3, 0.2, 0.15)[:lags]]
    emulator = LinearEmulator(jnp.asarray(np.concatenate([b.T for b in blocks])[None]), lags, 1)
    n = lags * MODES
    transition = np.eye(n, k=-MODES)
    transition[:MODES] = np.concatenate(blocks, 1)
    assert np.abs(np.linalg.eigvals(transition)).max() < 1
    return emulator, transition


def lifted(lags) -> tuple[np.ndarray, np.ndarray]:
    """Q on the newest day, H of the newest day, as the delay state sees them."""
    n = lags * MODES
    error, operator = np.zeros((n, n)), np.zeros((STATIONS, n))
    error[:MODES, :MODES], operator[:, :MODES] = Q, H
    return error, operator


def random_covariance(n, seed=0):
    factor = np.random.default_rng(seed).normal(size=(n, n))
    return factor @ factor.T / n + 0.1 * np.eye(n)


def test_transition_is_the_tangent_of_the_emulator():
    emulator, transition = autoregression(3)
    np.testing.assert_allclose(tangent_matrix(emulator, jnp.zeros((3, MODES))), transition, atol=1e-14)


@pytest.mark.parametrize(("lags", "window"), [(1, 3), (2, 1), (2, 4), (3, 2)])
def test_accumulated_error_is_that_of_impulses_followed_one_by_one(lags, window):
    _, transition = autoregression(lags)
    responses = []
    for day in range(window):
        for mode in range(MODES):
            z, days = np.zeros(lags * MODES), []
            for k in range(window):
                z = transition @ z
                if k == day:
                    z[mode] += 1  # an error of the model in the forecast of this day
                days.append(z[:MODES])
            responses.append(np.concatenate(days))
    propagate = np.stack(responses, 1)
    expected = propagate @ np.kron(np.eye(window), Q) @ propagate.T
    found = accumulated_error(jnp.asarray(transition), jnp.asarray(Q), window)
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_response_is_the_change_of_the_forecast():
    emulator, transition = autoregression(3)
    response = np.asarray(response_of_lags(jnp.asarray(transition), MODES, 2))
    z = RNG.normal(size=(3, MODES))
    change = RNG.normal(size=(2, MODES))

    def days(state):
        out = []
        for _ in range(2):
            state = emulator(jnp.asarray(state))
            out.append(state[0])
        return np.concatenate(out)

    moved = days(z + np.concatenate([np.zeros((1, MODES)), change])) - days(z)
    np.testing.assert_allclose(response @ change.ravel(), moved, atol=1e-13)


@pytest.mark.parametrize(("lags", "window"), [(2, 1), (3, 2), (3, 1), (4, 2)])
def test_analysis_is_the_weak_constraint_one(smoother, lags, window):
    """With more lags than steps in the window, trajectory and end-of-window covariance are those of Kalman with Q."""
    emulator, transition = autoregression(lags)
    n = lags * MODES
    error, operator = lifted(lags)
    prior, mean = random_covariance(n), RNG.normal(size=n)
    values = 2 * RNG.normal(size=(window + 1, STATIONS))
    exact = smoother(transition, error, operator, R, mean, prior, values)

    # The ridge biases the response by its own size times the condition number of the gram matrix, below 1e3.
    with_error = absorb(jnp.asarray(prior), jnp.asarray(transition), jnp.asarray(Q), window, 1e-12)
    background = Background(jnp.asarray(mean.reshape(lags, MODES)), covariance_root(np.asarray(with_error)))
    observations = observe(jnp.asarray(values), LinearOperator(jnp.asarray(H)), jnp.asarray(R))
    problem = Window(emulator, background, observations)
    solution = solve(problem, GaussNewton(tolerance=1e-10))

    np.testing.assert_allclose(solution.value[:, 0], exact.mean[:, :MODES], atol=1e-6)
    np.testing.assert_allclose(np.asarray(solution.value[-1]).ravel(), exact.mean[-1], atol=1e-6)
    end = jax.jacfwd(lambda v: problem.trajectory(v)[-1].ravel())(solution.control)
    root = end @ posterior_root(problem, solution.control)
    np.testing.assert_allclose(root @ root.T, exact.covariance[-1], atol=1e-6)
    # The claim is not empty: without absorbing, the analysis is another one.
    strong = Background(background.mean, covariance_root(prior))
    other = solve(Window(emulator, strong, observations))
    assert np.abs(other.value[:, 0] - exact.mean[:, :MODES]).max() > 0.05


def test_nothing_to_absorb():
    _, transition = autoregression(2)
    prior = jnp.asarray(random_covariance(2 * MODES))
    arguments = (jnp.asarray(transition), jnp.asarray(Q))
    np.testing.assert_array_equal(absorb(prior, *arguments, 0, 1e-3), prior)  # one time: no model in the window
    alone = jnp.asarray(random_covariance(MODES))
    np.testing.assert_array_equal(absorb(alone, arguments[0][:MODES, :MODES], arguments[1], 2, 1e-3), alone)
    added = np.asarray(absorb(prior, *arguments, 1, 1e-3) - prior)
    np.testing.assert_array_equal(added[:MODES], 0)  # the newest day is left as it is
    assert np.linalg.eigvalsh(added[MODES:, MODES:]).min() > 0


def riccati(lags):
    _, transition = autoregression(lags)
    error, operator = lifted(lags)
    return transition, solve_discrete_are(transition.T, operator.T, error, R)


@pytest.mark.parametrize("lags", [1, 2, 3])
def test_steady_background_of_single_days_solves_the_riccati_equation(lags):
    transition, expected = riccati(lags)
    found = steady_background(jnp.asarray(transition), jnp.asarray(Q), jnp.asarray(H), jnp.asarray(R), window=0)
    # 60 cycles of a filter whose error transition contracts by less than 0.8 each
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(("lags", "window"), [(2, 1), (3, 2)])
def test_steady_background_of_windows_is_the_daily_filter_with_the_error_absorbed(lags, window):
    transition, daily = riccati(lags)
    found = steady_background(
        jnp.asarray(transition), jnp.asarray(Q), jnp.asarray(H), jnp.asarray(R), window=window, ridge=1e-12
    )
    # Windows see the same observations as days do: what is left is the ridge, as above.
    expected = absorb(jnp.asarray(daily), jnp.asarray(transition), jnp.asarray(Q), window, 1e-12)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("window", [0, 1, 3])
def test_steady_background_is_a_fixed_point(window):
    """More iterations change nothing, for windows longer than the lags too."""
    _, transition = autoregression(2)
    arguments = [jnp.asarray(a) for a in (transition, Q, H, R)]
    found, longer = (steady_background(*arguments, window=window, iterations=n) for n in (60, 90))
    np.testing.assert_allclose(found, longer, atol=1e-9)
    np.testing.assert_allclose(found, found.T, atol=1e-9)
    assert np.linalg.eigvalsh(found).min() > 0

"""4D-Var: exact where Kalman is exact, right derivatives everywhere else, and a true word on how it ended."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.stats import ortho_group

from jaxsci.assimilation import (
    Background,
    GaussNewton,
    LinearOperator,
    Observations,
    Window,
    assimilate,
    covariance_root,
    observe,
    posterior_root,
)
from jaxsci.assimilation.derivative_check import taylor_remainders
from jaxsci.assimilation.variational import CONVERGED, MAXIMUM_REACHED, NO_DESCENT, NOT_FINITE
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Lorenz63, Lorenz96
from jaxsci.emulators import DirectRecurrent

pytestmark = pytest.mark.usefixtures("x64")

solve = eqx.filter_jit(assimilate)

RNG = np.random.default_rng(0)
N, STATIONS, TIMES = 4, 3, 5
F = 0.95 * ortho_group.rvs(N, random_state=RNG) + 0.1 * RNG.normal(size=(N, N))
H = RNG.normal(size=(STATIONS, N))
B_FACTOR, R_FACTOR = RNG.normal(size=(N, N)), RNG.normal(size=(STATIONS, STATIONS))
B, R = B_FACTOR @ B_FACTOR.T + 0.1 * np.eye(N), R_FACTOR @ R_FACTOR.T + np.eye(STATIONS)
MEAN = RNG.normal(size=N)
VALUES = RNG.normal(size=(TIMES, STATIONS)) * 3


class Linear(eqx.Module):
    matrix: jax.Array

    def __call__(self, x):
        return self.matrix @ x


def linear_window(values=VALUES, root=None) -> Window:
    background = Background(jnp.asarray(MEAN), covariance_root(B) if root is None else root)
    observations = observe(jnp.asarray(values), LinearOperator(jnp.asarray(H)), jnp.asarray(R))
    return Window(Linear(jnp.asarray(F)), background, observations)


def recurrent_emulator() -> DirectRecurrent:
    """Two lags of three modes, with a head that is not zero, in float64."""
    maps = 0.5 * jax.random.normal(jax.random.key(0), (2, 6, 3))
    emulator = DirectRecurrent(maps, jnp.array([3.0, 2.0, 1.0]), 6, key=jax.random.key(1))
    head = 0.5 * jax.random.normal(jax.random.key(2), (3, 6))
    emulator = eqx.tree_at(lambda e: e.head.weight, emulator, head)
    return jax.tree.map(lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, emulator)


@functools.cache
@eqx.filter_jit
def twin(name: str) -> tuple[Window, jax.Array]:
    """A window around a nonlinear model's truth, and a control far from the minimum."""
    model, start, spread, steps = {
        "lorenz63": (Lorenz63(), 5 * jnp.array([1.0, 1.5, 4.0]), 1.0, 20),
        "lorenz96": (Lorenz96(), 8 * jax.random.normal(jax.random.key(5), (10,)), 1.0, 8),
        "recurrent": (recurrent_emulator(), jax.random.normal(jax.random.key(6), (2, 3)), 1.0, 6),
    }[name]
    truth = rollout(model, steps, include_initial=True)(start)
    newest = truth[:, 0] if truth.ndim == 3 else truth
    matrix = jax.random.normal(jax.random.key(7), (newest.shape[1] - 1, newest.shape[1]))
    noise = 0.5 * jax.random.normal(jax.random.key(8), (steps + 1, len(matrix)))
    observations = observe(newest @ matrix.T + noise, LinearOperator(matrix), 0.25 * jnp.eye(len(matrix)))
    error = spread * jax.random.normal(jax.random.key(9), start.shape)
    window = Window(model, Background(start + error, spread * jnp.eye(start.size)), observations)
    return window, 0.3 * jax.random.normal(jax.random.key(10), (start.size,))


TWINS = ("lorenz63", "lorenz96", "recurrent")


@pytest.mark.parametrize("inner", ["dense", "conjugate_gradients"])
def test_linear_gaussian_case_is_the_kalman_smoother(smoother, inner):
    exact = smoother(F, np.zeros((N, N)), H, R, MEAN, B, VALUES)
    window = linear_window()
    solution = solve(window, GaussNewton(tolerance=1e-10, inner=inner))
    # Both exact up to rounding; the smoother inverts covariances with condition numbers near 1e3.
    np.testing.assert_allclose(solution.value, exact.mean, atol=1e-10)
    assert solution.code == CONVERGED
    root = window.background.root @ posterior_root(window, solution.control)
    power = np.eye(N)
    for k in range(TIMES):
        np.testing.assert_allclose(power @ root @ root.T @ power.T, exact.covariance[k], atol=1e-10)
        power = F @ power


def test_linear_case_takes_one_iteration():
    solution = solve(linear_window())
    assert solution.stats.iterations == 1 and solution.code == CONVERGED


def test_twice_the_minimal_cost_is_chi_square():
    """2 J over many draws of truth and noise follows chi^2 with as many degrees as observations."""
    root_b, root_r = covariance_root(B), jnp.linalg.cholesky(jnp.asarray(R))
    draws, p = 1000, TIMES * STATIONS

    def twice_cost(key):
        first, second = jax.random.split(key)
        start = jnp.asarray(MEAN) + root_b @ jax.random.normal(first, (N,))
        states = rollout(Linear(jnp.asarray(F)), TIMES - 1, include_initial=True)(start)
        values = states @ H.T + jax.random.normal(second, (TIMES, STATIONS)) @ root_r.T
        return 2 * solve(linear_window(values)).stats.cost

    found = np.asarray(jax.jit(jax.vmap(twice_cost))(jax.random.split(jax.random.key(0), draws)))
    # Standard error of the mean: sqrt(2 p / draws); of the variance 2 p: sqrt((8 p^2 + 48 p) / draws).
    np.testing.assert_allclose(found.mean(), p, atol=4 * np.sqrt(2 * p / draws))
    np.testing.assert_allclose(found.var(), 2 * p, atol=4 * np.sqrt((8 * p**2 + 48 * p) / draws))
    assert stats.kstest(found, stats.chi2(p).cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", TWINS)
def test_gradient_of_the_full_cost_has_a_taylor_remainder_of_second_order(name):
    window, control = twin(name)
    direction = jax.random.normal(jax.random.key(11), control.shape)
    direction = direction / jnp.linalg.norm(direction)
    steps = jnp.logspace(-2, -6, 5)
    remainders = jax.jit(lambda v: taylor_remainders(window.cost, v, direction, steps))(control)
    orders = np.diff(np.log10(remainders)) / -1.0
    # 2 up to the third-order term at steps of 1e-2, and up to rounding, 1e-13 of costs near 100, at 1e-6.
    np.testing.assert_allclose(orders, 2.0, atol=0.15)
    np.testing.assert_allclose(orders[1:3], 2.0, atol=0.02)


@pytest.mark.parametrize("name", TWINS)
def test_adjoint_is_the_transpose_of_the_tangent(name):
    window, control = twin(name)
    v = jax.random.normal(jax.random.key(12), control.shape)
    forward = jax.jit(lambda x, v: jax.jvp(window.residual, (x,), (v,))[1])(control, v)
    w = jax.random.normal(jax.random.key(13), forward.shape)
    backward = jax.jit(lambda x, w: jax.vjp(window.residual, x)[1](w)[0])(control, w)
    # Rounding relative to the size of the products summed
    assert abs(jnp.vdot(forward, w) - jnp.vdot(v, backward)) < 1e-12 * jnp.linalg.norm(forward) * jnp.linalg.norm(w)


@pytest.mark.parametrize("name", TWINS)
def test_dense_and_matrix_free_find_the_same_minimum(name):
    window, _ = twin(name)
    methods = [GaussNewton(30, 1e-11, "dense"), GaussNewton(30, 1e-11, "conjugate_gradients")]
    dense, free = (solve(window, m) for m in methods)
    assert dense.code == CONVERGED and free.code == CONVERGED
    # A gradient 1e-11 of its start leaves a control error of that order times the norm of the inverse Hessian (<= 1).
    np.testing.assert_allclose(free.control, dense.control, atol=1e-8)
    np.testing.assert_allclose(jax.grad(window.cost)(dense.control), 0, atol=1e-7)
    assert dense.stats.cost < dense.stats.initial_cost


def test_lorenz63_twin_analyses_are_far_better_than_backgrounds():
    model, steps, windows = Lorenz63(), 30, 40
    starts = rollout(model, 4000)(jnp.ones(3))[500::80][:windows]
    every = jnp.zeros(steps + 1, bool).at[::5].set(True)

    def errors(start, key):
        first, second = jax.random.split(key)
        truth = rollout(model, steps, include_initial=True)(start)
        values = truth + 0.5 * jax.random.normal(second, truth.shape)
        values = jnp.where(every[:, None], values, jnp.nan)  # R is diagonal: no need to cut it
        observations = observe(values, LinearOperator(jnp.eye(3)), 0.25 * jnp.eye(3))
        window = Window(model, Background(start + jax.random.normal(first, (3,)), jnp.eye(3)), observations)
        solution = solve(window, GaussNewton(max_iterations=20))
        free = window.trajectory(jnp.zeros(3))
        return jnp.mean((solution.value - truth) ** 2, 1), jnp.mean((free - truth) ** 2, 1), solution.code

    analysis, background, code = jax.jit(jax.vmap(errors))(starts, jax.random.split(jax.random.key(0), windows))
    analysis, background = np.sqrt(np.mean(analysis, 0)), np.sqrt(np.mean(background, 0))
    assert np.all(analysis < 0.5 * background)
    # Seven observed times of three variables with noise 0.5 determine three unknowns: 0.5 / sqrt(7) plus growth.
    assert analysis.mean() < 0.4
    assert np.mean(np.asarray(code) == CONVERGED) > 0.9


@pytest.mark.parametrize("kind", ["permutation", "rotation", "more controls than states"])
def test_analysis_does_not_depend_on_which_root_of_b(kind):
    window, _ = twin("lorenz96")
    n = window.background.controls
    turn = {
        "permutation": np.eye(n)[RNG.permutation(n)],
        "rotation": ortho_group.rvs(n, random_state=1),
        "more controls than states": ortho_group.rvs(n + 3, random_state=2)[:n],
    }[kind]
    turned = eqx.tree_at(lambda w: w.background.root, window, window.background.root @ turn)
    method = GaussNewton(20, 1e-11)
    solutions = [solve(w, method) for w in (window, turned)]
    np.testing.assert_allclose(solutions[1].value, solutions[0].value, atol=1e-8)  # each within its tolerance
    np.testing.assert_allclose(solutions[1].stats.cost, solutions[0].stats.cost, rtol=1e-12)


def test_vmapped_equals_one_by_one():
    many = np.stack([VALUES, 2 * VALUES, VALUES[::-1]])
    together = jax.vmap(lambda values: solve(linear_window(values)).value)(jnp.asarray(many))
    for values, found in zip(many, together, strict=True):
        np.testing.assert_allclose(found, solve(linear_window(values)).value, atol=1e-12)


def test_cost_by_hand():
    window, control = linear_window(), jnp.asarray(RNG.normal(size=N))
    x = MEAN + np.asarray(covariance_root(B)) @ control
    expected = 0.5 * control @ control
    for y in VALUES:
        expected += 0.5 * (y - H @ x) @ np.linalg.solve(R, y - H @ x)
        x = F @ x
    np.testing.assert_allclose(window.cost(control), expected, rtol=1e-12)


def test_result_converged_at_once_where_the_background_fits():
    x, values = MEAN, []
    for _ in range(TIMES):
        values.append(H @ x)
        x = F @ x
    solution = solve(linear_window(np.array(values)))
    assert solution.code == CONVERGED and solution.result.startswith("converged")
    np.testing.assert_allclose(solution.control, 0, atol=1e-12)


def test_result_without_any_observation():
    solution = solve(linear_window(np.full((TIMES, STATIONS), np.nan)))
    assert solution.code == CONVERGED and solution.stats.cost == 0
    np.testing.assert_array_equal(solution.value[0], MEAN)


def test_result_names_max_iterations():
    window, _ = twin("lorenz63")
    solution = solve(window, GaussNewton(max_iterations=1, tolerance=1e-12))
    assert solution.code == MAXIMUM_REACHED and "raise it, or relax `tolerance`" in solution.result
    assert solution.stats.iterations == 1


def test_result_of_a_model_that_blows_up():
    window = linear_window()
    explosive = Window(lambda x: (1e3 * x) ** 5, window.background, window.observations)
    solution = solve(explosive)
    assert solution.code == NOT_FINITE and "the cost is not finite" in solution.result
    assert not np.isfinite(solution.stats.cost)


def test_result_where_no_step_descends():
    """A model whose derivative has the wrong sign: every step goes uphill, whatever the damping."""

    @jax.custom_jvp
    def deceitful(x):
        return 0.9 * x

    deceitful.defjvp(lambda primals, tangents: (0.9 * primals[0], -0.9 * tangents[0]))
    observations = Observations(jnp.full((2, 1), 10.0).at[0].set(jnp.nan), lambda x: x[:1], 10 * jnp.eye(1))
    window = Window(deceitful, Background(jnp.ones(2), jnp.eye(2)), observations)
    solution = solve(window, GaussNewton(max_iterations=60))
    assert solution.code == NO_DESCENT and "no step lowers the cost" in solution.result
    assert solution.stats.cost == solution.stats.initial_cost  # the background is kept
    np.testing.assert_array_equal(solution.control, 0)


def test_damping_rescues_a_full_step_that_overshoots():
    """Observing arctan from far out on its flat side: the plain Gauss-Newton step overshoots and diverges."""
    observations = Observations(jnp.zeros((1, 1)), lambda x: jnp.arctan(x), 100 * jnp.eye(1))
    window = Window(lambda x: x, Background(jnp.full(1, 2.5), 5 * jnp.eye(1)), observations)
    first = -window.residual(jnp.zeros(1))[1] / jax.jacfwd(window.residual)(jnp.zeros(1))[1, 0]
    assert window.cost(jnp.array([first])) > window.cost(jnp.zeros(1))
    solution = solve(window, GaussNewton(max_iterations=60, tolerance=1e-8))
    assert solution.code == CONVERGED
    assert solution.stats.cost < 0.01 * solution.stats.initial_cost
    np.testing.assert_allclose(solution.value, 0, atol=1e-3)  # J'' of the background term shifts it by 1e-4

"""Every minimiser finds the same minimum, and says truly how it ended."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background, GaussNewton, LinearOperator, Window, assimilate, observe
from jaxsci.assimilation.minimisers import LBFGS, SLSQP
from jaxsci.assimilation.variational import CONVERGED, MAXIMUM_REACHED, NO_DESCENT, NOT_FINITE
from jaxsci.core.errors import ConfigError
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Lorenz63

pytestmark = pytest.mark.usefixtures("x64")

solve = eqx.filter_jit(assimilate)


def lorenz_window(seed: int = 0, model=None) -> Window:
    """Fifteen steps of Lorenz-63, two of three variables observed, a background one standard deviation off."""
    model = Lorenz63() if model is None else model
    start, matrix = jnp.array([5.0, 7.5, 20.0]), jnp.eye(3)[:2]
    states = rollout(Lorenz63(), 15, include_initial=True)(start)
    error, noise = np.random.default_rng(seed).normal(size=3), np.random.default_rng(seed + 1).normal(size=(16, 2))
    observations = observe(states @ matrix.T + 0.5 * noise, LinearOperator(matrix), 0.25 * jnp.eye(2))
    return Window(model, Background(start + error, jnp.eye(3)), observations)


class Linear(eqx.Module):
    matrix: jax.Array

    def __call__(self, x):
        return self.matrix @ x


def linear_window(factor: float = 0.5) -> Window:
    rng = np.random.default_rng(3)
    observations = observe(jnp.asarray(rng.normal(size=(4, 2))), LinearOperator(jnp.eye(3)[:2]), 0.5 * jnp.eye(2))
    matrix = jnp.asarray(factor * rng.normal(size=(3, 3)))
    return Window(Linear(matrix), Background(jnp.ones(3), jnp.asarray(rng.normal(size=(3, 3)))), observations)


def test_lbfgs_finds_the_gauss_newton_minimum_of_many_windows_at_once():
    windows = [lorenz_window(seed) for seed in (0, 2)]
    together = jax.tree.map(lambda *a: jnp.stack(a) if eqx.is_array(a[0]) else a[0], *windows)
    over = eqx.filter_vmap(lambda w: assimilate(w, LBFGS(tolerance=1e-9)), in_axes=(eqx.if_array(0),))
    found = eqx.filter_jit(over)(together)
    np.testing.assert_array_equal(found.code, CONVERGED)
    for i, window in enumerate(windows):
        newton = solve(window, GaussNewton(30, 1e-11))
        # The Hessian is at least I: the error of the control is at most the gradient's norm, 1e-9 of its start (1e4).
        np.testing.assert_allclose(found.control[i], newton.control, atol=1e-5)
        np.testing.assert_allclose(found.stats.cost[i], newton.stats.cost, rtol=1e-9)


def test_slsqp_finds_the_gauss_newton_minimum():
    window = lorenz_window()
    newton, host = solve(window, GaussNewton(30, 1e-11)), assimilate(window, SLSQP(200, 1e-14))
    np.testing.assert_allclose(host.stats.cost, newton.stats.cost, rtol=1e-9)
    np.testing.assert_allclose(host.control, newton.control, atol=1e-5)  # root of a cost exact to 1e-14 over curvature
    assert host.stats.cost < host.stats.initial_cost and host.code == CONVERGED


@pytest.mark.parametrize("method", [GaussNewton(tolerance=1e-6), LBFGS(tolerance=1e-6)], ids=lambda m: type(m).__name__)
def test_a_start_at_the_minimum_stays_there(method):
    window = lorenz_window()
    best = solve(window, GaussNewton(30, 1e-11)).control
    again = eqx.filter_jit(lambda w, v: assimilate(w, method, start=v))(window, best)
    assert again.code == CONVERGED and again.stats.iterations == 0
    np.testing.assert_array_equal(again.control, best)
    np.testing.assert_allclose(again.stats.initial_cost, again.stats.cost, rtol=1e-12)


@pytest.mark.parametrize("run, method", [(solve, LBFGS(1, 1e-12)), (assimilate, SLSQP(1, 1e-12))])
def test_endings_are_named(run, method):
    short, broken = run(linear_window(), method), run(linear_window(1e200), method)
    assert short.code == MAXIMUM_REACHED and "max_iterations" in short.result
    assert broken.code == NOT_FINITE and "the cost is not finite" in broken.result


def test_slsqp_keeps_the_background_unless_the_cost_falls():
    """A derivative of the wrong sign leaves no way down."""

    @jax.custom_jvp
    def deceitful(x):
        return 0.9 * x

    deceitful.defjvp(lambda primals, tangents: (0.9 * primals[0], -0.9 * tangents[0]))
    observations = observe(jnp.full((2, 1), 10.0).at[0].set(jnp.nan), lambda x: x[:1], 0.01 * jnp.eye(1), missing=True)
    window = Window(deceitful, Background(jnp.ones(2), jnp.eye(2)), observations)
    solution = assimilate(window, SLSQP())
    np.testing.assert_array_equal(solution.control, 0)
    assert solution.stats.cost == solution.stats.initial_cost
    assert solution.code == NO_DESCENT


def test_slsqp_under_jit_is_one_line():
    with pytest.raises(ConfigError, match="^method: expected one that compiles, got SLSQP") as caught:
        solve(lorenz_window(), SLSQP())
    assert "\n" not in str(caught.value)


def test_linear_problem_has_the_closed_form():
    window = linear_window()
    jacobian = jax.jacfwd(window.departures)(window.origin)
    exact = -jnp.linalg.solve(jnp.eye(3) + jacobian.T @ jacobian, jacobian.T @ window.departures(window.origin))
    # SLSQP stops on the cost's last digits: the control is known to their root, 1e-8.
    np.testing.assert_allclose(assimilate(window, SLSQP(100, 1e-15)).control, exact, atol=1e-7)

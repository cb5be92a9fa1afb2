"""Incremental outer loops end where Gauss-Newton does; growing windows end where one long window gets lost."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background, GaussNewton, LinearOperator, Window, assimilate, observe
from jaxsci.assimilation.incremental import Incremental, quasi_static
from jaxsci.assimilation.variational import CONVERGED, MAXIMUM_REACHED, NO_DESCENT
from jaxsci.core.errors import ConfigError
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Lorenz63

pytestmark = pytest.mark.usefixtures("x64")

solve = eqx.filter_jit(assimilate)


class Coarse(eqx.Module):
    """A step of Lorenz-63 by Euler's rule: a quarter of the work, with a tangent that is roughly right."""

    dt: float = 0.01

    def __call__(self, u):
        x, y, z = u
        return u + self.dt * jnp.array([10.0 * (y - x), x * (28.0 - z) - y, x * y - 8.0 / 3.0 * z])


def lorenz_window(model=None, steps: int = 10) -> Window:
    start = jnp.array([5.0, 7.5, 20.0])
    states = rollout(Lorenz63(), steps, include_initial=True)(start)
    noise = 0.5 * np.random.default_rng(0).normal(size=(steps + 1, 2))
    observations = observe(states[:, :2] + noise, LinearOperator(jnp.eye(3)[:2]), 0.25 * jnp.eye(2))
    return Window(Lorenz63() if model is None else model, Background(start + 0.7, jnp.eye(3)), observations)


def test_outer_loops_end_at_the_gauss_newton_minimum():
    newton = solve(lorenz_window(), GaussNewton(30, 1e-11))
    outer = solve(lorenz_window(), Incremental(max_iterations=30, tolerance=1e-9))
    assert outer.code == CONVERGED and outer.stats.iterations < 15
    np.testing.assert_allclose(outer.control, newton.control, atol=1e-8)  # converges at least linearly
    np.testing.assert_allclose(outer.stats.cost, newton.stats.cost, rtol=1e-12)


def test_one_outer_loop_solves_a_linear_problem():
    rng = np.random.default_rng(1)
    matrix, operator = jnp.asarray(0.5 * rng.normal(size=(4, 4))), jnp.asarray(rng.normal(size=(3, 4)))
    observations = observe(jnp.asarray(rng.normal(size=(5, 3))), LinearOperator(operator), jnp.eye(3))
    window = Window(lambda x: matrix @ x, Background(jnp.ones(4), jnp.eye(4)), observations)
    once = solve(window, Incremental(max_iterations=1))
    np.testing.assert_allclose(once.control, solve(window, GaussNewton(tolerance=1e-10)).control, atol=1e-10)
    assert once.code == MAXIMUM_REACHED  # one loop cannot know that it was enough


def test_a_cheaper_inner_model_gains_nearly_as_much():
    window = lorenz_window()
    solution = solve(window, Incremental(lorenz_window(Coarse()), max_iterations=30))
    assert solution.code in (CONVERGED, NO_DESCENT)
    best = solve(window, GaussNewton(30, 1e-11)).stats
    gained = (best.initial_cost - solution.stats.cost) / (best.initial_cost - best.cost)
    assert 0.95 < gained <= 1 + 1e-12


def test_an_inner_model_with_the_wrong_sign_leaves_the_background():
    window = lorenz_window()
    backward = Window(window.model, Background(window.background.mean, -window.background.root), window.observations)
    solution = solve(window, Incremental(backward, max_iterations=1))
    assert solution.code == NO_DESCENT and solution.stats.cost == solution.stats.initial_cost
    np.testing.assert_array_equal(solution.control, 0)


def test_inner_problem_of_another_size_is_one_line():
    with pytest.raises(ConfigError, match="^inner: expected the 3 controls and 25 residuals .* got 3 and 13") as caught:
        assimilate(lorenz_window(), Incremental(lorenz_window(steps=4)))
    assert "\n" not in str(caught.value)


def test_growing_windows_keep_the_basin_of_the_truth():
    """Four time units of Lorenz-63, over three times its doubling time: from the background the full window has many
    minima, and Gauss-Newton ends in one of them."""
    model, steps, windows = Lorenz63(), 400, 12
    starts = rollout(model, 3000)(jnp.ones(3))[500::150][:windows]

    def errors(start, key):
        first, second = jax.random.split(key)
        truth = rollout(model, steps, include_initial=True)(start)
        values = truth + jax.random.normal(second, truth.shape)
        values = jnp.where((jnp.arange(steps + 1) % 10 == 0)[:, None], values, jnp.nan)  # R is diagonal
        window = Window(
            model,
            Background(start + 2 * jax.random.normal(first, (3,)), 2 * jnp.eye(3)),
            observe(values, _whole, jnp.eye(3)),
        )
        method = GaussNewton(20)
        grown = quasi_static(window, [50, 100, 150, 200, 250, 300, 350], method)
        return [jnp.sqrt(jnp.mean((s.value - truth) ** 2)) for s in (assimilate(window, method), grown)]

    at_once, grown = jax.jit(jax.vmap(errors))(starts, jax.random.split(jax.random.key(0), windows))
    # The analysis of 41 noisy states errs far less than one observation; a window that is lost errs by climatology, 8.
    assert np.mean(np.asarray(grown) < 1) >= np.mean(np.asarray(at_once) < 1) + 0.3
    assert np.mean(np.asarray(grown) < 1) > 0.8


def _whole(state):
    return state


def test_the_last_stage_is_the_whole_window():
    window = lorenz_window()
    grown = eqx.filter_jit(lambda w: quasi_static(w, [4, 8], GaussNewton(30, 1e-11)))(window)
    np.testing.assert_allclose(grown.control, solve(window, GaussNewton(30, 1e-11)).control, atol=1e-8)
    np.testing.assert_allclose(grown.stats.cost, window.cost(grown.control), rtol=1e-12)


@pytest.mark.parametrize("lengths", [[8, 4], [0], [12], [3, 3]])
def test_lengths_that_do_not_grow_are_one_line(lengths):
    with pytest.raises(ConfigError, match="^lengths: expected growing numbers of times from 1 to 11") as caught:
        quasi_static(lorenz_window(), lengths)
    assert "\n" not in str(caught.value)

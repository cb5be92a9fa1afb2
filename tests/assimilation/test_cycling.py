"""The scan over windows is the loop one would write by hand."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background, LinearOperator, Window, assimilate, cycle, observe
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Lorenz96

pytestmark = pytest.mark.usefixtures("x64")

N, WINDOWS, TIMES = 6, 5, 3
MODEL = Lorenz96(forcing=6.0)
CORRELATED = 0.5 * np.eye(3) + 0.2
ROOT = np.diag(np.sqrt(np.linspace(0.2, 0.8, N)))
FIRST_GUESS = 3.0 + np.sin(np.arange(float(N)))


def observed(values, covariance=CORRELATED, missing=False):
    return observe(jnp.asarray(values), LinearOperator(jnp.eye(N)[::2]), jnp.asarray(covariance), missing=missing)


def values(missing):
    truth = rollout(MODEL, WINDOWS * TIMES)(6.0 * jnp.cos(jnp.arange(float(N))))
    noise = jax.random.normal(jax.random.key(0), (WINDOWS * TIMES, 3))
    seen = (truth[:, ::2] + 0.5 * noise).reshape(WINDOWS, TIMES, 3)
    return seen.at[1, 0, 2].set(jnp.nan).at[3].set(jnp.nan) if missing else seen


@pytest.mark.parametrize("missing", [False, True])
def test_equals_a_python_loop_over_windows(missing):
    seen = values(missing)
    found = jax.jit(
        lambda: cycle(
            MODEL,
            jnp.asarray(ROOT),
            jnp.asarray(FIRST_GUESS),
            observed(seen, missing=missing),
            diagnose=lambda window, solution: (window.background.mean, solution.value, solution.stats.cost),
        )
    )()
    guess = jnp.asarray(FIRST_GUESS)
    solve = eqx.filter_jit(assimilate)
    for index in range(WINDOWS):
        observations = observed(seen[index], missing=missing)
        solution = solve(Window(MODEL, Background(guess, jnp.asarray(ROOT)), observations))
        # One program against two: rounding, passed on through chaotic steps.
        np.testing.assert_allclose(found[0][index], guess, atol=1e-9)
        np.testing.assert_allclose(found[1][index], solution.value, atol=1e-9)
        np.testing.assert_allclose(found[2][index], solution.stats.cost, rtol=1e-9, atol=1e-12)
        guess = MODEL(solution.value[-1])


def test_state_may_be_a_pytree():
    def oscillator(u):
        return {"x": 0.9 * u["x"] + 0.3 * u["y"], "y": 0.9 * u["y"] - 0.3 * u["x"]}

    seen = jnp.ones((4, 2, 1))
    guess = {"x": jnp.zeros(1), "y": jnp.zeros(1)}
    found = cycle(
        oscillator,
        jnp.eye(2),
        guess,
        observe(seen, lambda u: u["x"], 0.1 * jnp.eye(1)),
        diagnose=lambda window, solution: solution.value,
    )
    assert found["x"].shape == (4, 2, 1)
    assert np.abs(found["x"] - 1).max() < 0.3  # drawn to what was observed, standard deviation 0.3


def test_smaller_errors_than_a_run_without_observations():
    start = 6.0 * jnp.cos(jnp.arange(float(N)))
    truth = rollout(MODEL, WINDOWS * TIMES)(start).reshape(WINDOWS, TIMES, N)
    # The first guess is one step before the first observed time of the twin: start from a disturbed truth.
    guess = truth[0, 0] + 0.5
    found = cycle(
        MODEL,
        jnp.asarray(ROOT),
        guess,
        observed(values(False), 0.25 * np.eye(3)),
        diagnose=lambda window, solution: solution.value,
    )
    free = rollout(MODEL, WINDOWS * TIMES - 1, include_initial=True)(guess).reshape(WINDOWS, TIMES, N)
    assert jnp.sum((found - truth)[1:] ** 2) < 0.5 * jnp.sum((free - truth)[1:] ** 2)

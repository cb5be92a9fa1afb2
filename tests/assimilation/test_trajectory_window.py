"""A window through a map to whole trajectories: the same cost as the stepped window, and the same analysis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background, LinearOperator, Window, assimilate, observe
from jaxsci.assimilation.derivative_check import gradient_relative_error
from jaxsci.assimilation.trajectory_window import TrajectoryWindow
from jaxsci.core.rollout import rollout

pytestmark = pytest.mark.usefixtures("x64")


def turn(x):
    return jnp.array([[0.9, -0.3], [0.3, 0.9]]) @ x


def windows():
    keys = jax.random.split(jax.random.key(0), 2)
    values = jax.random.normal(keys[0], (5, 3))
    operator = LinearOperator(jax.random.normal(keys[1], (3, 2)))
    background = Background(jnp.array([0.5, -1.0]), jnp.array([[1.0, 0.0], [0.5, 0.7]]))
    observations = observe(values, operator, 0.2 * jnp.eye(3))
    stepped = Window(turn, background, observations)
    whole = TrajectoryWindow(rollout(turn, 9, include_initial=True), background, observations, tuple(range(5)))
    return stepped, whole


def test_costs_and_analyses_are_those_of_the_stepped_window():
    stepped, whole = windows()
    v = jnp.array([0.3, -0.2])
    np.testing.assert_allclose(whole.cost(v), stepped.cost(v), rtol=1e-12)
    np.testing.assert_allclose(assimilate(whole).control, assimilate(stepped).control, atol=1e-10)
    np.testing.assert_allclose(assimilate(whole).value, assimilate(stepped).value, atol=1e-10)


def test_only_the_observed_times_count_and_the_gradient_is_right():
    stepped, whole = windows()
    some = TrajectoryWindow(whole.model, whole.background, whole.observations, (1, 2, 3, 4, 5))
    later = Window(turn, whole.background, whole.observations)
    v = jnp.array([0.3, -0.2])
    shifted = rollout(turn, 5)(whole.background(v))
    np.testing.assert_allclose(some.trajectory(v), shifted, rtol=1e-12)
    assert not np.allclose(some.cost(v), later.cost(v))
    # Central differences of a quadratic cost are exact but for rounding.
    assert float(gradient_relative_error(some.cost, v, key=jax.random.key(1))) < 1e-8

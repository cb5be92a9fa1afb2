"""The classical Runge-Kutta step: fourth order, exact on what it should be exact on, any pytree as state."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Lorenz63, Lorenz96, runge_kutta_4

pytestmark = pytest.mark.usefixtures("x64")


def observed_orders(vector_field, start, duration, counts, exact):
    """Slopes of log error against log step between successive step counts."""
    errors = []
    for count in counts:
        end = jax.jit(rollout(runge_kutta_4(vector_field, duration / count), count))(start)[-1]
        errors.append(np.linalg.norm(end - exact))
    return np.log(np.array(errors[:-1]) / errors[1:]) / np.log(np.array(counts[1:]) / counts[:-1])


def test_order_four_on_a_linear_system_against_the_matrix_exponential():
    matrix = jax.random.normal(jax.random.key(0), (5, 5))
    start = jax.random.normal(jax.random.key(1), (5,))
    exact = expm(2.0 * np.asarray(matrix)) @ start
    orders = observed_orders(lambda u: matrix @ u, start, 2.0, [40, 80, 160], exact)
    # The next term of the error is one order higher: at 40 steps of 0.05 it shifts the slope by a few per cent.
    np.testing.assert_allclose(orders, 4.0, atol=0.15)


@pytest.mark.parametrize(("system", "sites", "duration"), [(Lorenz63(), 3, 0.4), (Lorenz96(), 12, 0.8)])
def test_order_four_on_chaotic_systems(system, sites, duration):
    start = 3.0 + jax.random.normal(jax.random.key(2), (sites,))
    field = system.vector_field
    reference = jax.jit(rollout(runge_kutta_4(field, duration / 3200), 3200))(start)[-1]
    # The reference is 10 times finer than the finest run, so its own error is 1e-4 of that run's.
    orders = observed_orders(field, start, duration, [80, 160, 320], reference)
    np.testing.assert_allclose(orders, 4.0, atol=0.2)


def test_one_step_is_the_fourth_order_taylor_polynomial_of_a_linear_system():
    matrix = np.array([[0.1, -0.7], [0.9, 0.2]])
    start = jnp.array([1.0, -2.0])
    h, power, total = 0.3, np.eye(2), np.eye(2)
    for k in range(1, 5):
        power = power @ (h * matrix) / k
        total = total + power
    found = runge_kutta_4(lambda u: jnp.asarray(matrix) @ u, h)(start)
    np.testing.assert_allclose(found, total @ start, rtol=1e-14)  # the same sums in another order


def test_state_may_be_a_pytree():
    def oscillator(u):
        return {"position": u["velocity"], "velocity": -u["position"]}

    start = {"position": jnp.array(1.0), "velocity": jnp.array(0.0)}
    end = jax.tree.map(lambda a: a[-1], rollout(runge_kutta_4(oscillator, 0.01), 100)(start))
    # Global error of 100 steps: 100 h^5 / 120 = 8e-11.
    np.testing.assert_allclose([end["position"], end["velocity"]], [np.cos(1), -np.sin(1)], atol=2e-10)


def test_a_fixed_point_stays():
    field = lambda u: -u * (1 - u)  # noqa: E731
    np.testing.assert_array_equal(runge_kutta_4(field, 0.1)(jnp.array([0.0, 1.0])), [0.0, 1.0])

"""Lorenz-63: the published equations, their fixed points, symmetry and contraction of volumes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Lorenz63

pytestmark = pytest.mark.usefixtures("x64")


def test_vector_field_at_a_point_by_hand():
    # sigma (y - x) = 10; x (rho - z) - y = 1 (28 - 3) - 2 = 23; x y - beta z = 2 - 8 = -6
    np.testing.assert_allclose(Lorenz63().vector_field(jnp.array([1.0, 2.0, 3.0])), [10, 23, -6], rtol=1e-15)


def test_the_three_fixed_points_stay():
    wing = np.sqrt(8 / 3 * 27)
    for point in ([0.0, 0.0, 0.0], [wing, wing, 27.0], [-wing, -wing, 27.0]):
        # Rounding of the vector field at values near 30, times dt.
        np.testing.assert_allclose(Lorenz63()(jnp.array(point)), point, atol=1e-14)


def test_equations_do_not_change_under_half_a_turn_about_z():
    turn = jnp.array([-1.0, -1.0, 1.0])
    u = jnp.array([1.3, -4.2, 20.0])
    np.testing.assert_array_equal(Lorenz63()(turn * u), turn * Lorenz63()(u))  # only signs change: exact


def test_volumes_shrink_at_the_trace_of_the_vector_field():
    system = Lorenz63()
    jacobian = jax.jacfwd(lambda u: rollout(system, 50)(u)[-1])(jnp.array([1.0, 2.0, 20.0]))
    # d(log volume)/dt = -(sigma + 1 + beta), everywhere. RK4 keeps it to its global error, (rate h)^4 = 3e-4 x few %.
    np.testing.assert_allclose(jnp.log(jnp.linalg.det(jacobian)), -(10 + 1 + 8 / 3) * 0.5, rtol=1e-4)


def test_long_runs_stay_on_the_attractor():
    states = jax.jit(rollout(Lorenz63(), 5000))(jnp.array([1.0, 1.0, 1.0]))
    # The trapping ellipsoid of Lorenz 1963 allows more; |x|, |y| < 30 and 0 < z < 55 hold on the attractor itself.
    assert np.abs(states[500:, :2]).max() < 30
    assert states[500:, 2].min() > 0 and states[500:, 2].max() < 55
    assert states[500:, 0].min() < -10 and states[500:, 0].max() > 10  # both wings are visited

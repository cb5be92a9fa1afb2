"""Lorenz-96: advection that conserves energy, damping and forcing as published, no preferred site."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Lorenz96

pytestmark = pytest.mark.usefixtures("x64")


def test_vector_field_site_by_site():
    u = np.asarray(jax.random.normal(jax.random.key(0), (7,)))
    by_hand = [(u[(i + 1) % 7] - u[i - 2]) * u[i - 1] - u[i] + 8.0 for i in range(7)]
    np.testing.assert_allclose(Lorenz96().vector_field(jnp.asarray(u)), by_hand, rtol=1e-14)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), shift=st.integers(-50, 50))
def test_step_commutes_with_translation(seed, shift):
    with jax.enable_x64(True):
        u = 8 * jax.random.normal(jax.random.key(seed), (12,))
        moved = Lorenz96()(jnp.roll(u, shift))
        np.testing.assert_array_equal(moved, jnp.roll(Lorenz96()(u), shift))  # the same operations at every site


def test_advection_conserves_energy_and_forcing_and_damping_do_the_rest():
    u = 5 * jax.random.normal(jax.random.key(1), (40,))
    # sum_i u_i (u_{i+1} - u_{i-2}) u_{i-1} = 0, so d/dt sum u^2 / 2 = sum (F u - u^2). Rounding of 40 cubic terms.
    balance = jnp.vdot(u, Lorenz96(forcing=8.0).vector_field(u)) - jnp.sum(8.0 * u - u**2)
    assert abs(balance) < 1e-13 * jnp.sum(jnp.abs(u) ** 3)


def test_the_uniform_state_is_a_fixed_point_and_unstable():
    system = Lorenz96()
    rest = jnp.full(40, 8.0)
    np.testing.assert_array_equal(system(rest), rest)
    disturbed = jax.jit(rollout(system, 400))(rest.at[19].add(1e-3))[-1]
    assert jnp.std(disturbed) > 2  # the climatological spread is 3.6


def test_climate_has_the_published_variance():
    states = jax.jit(rollout(Lorenz96(), 4000))(8.0 + jax.random.normal(jax.random.key(2), (40,)))[500:]
    # 13.25 (variance of a long run); 3500 correlated steps of 40 sites leave about 2 %.
    np.testing.assert_allclose(jnp.var(states), 13.25, rtol=0.05)

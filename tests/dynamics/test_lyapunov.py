"""Lyapunov exponents: exact for linear maps, right for Lorenz-63, and the bookkeeping of dimensions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.dynamics import KuramotoSivashinsky, Lorenz63, kaplan_yorke, lyapunov_spectrum
from jaxsci.dynamics.kuramoto_sivashinsky import long_waves
from jaxsci.dynamics.lyapunov import Spectrum, entropy_rate, gaps

pytestmark = pytest.mark.usefixtures("x64")


def test_a_linear_map_has_the_logarithms_of_its_eigenvalues():
    basis = jnp.array([[1.0, 0.3, 0.1], [0.0, 1.0, -0.4], [0.2, 0.0, 1.0]])
    rates = jnp.array([0.3, -0.1, -2.0])
    matrix = basis @ jnp.diag(jnp.exp(0.1 * rates)) @ jnp.linalg.inv(basis)
    found = lyapunov_spectrum(
        lambda u: matrix @ u, jnp.zeros((2, 3)), dt=0.1, count=3, duration=50.0, key=jax.random.key(0)
    )
    np.testing.assert_allclose(found.mean, rates, atol=1e-10)  # the directions have settled to rounding
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-10)


def test_lorenz63():
    model = Lorenz63()
    starts = jnp.array([1.0, 1.0, 25.0]) + jax.random.normal(jax.random.key(0), (16, 3))
    starts = jax.vmap(lambda u: jax.lax.fori_loop(0, 2000, lambda _, v: model(v), u))(starts)
    found = lyapunov_spectrum(model, starts, dt=0.01, count=3, duration=100.0, key=jax.random.key(1))
    # Four standard errors of 1600 time units, which are about 0.02.
    np.testing.assert_allclose(found.mean[0], 0.906, atol=4 * found.standard_error[0])
    assert found.standard_error[0] < 0.03
    # The divergence of the flow is -13.667 everywhere; RK4 at dt 0.01 keeps it to 1e-3.
    np.testing.assert_allclose(found.mean.sum(), -41 / 3, atol=1e-3)
    np.testing.assert_allclose(kaplan_yorke(found.mean), 2.062, atol=0.01)


def test_kuramoto_sivashinsky_on_its_zero_mean_subspace():
    model = KuramotoSivashinsky(22.0, 0.25, dealias=True)
    starts = jax.vmap(lambda k: long_waves(k, 64))(jax.random.split(jax.random.key(0), 8))
    starts = jax.jit(jax.vmap(lambda u: jax.lax.fori_loop(0, 1200, lambda _, v: model(v), u)))(starts)
    found = lyapunov_spectrum(
        model, starts, dt=0.25, count=6, duration=400.0, project=lambda q: q - q.mean(), key=jax.random.key(1)
    )
    # Reference 0.0486 with our own error: four of them.
    np.testing.assert_allclose(found.mean[0], 0.0486, atol=4 * found.standard_error[0])
    assert found.standard_error[0] < 0.006
    np.testing.assert_allclose(found.mean[4:], [-0.1878, -0.2564], atol=0.02)
    assert 4.0 < kaplan_yorke(found.mean) < 4.5
    np.testing.assert_allclose(kaplan_yorke(found.mean, conserved=1), kaplan_yorke(found.mean) + 1, atol=1e-12)


def test_dimension_and_entropy_by_hand():
    exponents = np.array([0.5, 0.0, -0.25, -1.0])
    assert kaplan_yorke(exponents) == 3.25
    assert kaplan_yorke(np.array([-0.1, -2.0])) == 0.0
    assert entropy_rate(exponents) == 0.5
    with pytest.raises(DataError, match="more of them"):
        kaplan_yorke(np.array([0.5, 0.1]))


def test_gaps_are_candidates_not_a_choice():
    exponents = np.array([0.05, 0.0, -0.19, -0.31, -0.3107, -1.963, -1.967, -5.605])
    found = gaps(exponents)
    assert [d for d, _ in found[:2]] == [5, 7]
    np.testing.assert_allclose(found[0][1], 1.963 / 0.3107)


def test_regular_states_can_be_left_out():
    kept = Spectrum(np.array([[0.08, 0.0], [0.001, 0.0], [0.078, 0.0]])).chaotic(0.03)
    np.testing.assert_allclose(kept.mean, [0.079, 0.0])


def test_trajectories_that_leave_are_refused_and_progress_is_told():
    shares = []
    with pytest.raises(DataError, match="2 of 2"):
        lyapunov_spectrum(
            lambda u: u + u**3, jnp.ones((2, 1)), dt=1.0, count=1, duration=50.0, key=jax.random.key(0),
            on_share=shares.append, shares=5,
        )  # fmt: skip
    assert shares == sorted(shares) and shares[-1] == 1.0
    with pytest.raises(ConfigError, match="count"):
        lyapunov_spectrum(lambda u: u, jnp.ones((2, 1)), dt=1.0, count=2, duration=5.0, key=jax.random.key(0))

"""Diagnostics give back what was put in where B and R are right, and closed forms everywhere."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background, LinearOperator, Window, assimilate, covariance_root, observe
from jaxsci.assimilation.diagnostics import chi_square, degrees_of_freedom, desroziers

freedom = eqx.filter_jit(degrees_of_freedom)

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
N, STATIONS = 4, 3
H = RNG.normal(size=(STATIONS, N))
FACTOR = RNG.normal(size=(N, N))
B = FACTOR @ FACTOR.T + 0.1 * np.eye(N)
R = np.diag([0.5, 1.0, 2.0])
K = B @ H.T @ np.linalg.inv(H @ B @ H.T + R)


def window(values, scale: float = 1.0, missing: bool = False) -> Window:
    """One time, so that 3D-Var's closed forms hold."""
    observations = observe(
        jnp.asarray(values)[None], LinearOperator(jnp.asarray(H)), jnp.asarray(scale * R), missing=missing
    )
    return Window(lambda x: x, Background(jnp.zeros(N), covariance_root(B)), observations)


def cases(count: int):
    """Truth from the prior, observations of it: everything as assumed."""
    truth = RNG.normal(size=(count, N)) @ np.linalg.cholesky(B).T
    return truth @ H.T + RNG.normal(size=(count, STATIONS)) * np.sqrt(np.diag(R))


def test_degrees_of_freedom_is_the_trace_of_hk():
    problem = window(np.ones(STATIONS))
    found = freedom(problem, problem.origin)
    np.testing.assert_allclose(found, np.trace(H @ K), rtol=1e-10)  # rounding
    assert 0 < found < STATIONS


def test_degrees_of_freedom_reach_their_bounds():
    """No information from useless observations, one number from each perfect one, none from a missing one."""
    dof = [freedom(w, w.origin) for w in (window(np.ones(STATIONS), s) for s in (1e12, 1e-12))]
    np.testing.assert_allclose(dof, [0, STATIONS], atol=1e-9)
    gap = window(np.array([1.0, np.nan, 1.0]), 1e-12, missing=True)
    np.testing.assert_allclose(freedom(gap, gap.origin), STATIONS - 1, atol=1e-9)


def test_chi_square_is_one_where_b_and_r_are_right_and_shows_where_r_is_wrong():
    values, draws = jnp.asarray(cases(2000)), 2000
    right, doubled = (
        jax.jit(jax.vmap(lambda y, s=s: chi_square(assimilate(window(y, s)), window(y, s).observations)))(values)
        for s in (1.0, 2.0)
    )
    # chi^2_p / p has variance 2 / p; four standard errors of the mean.
    np.testing.assert_allclose(np.mean(right), 1.0, atol=4 * np.sqrt(2 / STATIONS / draws))
    truth, assumed = H @ B @ H.T + R, H @ B @ H.T + 2 * R
    expected = np.trace(np.linalg.solve(assumed, truth)) / STATIONS
    np.testing.assert_allclose(np.mean(doubled), expected, atol=4 * np.sqrt(2 / STATIONS / draws))


def test_chi_square_counts_only_what_is_present():
    gap = window(np.array([1.0, np.nan, 2.0]), missing=True)
    solution = eqx.filter_jit(assimilate)(gap)
    kept = [0, 2]
    h, d = H[kept], np.array([1.0, 2.0])
    expected = d @ np.linalg.solve(h @ B @ h.T + R[np.ix_(kept, kept)], d) / 2
    np.testing.assert_allclose(chi_square(solution, gap.observations), expected, rtol=1e-9)


def test_desroziers_gives_back_r_and_hbh_where_they_are_right():
    count = 40000
    innovations = cases(count)
    residuals = innovations @ (np.eye(STATIONS) - H @ K).T
    found = desroziers(jnp.asarray(innovations), jnp.asarray(residuals))
    # Products of Gaussians: standard error sqrt((s_ii s_jj + s_ij^2) / count) of each, at most sqrt(2) max(S) / sqrt(n)
    atol = 4 * np.sqrt(2 / count) * np.max(H @ B @ H.T + R)
    np.testing.assert_allclose(found.observation, R, atol=atol)
    np.testing.assert_allclose(found.background, H @ B @ H.T, atol=atol)


def test_desroziers_is_exact_in_expectation():
    """Innovations whose sample covariance is exactly HBH' + R: both matrices come out to rounding, R symmetric."""
    total = H @ B @ H.T + R
    innovations = np.sqrt(STATIONS) * np.linalg.cholesky(total).T
    found = desroziers(jnp.asarray(innovations), jnp.asarray(innovations @ (np.eye(STATIONS) - H @ K).T))
    np.testing.assert_allclose(found.observation, R, atol=1e-12)
    np.testing.assert_allclose(found.background, H @ B @ H.T, atol=1e-12)

"""Scoring: its fixed point is the maximum of the likelihood, which is near the truth."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation.error_variances import scoring_step

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
OBSERVATIONS, CASES, TRUTH = 9, 4000, np.array([0.3, 4.0])
REST = 10 * np.cov(RNG.normal(size=(OBSERVATIONS, 40)))  # background errors, larger than those to be found
GROUPS = np.eye(2)[np.arange(OBSERVATIONS) % 2]
GROUPS[-1] = 0  # an observation of known error
KNOWN = np.diag(1.0 - GROUPS.sum(axis=1))


def covariance(variances):
    return jnp.asarray(REST + KNOWN) + jnp.diag(jnp.asarray(GROUPS) @ variances)


def estimate(innovations, groups=GROUPS, iterations=8, **prior):
    prior = {"prior": 1.0, "prior_cases": 0.1, **prior}

    @jax.jit
    def step(v):
        return scoring_step(v, jnp.asarray(innovations), covariance(v), jnp.asarray(groups), **prior)

    values = jnp.ones(2)
    for _ in range(iterations):
        values = step(values)
    return values


@pytest.fixture(scope="module")
def innovations():
    with jax.enable_x64(True):
        return RNG.multivariate_normal(np.zeros(OBSERVATIONS), np.asarray(covariance(jnp.asarray(TRUTH))), CASES)


def test_it_stands_where_the_likelihood_is_flat_and_near_the_truth(innovations):
    found = estimate(innovations, prior_cases=1e-9)

    def log_likelihood(variances):
        s, c = covariance(variances), jnp.asarray(innovations.T @ innovations / CASES)
        return -0.5 * CASES * (jnp.linalg.slogdet(s)[1] + jnp.trace(jnp.linalg.solve(s, c)))

    gradient = jax.grad(log_likelihood)(found)
    information = -jax.hessian(log_likelihood)(found)
    assert float(gradient @ jnp.linalg.solve(information, gradient)) < 1e-12  # squared distance in standard errors
    deviation = np.sqrt(np.diag(np.linalg.inv(np.asarray(information))))
    assert (np.abs(np.asarray(found) - TRUTH) < 4 * deviation).all()


def test_a_group_that_reported_nothing_keeps_to_what_was_told(innovations):
    groups = GROUPS * [1.0, 0.0]
    np.testing.assert_allclose(estimate(innovations, groups, prior=2.5, prior_cases=10.0)[1], 2.5, rtol=1e-6)


def test_much_belief_outweighs_the_data(innovations):
    assert abs(estimate(innovations, prior_cases=1e7)[1] - 1.0) < 0.05

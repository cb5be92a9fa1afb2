"""Distributions over architectures against enumeration, moments and integrals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.bayesnas.architecture import FAMILIES, Concrete, DirichletArchitecture, LogisticNormal
from jaxsci.bayesnas.architecture.dirichlet import LEAST_CONCENTRATION, log_gamma

DRAWS = 20_000


def keys(count=DRAWS, seed=0):
    return jax.random.split(jax.random.key(seed), count)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_discrete_draws_have_the_stated_probabilities(name):
    q = FAMILIES[name].init(3, 4, key=jax.random.key(1), scale=1.0)
    drawn = jax.vmap(lambda k: jax.nn.one_hot(q.sample_discrete(key=k), 4))(keys())
    # four binomial standard deviations at 20,000 draws
    np.testing.assert_allclose(jnp.mean(drawn, 0), q.probabilities(), atol=4 * 0.5 / np.sqrt(DRAWS))
    z = q.rsample(0.5, key=jax.random.key(2))
    np.testing.assert_allclose(z.sum(-1), 1, atol=1e-5)  # float32 softmax
    assert 0 <= q.entropy() <= 3 * np.log(4) + 1e-5


def test_concrete_draws_pick_their_largest_part_with_categorical_probability():
    q = Concrete(jnp.array([[1.0, 0.0, -1.0]]))
    largest = jax.vmap(lambda k: jnp.argmax(q.rsample(0.3, key=k)[0]))(keys())
    shares = jnp.bincount(largest, length=3) / DRAWS
    np.testing.assert_allclose(shares, q.probabilities()[0], atol=4 * 0.5 / np.sqrt(DRAWS))


def test_divergence_of_the_categorical_is_that_of_its_definition():
    q = Concrete(jax.random.normal(jax.random.key(0), (2, 5)))
    p = q.probabilities()
    assert q.kl() == pytest.approx(float(jnp.sum(p * jnp.log(p * 5))), rel=1e-5)


@pytest.mark.parametrize("shape", [10.0, 1.0, 0.1, LEAST_CONCENTRATION])
def test_gamma_draws_and_their_gradient(shape):
    """Mean and variance of Gamma(a, 1) are a; d E[g] / da = 1, d E[g^2] / da = 2a + 1. Within 4 standard errors."""
    value = lambda a, k: jnp.exp(log_gamma(a, key=k))  # noqa: E731
    a = jnp.float32(shape)
    draws = jax.vmap(value, (None, 0))(a, keys())
    first = jax.vmap(jax.grad(value), (None, 0))(a, keys())
    second = jax.vmap(jax.grad(lambda a, k: value(a, k) ** 2), (None, 0))(a, keys())
    for sample, truth in ((draws, shape), (first, 1.0), (second, 2 * shape + 1)):
        error = float(jnp.std(sample)) / np.sqrt(DRAWS)
        assert float(jnp.mean(sample)) == pytest.approx(truth, abs=4 * error)


def test_dirichlet_gradient_against_the_analytic_moment():
    """E sum i theta_i^2 = sum i a_i (a_i + 1) / (a0 (a0 + 1)), as the specification tests it."""
    alpha = jnp.array([[10.0, 0.5, 1.0, 0.1]])
    beta = jnp.where(alpha >= 1, alpha - 1, jnp.log(alpha))  # the inverse of elu + 1
    np.testing.assert_allclose(DirichletArchitecture(beta).concentration, alpha, rtol=1e-5)
    weight = jnp.arange(4.0)

    def sampled(beta, key):
        return jnp.sum(weight * DirichletArchitecture(beta).rsample(key=key)[0] ** 2)

    def exact(beta):
        a = DirichletArchitecture(beta).concentration[0]
        return jnp.sum(weight * a * (a + 1)) / (a.sum() * (a.sum() + 1))

    draws = jax.vmap(jax.grad(sampled), (None, 0))(beta, keys())
    error = jnp.std(draws, 0) / np.sqrt(DRAWS)
    assert jnp.all(jnp.abs(jnp.mean(draws, 0) - jax.grad(exact)(beta)) < 4 * error)


def test_dirichlet_divergence_is_its_monte_carlo_mean():
    q = DirichletArchitecture(jnp.array([[0.5, -0.5, 1.0]]))
    flat = DirichletArchitecture(jnp.zeros((1, 3)))
    assert flat.kl() == pytest.approx(0, abs=1e-5)
    z = jax.vmap(lambda k: q.rsample(key=k))(keys())
    ratio = jax.vmap(q.log_prob)(z) - jax.vmap(flat.log_prob)(z)
    assert q.kl() == pytest.approx(float(ratio.mean()), abs=4 * float(ratio.std()) / np.sqrt(DRAWS))


def test_the_concentration_has_its_floor():
    assert DirichletArchitecture(jnp.full((1, 2), -50.0)).concentration.min() == pytest.approx(LEAST_CONCENTRATION)


def test_logistic_normal_density_integrates_to_one():
    q = LogisticNormal(jnp.array([[0.5, -0.2]]), jnp.array([[-0.3, 0.1]]))
    x = (jnp.arange(20_000) + 0.5) / 20_000
    density = jax.vmap(lambda x: jnp.exp(q.log_prob(jnp.array([[x, 1 - x]]))))(x)
    assert jnp.mean(density) == pytest.approx(1, abs=1e-3)  # midpoint rule with a singular end

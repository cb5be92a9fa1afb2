"""Weight posteriors on problems whose posterior is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.bayesnas.weights import (
    CyclicalSgHmc,
    DeepEnsemble,
    FullData,
    LastLayerLaplace,
    MeanField,
    Nuts,
    Rank1,
    Swag,
    Task,
)
from jaxsci.bayesnas.weights.laplace import head_precision

# N observations of w + noise of unit variance, mean m: the posterior of each of 4000 weights is
# N(N m / (N + 1/s^2), 1 / (N + 1/s^2)), and the mean loss is (w - m)^2 / 2 up to a constant.
COUNT, PRIOR, CENTRE = 50, 0.5, 1.5
PRECISION = COUNT + 1 / PRIOR**2
MEAN, VARIANCE = COUNT * CENTRE / PRECISION, 1 / PRECISION


def potential(params):
    return 0.5 * jnp.sum(jnp.square(params["w"] - CENTRE))


def run(method, steps, size=4000, seed=0, data=None):
    task = Task(COUNT, steps, PRIOR)
    start = {"w": jnp.zeros((size,))}
    key = jax.random.key(seed)

    @jax.jit
    def chain(state):
        step = lambda state, n: method.update(state, n, potential, task, key=jax.random.fold_in(key, n))  # noqa: E731
        return jax.lax.scan(step, state, jnp.arange(steps))

    state, info = chain(method.init(start, task, key=key))
    assert np.isfinite(info.loss).all()
    if data is not None:
        state = method.finish(state, data, task, key=key)
    return method.draws(state, task, key=jax.random.key(seed + 1))["w"]


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_cyclical_samples_have_the_variance_of_the_tempered_posterior(temperature):
    method = CyclicalSgHmc(0.02, cycles=2, noise_fraction=1.0, temperature=temperature)
    draws = run(method, 4000)
    # 2 x 4000 independent draws: standard errors 1.1 % of the standard deviation and 1.6 % of the variance
    assert draws.mean() == pytest.approx(MEAN, abs=4 * np.sqrt(temperature * VARIANCE / 4000))
    assert draws.var() == pytest.approx(temperature * VARIANCE, rel=0.06)
    assert abs(np.corrcoef(draws)[0, 1]) < 0.08  # cycles forget: 5 standard errors


def test_without_temperature_the_chain_is_a_descent_to_the_mode():
    for method in (CyclicalSgHmc(0.1, temperature=0.0), DeepEnsemble(0.1)):
        np.testing.assert_allclose(run(method, 600, size=3), MEAN, rtol=1e-3)  # what is left after 200 steps


def test_cyclical_keeps_several_samples_of_a_cycle():
    method = CyclicalSgHmc(0.02, cycles=2, samples_per_cycle=3, noise_fraction=0.5, temperature=1.0)
    draws = run(method, 240, size=50)
    assert draws.shape == (6, 50) and np.unique(draws.mean(1).round(6)).size == 6


def test_mean_field_finds_the_gaussian_posterior():
    draws = run(MeanField(learning_rate=0.02, initial_std=0.05, samples=20), 2000)
    assert draws.mean() == pytest.approx(MEAN, abs=0.01)  # Adam's own jitter, far below the deviation of 0.14
    assert draws.var() == pytest.approx(VARIANCE, rel=0.15)


def test_swag_is_centred_on_the_average_of_its_path():
    draws = run(Swag(0.1, 0.05, samples=30), 600, size=200)
    assert draws.shape == (30, 200) and draws.mean() == pytest.approx(MEAN, rel=1e-3)


def test_nuts_samples_the_gaussian_posterior():
    data = FullData(potential, lambda params: params["w"], jnp.zeros(1))
    draws = run(Nuts(warmup=100, samples=100, max_tree_depth=4), 100, size=20, data=data)
    assert draws.mean() == pytest.approx(MEAN, abs=0.03)  # 2000 draws of deviation 0.136, correlated
    assert draws.var() == pytest.approx(VARIANCE, rel=0.25)


def test_laplace_precision_is_the_hessian_of_the_posterior():
    """Softmax of a linear head is convex with Hessian equal to its Gauss-Newton matrix."""
    key = jax.random.key(0)
    features, labels = jax.random.normal(key, (30, 3)), jax.random.randint(key, (30,), 0, 4)
    head = {"weight": 0.5 * jax.random.normal(key, (3, 4)), "bias": jnp.arange(4.0)}
    task = Task(30, 1, PRIOR)

    def energy(flat):
        weight, bias = flat[:12].reshape(3, 4), flat[12:]
        log = jax.nn.log_softmax(features @ weight + bias)
        return -jnp.sum(log[jnp.arange(30), labels]) + jnp.sum(flat**2) / (2 * PRIOR**2)

    flat = jnp.concatenate([head["weight"].ravel(), head["bias"]])
    np.testing.assert_allclose(head_precision(head, features, task), jax.hessian(energy)(flat), atol=1e-4)  # float32


def test_laplace_draws_have_that_covariance():
    method = LastLayerLaplace(samples=20_000)
    params = {"head": {"weight": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}, "body": jnp.ones(3)}
    task = Task(10, 1, 1.0)
    features = jax.random.normal(jax.random.key(1), (10, 2))
    data = FullData(lambda p: jnp.zeros(()), lambda p: features, jnp.zeros(10, int))
    state = method.finish(method.init(params, task, key=jax.random.key(0)), data, task, key=jax.random.key(0))
    drawn = method.draws(state, task, key=jax.random.key(2))
    flat = jnp.concatenate([drawn["head"]["weight"].reshape(-1, 4), drawn["head"]["bias"]], axis=1)
    covariance = jnp.linalg.inv(head_precision(params["head"], features, task))
    np.testing.assert_allclose(jnp.cov(flat.T), covariance, atol=0.03)  # 1 / sqrt(20,000) of entries up to 1
    assert bool(jnp.all(drawn["body"] == 1))


def test_rank1_divergence_vanishes_at_its_prior_and_draws_differ_by_component():
    method = Rank1(components=2, samples=4)
    params = {"layer": jnp.ones((3, 5)), "bias": jnp.zeros(5)}
    task = Task(COUNT, 10, PRIOR)
    state = method.init(params, task, key=jax.random.key(0))
    prior = state.factors[0]._replace(
        input_log_std=jnp.full((2, 3), jnp.log(0.1)), output_log_std=jnp.full((2, 5), jnp.log(0.1))
    )
    assert method._divergence(prior) == pytest.approx(0, abs=1e-4)
    quiet = jax.tree.map(
        lambda a: a, prior._replace(input_log_std=jnp.full((2, 3), -20.0), output_log_std=jnp.full((2, 5), -20.0))
    )
    drawn = method.draws(state._replace(factors=[quiet]), task, key=jax.random.key(1))
    for sample in range(4):
        outer = jnp.outer(quiet.input_mean[sample % 2], quiet.output_mean[sample % 2])
        np.testing.assert_allclose(drawn["layer"][sample], outer, atol=1e-5)
    state, info = method.update(state, jnp.int32(0), lambda p: jnp.mean(p["layer"] ** 2), task, key=jax.random.key(2))
    assert np.isfinite(info.loss)

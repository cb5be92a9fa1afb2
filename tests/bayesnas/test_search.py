"""Search on a problem whose best operation is known; the regression pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsci.bayesnas.batches import Examples
from jaxsci.bayesnas.ensemble import best_architecture, draw_architectures
from jaxsci.bayesnas.regression import Normal, mixture_nll, normal_nll, select
from jaxsci.bayesnas.search import Search, SearchConfig, run_search, search_batches
from jaxsci.bayesnas.space import MlpCell
from jaxsci.core.errors import ConfigError


def cross_entropy(outputs, labels):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, labels))


def data(count, seed):
    x = jax.random.normal(jax.random.key(seed), (count, 4))
    return Examples(x, (x[:, 0] > 0).astype(jnp.int32))


@pytest.mark.parametrize("distribution", ["concrete", "categorical"])
@pytest.mark.parametrize("objective", ["bilevel", "elbo"])
def test_search_learns_to_pass_the_input_on(distribution, objective):
    """With two nodes there is one edge, and 'none' makes the output blind: its probability must fall."""
    space = MlpCell(nodes=2, width=8)
    config = SearchConfig(objective, distribution, steps=150, architecture_rate=5e-2, divergence=0.0)
    search = Search(space, config, cross_entropy, (200, 100))
    state, info = jax.jit(lambda key: run_search(search, (4,), 2, data(200, 0), data(100, 1), key=key))(
        jax.random.key(2)
    )
    p = state.q.probabilities()
    assert p[0, 0] < 0.02 < 1 / p.shape[1]  # a tenth of where it began; others may fall as far
    assert info.loss[-20:].mean() < 0.6 * info.loss[:5].mean()
    assert info.entropy[-1] < info.entropy[0]


def test_a_heavy_divergence_keeps_the_prior():
    space = MlpCell(nodes=3, width=8)
    search = Search(space, SearchConfig(steps=60, divergence=1e4), cross_entropy, (200, 100))
    state, info = run_search(search, (4,), 2, data(200, 0), data(100, 1), key=jax.random.key(0))
    assert info.entropy[-1] == pytest.approx(3 * np.log(5), abs=0.02)


def test_the_evidence_bound_uses_the_union():
    search = Search(MlpCell(), SearchConfig("elbo", steps=4, batch_size=8), cross_entropy, (30, 30))
    first, second = search_batches(search, data(20, 0), data(10, 1), key=jax.random.key(0))
    assert len(first.data.y) == len(second.data.y) == 30
    apart = Search(MlpCell(), SearchConfig("bilevel", steps=4, batch_size=8), cross_entropy, (20, 10))
    first, second = search_batches(apart, data(20, 0), data(10, 1), key=jax.random.key(0))
    assert (len(first.data.y), len(second.data.y)) == (20, 10)


def test_draws_are_connected_and_do_not_depend_on_their_number():
    space = MlpCell()
    p = jnp.full((6, 5), 0.2).at[:, 0].set(0.6)
    p = p / p.sum(1, keepdims=True)
    draws = draw_architectures(space, p, 6, key=jax.random.key(0))
    assert all(space.connected(choice) for choice in draws)
    np.testing.assert_array_equal(draws[:3], draw_architectures(space, p, 3, key=jax.random.key(0)))
    mostly_none = jnp.full((6, 5), 0.05).at[:, 0].set(0.8)
    assert space.connected(best_architecture(space, mostly_none, key=jax.random.key(1)))
    with pytest.raises(ConfigError, match="disconnects"):
        draw_architectures(space, jnp.zeros((6, 5)).at[:, 0].set(1.0), 1, key=jax.random.key(0))


def test_the_mixture_is_a_density():
    """It integrates to one, and is no normal: two far members have two modes."""
    p = Normal(jnp.array([[-2.0], [2.0]]), jnp.array([[0.5], [0.5]]))
    weights = jnp.array([0.3, 0.7])
    y = jnp.linspace(-6, 6, 4001)
    density = jnp.exp(-mixture_nll(Normal(*(jnp.tile(a, (1, 4001)) for a in p)), weights, y))
    assert jnp.sum(density) * (y[1] - y[0]) == pytest.approx(1, abs=1e-4)
    assert density[2000] < 0.1 * density[np.argmin(np.abs(y - 2))]
    alone = mixture_nll(Normal(p.mean[:1], p.std[:1]), jnp.ones(1), jnp.zeros(1))
    assert alone[0] == pytest.approx(float(normal_nll(Normal(p.mean[0], p.std[0]), jnp.zeros(1))[0]), rel=1e-6)


def test_selection_keeps_restarts_together():
    y = jnp.zeros(50)
    p = Normal(jnp.array([3.0, 3.0, 0.0, 0.1])[:, None].repeat(50, 1), jnp.ones((4, 50)))
    np.testing.assert_allclose(select(p, y, 5, architectures=2), [0, 0, 0.5, 0.5], atol=1e-6)

"""Sampling with a cache equals running the whole model on every prefix, on every mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformer_cases as cases
from transformer_cases import GPT, LLAMA

from jaxsci.core.errors import ConfigError
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.sample import choose, for_decoding, make_sampler


def greedy(model, prompts: np.ndarray, length: int) -> np.ndarray:
    """The likeliest continuation by the reference model, which knows no cache: loss differences give
    log-probabilities.

    The loss of one row with a single counted target t at position n is -log p(t | prefix).
    """
    params = jax.tree.map(jnp.asarray, cases.initial(model))
    candidates = jnp.arange(model.vocabulary)

    @jax.jit
    def best(row, n):
        def minus_log_p(token):
            targets = jnp.where(jnp.arange(model.sequence) == n, token, -1)
            return cases.reference_loss(model, params, row[None], targets[None])

        return jax.vmap(minus_log_p)(candidates).argmin()

    rows = np.zeros((len(prompts), model.sequence), np.int32)
    rows[:, : prompts.shape[1]] = prompts
    for row in rows:
        for n in range(prompts.shape[1] - 1, length - 1):
            row[n + 1] = best(row, n)
    return rows[:, :length]


@pytest.mark.parametrize("model", [GPT, LLAMA], ids=["gpt", "llama"])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 2, 2, 2)], ids=["one", "1x2x2x2"])
def test_greedy_sampling_equals_the_whole_model(model, shape):
    on, plan = cases.mesh(shape), ParallelConfig()
    params, folded = for_decoding(model, cases.placed(model, plan, on), on)
    prompts = jnp.asarray(cases.tokens(model)[0][:4, :3])
    tokens = make_sampler(model, plan, folded, 12, temperature=0.0)(params, prompts, jax.random.key(0))
    np.testing.assert_array_equal(tokens, greedy(model, np.asarray(prompts), 12))


def test_what_is_drawn_depends_on_key_row_and_position_alone():
    drawn = []
    for shape in [(1, 1, 1, 1), (2, 1, 2, 2), (1, 4, 1, 2)]:
        on, plan = cases.mesh(shape), ParallelConfig()
        params, folded = for_decoding(GPT, cases.placed(GPT, plan, on), on)
        prompts = jnp.zeros((4, 1), jnp.int32)
        sample = make_sampler(GPT, plan, folded, 16, temperature=1.0, top_p=0.9)
        drawn.append(np.asarray(sample(params, prompts, jax.random.key(5))))
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert len(np.unique(drawn[0], axis=0)) == 4  # equal prompts, different rows


def test_choose_draws_from_the_nucleus_with_the_right_frequencies():
    p = jnp.array([0.5, 0.3, 0.15, 0.05])
    keys = jax.random.split(jax.random.key(0), 4000)

    def draw(temperature, top_p):
        return np.bincount(jax.vmap(lambda k: choose(jnp.log(p), k, temperature, top_p))(keys), minlength=4) / 4000

    # Four deviations of a binomial share: 4 sqrt(0.25 / 4000) = 0.032.
    np.testing.assert_allclose(draw(1.0, 1.0), p, atol=0.032)
    np.testing.assert_allclose(draw(1.0, 0.7), [0.625, 0.375, 0, 0], atol=0.032)  # 0.5 + 0.3 reach 0.7
    np.testing.assert_allclose(draw(1.0, 0.1), [1, 0, 0, 0])
    np.testing.assert_allclose(draw(0.5, 1.0), p**2 / (p**2).sum(), atol=0.032)
    assert int(choose(jnp.log(p), keys[0], 0.0, 1.0)) == 0


@pytest.mark.parametrize(
    "change, says",
    [
        ({"length": 17}, "1 to model.sequence 16"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
    ],
)
def test_impossible_requests(change, says):
    with pytest.raises(ConfigError, match=says):
        make_sampler(GPT, ParallelConfig(), cases.mesh((1, 1, 1, 1)), **({"length": 8} | change))

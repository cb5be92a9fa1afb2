"""Gradients deposited layer by layer are the stacked gradients, added to what was there."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.transformer.deposit import deposit


def stage(w, totals, x, row):
    def layer(carry, item):
        (x, totals), (w, k) = carry, item
        w, totals = deposit(w, totals, row + k)
        return (jnp.tanh(x @ w["a"]) + w["b"], totals), None

    (x, totals), _ = jax.lax.scan(layer, (x, totals), (w, jnp.arange(w["b"].shape[0])))
    return x, totals


def test_totals_receive_the_gradients_from_a_row_on():
    random = np.random.default_rng(0)
    w = {"a": random.normal(size=(3, 5, 5)).astype(np.float32), "b": random.normal(size=(3, 5)).astype(np.float32)}
    x, dy = random.normal(size=(2, 4, 5)).astype(np.float32)
    before = jax.tree.map(lambda a: random.normal(size=(4, *a.shape[1:])).astype(np.float32), w)

    _, pull = jax.vjp(lambda z, x: stage(w, z, x, 1), jax.tree.map(jnp.zeros_like, before), x)
    after, dx = pull((dy, before))
    _, plain = jax.vjp(lambda w, x: stage(w, None, x, 0)[0], w, x)
    dw, expected_dx = plain(dy)
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-6)  # the same products
    for name in w:
        np.testing.assert_array_equal(after[name][0], before[name][0])  # rows before `row` are left alone
        np.testing.assert_allclose(
            after[name][1:], before[name][1:] + dw[name], rtol=1e-5, atol=1e-6
        )  # one float32 sum


def test_sixteen_bit_gradients_are_added_in_float32_and_nowhere_else():
    """A gradient of 1 added to a total of 1000 would vanish in bfloat16, whose spacing there is 4."""
    w = {"a": jnp.zeros((1, 2, 2), jnp.bfloat16), "b": jnp.zeros((1, 2), jnp.bfloat16)}
    totals = jax.tree.map(lambda a: jnp.full(a.shape, 1000.0, jnp.float32), w)

    def loss(w, z):
        y, z = stage(w, z, jnp.ones((1, 2), jnp.bfloat16), 0)
        return y.sum(), z

    _, pull = jax.vjp(loss, w, totals)
    dw, after = pull((jnp.ones((), jnp.bfloat16), totals))
    assert after["b"].dtype == jnp.float32 and float(after["b"][0, 0]) == 1001.0
    assert not any(np.any(g) for g in jax.tree.leaves(dw))  # weights themselves receive nothing

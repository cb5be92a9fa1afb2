"""Chunked attention equals dense attention, forward and backward, and never holds s x s."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.transformer.attention import attention, cudnn_applies, divisor
from jaxsci.transformer.layers import rotate


def queries_keys_values(s=96, groups=2, queries=3, size=8, dtype=jnp.float32):
    a, b, c = jax.random.split(jax.random.key(0), 3)
    q = jax.random.normal(a, (2, s, groups, queries, size), dtype)
    return q, *(jax.random.normal(key, (2, s, groups, size), dtype) for key in (b, c))


@pytest.mark.parametrize("chunk", [16, 32, 40])  # 40 does not divide 96: 32 is taken
def test_chunked_equals_dense(chunk):
    inputs = queries_keys_values()
    weight = jax.random.normal(jax.random.key(1), inputs[0].shape)

    def scalar(implementation):
        def run(q, k, v):
            return (weight * attention(q, k, v, implementation=implementation, chunk=chunk)).sum()

        return jax.jit(jax.value_and_grad(run, (0, 1, 2)))(*inputs)

    (dense, exact), (chunked, gradients) = scalar("dense"), scalar("chunked")
    assert abs(dense - chunked) < 1e-4 * np.sqrt(weight.size)  # float32 sums of `weight.size` terms of order 1
    for g, e in zip(gradients, exact, strict=True):
        assert np.abs(g - e).max() < 3e-6 * np.abs(e).max()  # float32 rounding; measured 4.8e-7


def test_gradient_of_chunked_attention_against_finite_differences():
    """A Taylor remainder of second order: dividing the step by 2 divides it by 4."""
    q, k, v = queries_keys_values(s=32)
    directions = [jax.random.normal(jax.random.key(n), a.shape) for n, a in enumerate((q, k, v))]

    def along(h):
        moved = [a + h * d for a, d in zip((q, k, v), directions, strict=True)]
        return jnp.sin(attention(*moved, implementation="chunked", chunk=8)).sum()

    with jax.enable_x64(True):
        q, k, v = (a.astype(jnp.float64) for a in (q, k, v))
        directions = [d.astype(jnp.float64) for d in directions]
        gradients = jax.grad(lambda *a: jnp.sin(attention(*a, implementation="chunked", chunk=8)).sum(), (0, 1, 2))(
            q, k, v
        )
        slope = sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))
        remainders = [abs(along(h) - along(0.0) - h * slope) for h in (0.02, 0.01)]
    # Scores are float32 inside, whatever the inputs: the remainder must stay well above 1e-5.
    assert 3.5 < remainders[0] / remainders[1] < 4.5


def test_the_future_is_invisible():
    q, k, v = queries_keys_values()
    changed = [a.at[:, 50:].set(7.0) for a in (q, k, v)]
    before, after = (attention(*x, implementation="chunked", chunk=32) for x in ((q, k, v), changed))
    np.testing.assert_array_equal(before[:, :50], after[:, :50])
    assert np.abs(before[:, 50:] - after[:, 50:]).max() > 0.1


def test_one_group_per_query_is_ordinary_attention_and_shared_keys_are_repeated_keys():
    q, k, v = queries_keys_values(groups=2, queries=3)
    repeated = [jnp.repeat(a, 3, axis=2) for a in (k, v)]
    one_each = attention(q.reshape(2, 96, 6, 1, 8), *repeated, implementation="chunked", chunk=32)
    shared = attention(q, k, v, implementation="chunked", chunk=32)
    np.testing.assert_allclose(one_each.reshape(q.shape), shared, atol=1e-6)  # same products, other grouping


def test_no_array_of_sequence_squared_exists():
    """In the forward pass and in the backward pass, by the shapes of every intermediate of the program."""
    s, chunk = 1024, 64
    q, k, v = (jax.ShapeDtypeStruct(a.shape, a.dtype) for a in jax.eval_shape(lambda: queries_keys_values(s)))

    def largest(jaxpr):
        sizes = [v.aval.size for e in jaxpr.eqns for v in e.outvars]
        for e in jaxpr.eqns:
            for inner in jax.tree.leaves(list(e.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(inner, "jaxpr", inner)
                sizes += [largest(inner)] if hasattr(inner, "eqns") else []
        return max(sizes, default=0)

    def program(implementation):
        def loss(q, k, v):
            return attention(q, k, v, implementation=implementation, chunk=chunk).sum()

        return largest(jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(q, k, v).jaxpr)

    rows = 2 * 2 * 3 * s  # batch x groups x queries x sequence
    assert program("dense") >= rows * s
    assert program("chunked") <= rows * chunk


def test_the_fused_kernel_is_not_chosen_without_cuda():
    assert not cudnn_applies(queries_keys_values(dtype=jnp.bfloat16)[0])


@pytest.mark.parametrize("total, limit, expected", [(96, 40, 32), (7, 6, 1), (12, 100, 12), (1, 1, 1)])
def test_divisor(total, limit, expected):
    assert divisor(total, limit) == expected


def test_rotary_scores_depend_on_the_distance_alone():
    q, k = (jax.random.normal(jax.random.key(n), (1, 1, 1, 16)) for n in (0, 1))

    def at(x, position):
        return rotate(x, jnp.array([position]), 10_000.0)

    def score(i, j):
        return float((at(q, i) * at(k, j)).sum())

    assert score(5, 3) == pytest.approx(score(105, 103), abs=1e-4)  # float32 angles of order 100
    assert score(5, 3) != pytest.approx(score(5, 4), abs=1e-2)
    np.testing.assert_array_equal(at(q, 0), q)
    assert jnp.linalg.norm(at(q, 77)) == pytest.approx(float(jnp.linalg.norm(q)), rel=1e-6)

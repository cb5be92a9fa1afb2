"""Vocabulary-parallel, chunked cross-entropy and embedding equal their plain forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import transformer_cases as cases
from jax.sharding import PartitionSpec as P

from jaxsci.transformer.collectives import total, vary
from jaxsci.transformer.cross_entropy import cross_entropy, lookup

V, ROWS, B, S, H = 101, 128, 4, 16, 8


def data():
    a, b, c = jax.random.split(jax.random.key(0), 3)
    table = jnp.where(jnp.arange(ROWS)[:, None] < V, jax.random.normal(a, (ROWS, H)), 9.0)  # padding must not count
    targets = jax.random.randint(c, (B, S), 0, V).at[0, :5].set(-1).at[3].set(-1)
    return jax.random.normal(b, (B, S, H)), table, targets


def plain(x, table, targets):
    logits = x @ table[:V].T
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(targets, 0)[..., None], -1)[..., 0]
    return -jnp.where(targets >= 0, chosen, 0).sum()


def sharded(chunk, x, table, targets):
    def local(x, table, targets):
        axes = ("data", "fsdp", "pipe")
        return total(vary(cross_entropy(vary(x), vary(table), targets, V, chunk), axes), axes)

    on = cases.mesh((1, 2, 1, 4))
    return jax.shard_map(local, mesh=on, in_specs=(P("fsdp", "tensor"), P("tensor"), P("fsdp")), out_specs=P())(
        x, table, targets
    )


@pytest.mark.parametrize("chunk", [1, 8, 10_000])
def test_loss_and_gradients(chunk):
    x, table, targets = data()

    def run(f):
        return jax.jit(jax.value_and_grad(f, (0, 1)))(x, table, targets)

    (expected, exact), (loss, g) = run(plain), run(functools.partial(sharded, chunk))
    assert loss == pytest.approx(float(expected), rel=1e-6)
    for a, b in zip(g, exact, strict=True):
        assert np.abs(a - b).max() < 1e-6 * np.abs(b).max()  # float32 sums in another order
    assert (g[1][V:] == 0).all() and (g[0][3] == 0).all()


def test_only_one_chunk_of_logits_exists():
    x, table, targets = data()
    shapes = []

    def walk(jaxpr):
        for e in jaxpr.eqns:
            shapes.extend(v.aval.shape for v in e.outvars)
            for inner in jax.tree.leaves(list(e.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    walk(inner)

    walk(jax.make_jaxpr(jax.grad(functools.partial(sharded, 8), (0, 1)))(x, table, targets).jaxpr)
    logits = [shape for shape in shapes if len(shape) >= 2 and shape[-1] == ROWS // 4]
    assert logits and max(np.prod(shape) for shape in logits) == 8 * ROWS // 4


def test_a_frequent_token_keeps_its_gradient_in_sixteen_bits():
    """4096 occurrences, each with gradient 1: a bfloat16 sum stops at 256."""
    tokens = jnp.zeros((1, 4096), jnp.int32)

    def local(table):
        return total(vary(lookup(vary(table), tokens).astype(jnp.float32).sum()), cases.AXES)

    on = cases.mesh((1, 1, 1, 1))
    g = jax.jit(jax.grad(jax.shard_map(local, mesh=on, in_specs=P(), out_specs=P())))(jnp.ones((2, 4), jnp.bfloat16))
    assert g.dtype == jnp.bfloat16
    np.testing.assert_array_equal(g.astype(np.float32), [[4096.0] * 4, [0.0] * 4])

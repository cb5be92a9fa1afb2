"""Cross-entropy over a vocabulary split over `tensor`, in chunks of positions, without ever holding all
logits.

With z = x W^T, the gradient of the summed loss is dz = softmax(z) - onehot, known as soon as the logits are.
So the
forward pass, when a gradient will be asked for, also forms dx = dz W and dW = dz^T x chunk by chunk: nothing
is computed twice and the largest array is one chunk of logits.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxsci.transformer.attention import divisor
from jaxsci.transformer.collectives import all_gather, largest, place, sum_scatter, total, vary, vary_like

f32 = jnp.float32
IGNORED = -1  # a target that counts for nothing: the end of a document, a padded row


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def cross_entropy(
    x: Float[Array, "batch shard width"],
    table: Float[Array, "rows width"],
    targets: Int[Array, "batch sequence"],
    vocabulary: int,
    chunk: int,
) -> Float[Array, ""]:
    """Sum over positions of -log softmax(x table^T)[target], float32, in nats.

    `x` is sequence-sharded over `tensor`, `table` holds this device's rows of the vocabulary, `targets` are
    whole. Rows at or beyond `vocabulary` are padding. `chunk` bounds the positions whose logits exist at one
    time.
    """
    return _chunks(x, table, targets, vocabulary, chunk, gradient=False)[0]


def _chunks(x, table, targets, vocabulary, chunk, *, gradient) -> tuple[Any, Any, Any]:
    """(loss, dx, dtable); the latter two None without `gradient`."""
    n = lax.axis_size("tensor")
    batch, shard, width = x.shape
    rows = divisor(batch * shard, max(chunk // n, 1))  # rows of this device in one chunk
    xs = x.reshape(-1, rows, width)
    # Gathering over tensor lays the devices' rows one after another: lay the targets the same way.
    labels = targets.reshape(batch, n, shard).transpose(1, 0, 2).reshape(n, -1, rows).transpose(1, 0, 2)
    columns = place("tensor") * table.shape[0] + jnp.arange(table.shape[0])

    def one(carry, item):
        loss, dtable = carry
        x, label = item
        x = all_gather(x, "tensor", 0)
        z = jnp.einsum("ch,vh->cv", x, table, preferred_element_type=f32)
        z = jnp.where(columns < vocabulary, z, -1e30)
        label = label.reshape(-1, 1)
        hit = label == columns
        top = largest(z.max(-1, keepdims=True), "tensor")
        power = jnp.exp(z - top)
        both = jnp.stack([power.sum(-1), jnp.where(hit, z, 0).sum(-1)])
        mass, chosen = total(both, ("tensor",))[..., None]
        counted = label != IGNORED
        loss = loss + jnp.where(counted, jnp.log(mass) + top - chosen, 0).sum()
        if not gradient:
            return (loss, dtable), None
        dz = lax.optimization_barrier(jnp.where(counted, power / mass - hit, 0).astype(table.dtype))
        dtable = dtable + jnp.einsum("cv,ch->vh", dz, x, preferred_element_type=f32)
        return (loss, dtable), sum_scatter(jnp.einsum("cv,vh->ch", dz, table), "tensor", 0)

    zero = vary(jnp.zeros((), f32), ("data", "fsdp", "pipe"))
    dtable = vary_like(jnp.zeros(table.shape, f32), table) if gradient else None
    (loss, dtable), dx = lax.scan(one, (zero, dtable), (xs, labels))
    return (loss, dx.reshape(x.shape), dtable) if dx is not None else (loss, None, None)


def _forward(x, table, targets, vocabulary, chunk):
    loss, dx, dtable = _chunks(x, table, targets, vocabulary, chunk, gradient=True)
    return loss, (dx, dtable.astype(table.dtype))


def _backward(vocabulary, chunk, saved, gradient):
    dx, dtable = saved

    def scaled(g):
        return (gradient * g.astype(f32)).astype(g.dtype)

    return scaled(dx), scaled(dtable), None


cross_entropy.defvjp(_forward, _backward)


@jax.custom_vjp
def lookup(
    table: Float[Array, "rows width"], tokens: Int[Array, "batch sequence"]
) -> Float[Array, "batch sequence width"]:
    """Rows of a vocabulary split over `tensor`, zero where another device has the row.

    The gradient of a row is summed over its occurrences in float32: a frequent token occurs thousands of
    times, and a 16-bit sum stalls after a few hundred.
    """
    mine, local = _local(table, tokens)
    return jnp.where(mine[..., None], table[local], 0)


def _local(table, tokens):
    local = tokens - place("tensor") * table.shape[0]
    return (local >= 0) & (local < table.shape[0]), jnp.clip(local, 0, table.shape[0] - 1)


def _lookup_backward(saved, gradient):
    table, tokens = saved
    mine, local = _local(table, tokens)
    zero = vary_like(jnp.zeros(table.shape, f32), gradient)
    summed = zero.at[local].add(jnp.where(mine[..., None], gradient.astype(f32), 0))
    return summed.astype(table.dtype), None


lookup.defvjp(lambda table, tokens: (lookup(table, tokens), (table, tokens)), _lookup_backward)

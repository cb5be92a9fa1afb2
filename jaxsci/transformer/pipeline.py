"""Three ways through the layers: plain accumulation, a streamed pipeline (GPipe, circular) and lockstep 1F1B.

Each runs on one device's part inside `shard_map` and returns (loss, block gradients, table gradients): the
loss summed over this device's tokens times `scale`, gradients in float32, not yet summed over devices. Every
parameter enters as a varying value once, before the loop, so its gradient is reduced once, after the loop.

m micro-batches, p stages, v chunks per stage, i this stage, k the tick, q a micro-batch.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.transformer.collectives import AXES, place, shift, vary
from jaxsci.transformer.model import Decoder
from jaxsci.transformer.sharding import gather_layer

f32 = jnp.float32
tmap = jax.tree.map
Loss = Float[Array, ""]


class Batch(NamedTuple):
    """Micro-batches of token ids (a target of -1 is not counted), or of vectors, with one more axis (a NaN is not)."""

    inputs: Any  # Int[Array, "micro batch sequence"], its shape, or its split
    targets: Any


def sequences(q: Int[Array, ""], batch: int) -> Int[Array, " batch"]:
    """Place in the global batch of the `batch` sequences of micro-batch q that lie on this device."""
    replicas = lax.axis_size("data") * lax.axis_size("fsdp")
    replica = place("data") * lax.axis_size("fsdp") + place("fsdp")
    return (q * replicas + replica) * batch + jnp.arange(batch)


def rematerialise(remat: str, unit: str):
    """A wrapper for a layer or a stage that stores only what `remat` says; `unit` names the input of the
    wrapped.
    """
    policies = jax.checkpoint_policies
    policy = {
        "full": policies.save_only_these_names(unit),
        "selective": policies.save_only_these_names("layer_in", "heads", "attended", "projected", "hidden"),
        "offload": policies.save_and_offload_only_these_names(
            names_which_can_be_saved=[],
            names_which_can_be_offloaded=[unit],
            offload_src="device",
            offload_dst="pinned_host",
        ),
    }
    return lambda f: f if remat == "none" else jax.checkpoint(f, policy=policy[remat], prevent_cse=False)


def zeros(tree: PyTree) -> PyTree:
    """Float32 accumulators shaped like `tree`, one set per device."""
    return tmap(lambda a: vary(jnp.zeros(a.shape, f32)), tree)


def add(total: PyTree, more: PyTree) -> PyTree:
    """Gradients added to their float32 totals."""
    return tmap(lambda a, b: a + b.astype(f32), total, more)


# ---- one stage: the schedule is a loop over micro-batches, nothing more


def accumulate(decoder: Decoder, w: PyTree, e: PyTree, batch: Batch, key: Key[Array, ""] | None, scale: Loss):
    """pipe = 1: loss and gradients of one micro-batch after another, summed in float32.

    Under ZeRO-3 `w` holds shards and each layer is gathered when it runs, forward and backward.
    """
    plan = decoder.plan
    remat = rematerialise({"nested": "full"}.get(plan.remat, plan.remat), "layer_in")
    unpack = gather_layer if plan.zero == 3 else lambda w: w

    w = tmap(lambda a: a[0], w)  # one chunk

    def loss(z, e, inputs, targets, q):
        keys = decoder.keys(key, sequences(q, inputs.shape[0]))
        x = decoder.embed(e, inputs, keys)
        x, z = decoder.stage(w, x, 0, keys, remat=remat, unpack=unpack, totals=z)
        return decoder.loss(e, x, targets) * scale, z

    def one(carry, item):
        total, gw, ge = carry
        (value, _), pull = jax.vjp(lambda z, e: loss(z, e, *item), zeros(w), e)
        gw, more = pull((jnp.ones_like(value), gw))
        return (total + value, gw, add(ge, more)), None

    start = vary(jnp.zeros((), f32), AXES[:3]), zeros(w), zeros(e)
    items = (*batch, jnp.arange(batch.inputs.shape[0]))
    (total, gw, ge), _ = lax.scan(one, start, items)
    return total, tmap(lambda a: a[None], gw), ge


# ---- streamed pipeline: GPipe for v = 1, circular for v > 1


@jax.custom_vjp
def use(w: Array, accumulator: Float[Array, "..."]) -> Array:
    """The weight itself; its gradient arrives at the float32 `accumulator`, not at the 16-bit weight.

    Transposing a scan sums the gradient of a closed-over weight in the weight's own type: with hundreds of
    16-bit micro-batches that sum stalls.
    """
    return w


use.defvjp(lambda w, z: (w, None), lambda _, g: (jnp.zeros_like(g), g.astype(f32)))


def use_all(pairs: PyTree) -> PyTree:
    """`use` for a tree of pairs."""
    return tmap(lambda pair: use(lax.stop_gradient(pair[0]), pair[1]), pairs, is_leaf=lambda x: isinstance(x, tuple))


def streamed_loss(
    decoder: Decoder,
    w: PyTree,
    e: PyTree,
    batch: Batch,
    key: Key[Array, ""] | None,
    unpack=lambda w: w,
    *,
    totals: PyTree = None,
    remat: str = "none",
    fill: float = 0.0,
) -> tuple[Loss, PyTree]:
    """Loss of m = p r micro-batches of which each stage holds r = `batch.inputs.shape[0]`; no gradients by
    itself.

    At tick k stage i works on item k - i of the order: p micro-batches through chunk 0, the same p through
    chunk 1, ..., then the next p. So what leaves the last stage is what stage 0 needs in the next tick, or is
    finished. New micro-batches come to stage 0 by passing one slot of `io` a stage to the left whenever stage
    0 takes one; the last stage puts finished ones into the slot freed there. After v m + p - 1 ticks the
    outputs lie, rotated by p - 1 slots, on the stages where their tokens lie, and every stage computes the
    loss of its own.

    `totals`, returned as they came, collect the gradients of `w` on the way back (see `deposit`), their rows all
    layers of all chunks. `fill` is what lies in the link between stages before anything has arrived; nothing may
    depend on it.
    """
    p, i = lax.axis_size("pipe"), place("pipe")
    r, b = batch.inputs.shape[:2]
    v, depth = jax.tree.leaves(w)[0].shape[:2]
    m, padded = p * r, v * p * depth != decoder.model.layers
    inner = rematerialise({"full": "none", "offload": "none", "nested": "full"}.get(remat, remat), "layer_in")
    outer = rematerialise({"selective": "none", "nested": "full"}.get(remat, remat), "stage_in")

    def chunk(c):
        return tmap(lambda a: lax.dynamic_index_in_dim(a, c, 0, False) if v > 1 else a[0], w)

    @outer
    def stage(x, z, c, q):
        keys = decoder.keys(key, sequences(q, b))
        x = checkpoint_name(x, "stage_in")
        first = (c * p + i) * depth
        return decoder.stage(chunk(c), x, first, keys, remat=inner, padded=padded, totals=z, row=c * depth)

    def tick(carry, k):
        arriving, io, z = carry
        entering = k % (p * v) < p  # stage 0 takes a new micro-batch
        slot = (k // (p * v) * p + k % p) % r
        item = jnp.clip(k - i, 0, v * m - 1)
        real = item == k - i  # not a bubble
        c, q = item % (p * v) // p, item // (p * v) * p + item % p
        x = jnp.where((i == 0) & (c == 0), io[slot], arriving)
        y, z = stage(jnp.where(real, x, 0), z, c, q)  # bubbles compute on zeros: finite, and unread
        io = io.at[slot].set(jnp.where(entering, shift(io[slot], "pipe", -1), io[slot]))
        done, end = real & (i == p - 1) & (c == v - 1), (q + p - 1) % r
        io = io.at[end].set(jnp.where(done, y, io[end]))
        return (shift(y, "pipe", 1), io, z), None

    def enter(item):
        tokens, q = item
        return decoder.embed(unpack(e), tokens, decoder.keys(key, sequences(q, b)))

    io = lax.map(enter, (batch.inputs, i * r + jnp.arange(r)))
    link = vary(jnp.full(io.shape[1:], fill, io.dtype))
    (_, io, totals), _ = lax.scan(tick, (link, io, totals), jnp.arange(v * m + p - 1))
    io = jnp.roll(io, -((p - 1) % r), axis=0)
    targets = batch.targets.reshape(r * b, *batch.targets.shape[2:])
    return decoder.loss(unpack(e), io.reshape(r * b, *io.shape[2:]), targets), totals


def streamed(
    decoder: Decoder,
    w: PyTree,
    e: PyTree,
    batch: Batch,
    key: Key[Array, ""] | None,
    scale: Loss,
    fill: float = 0.0,
):
    """Loss and gradients of the streamed pipeline, by differentiating it with respect to float32 totals."""

    totals = zeros(tmap(lambda a: a.reshape(-1, *a.shape[2:]), w))

    def loss(zw, ze):
        tables = tmap(lambda a, z: (a, z), e, ze)
        value, zw = streamed_loss(
            decoder, w, tables, batch, key, use_all, totals=zw, remat=decoder.plan.remat, fill=fill
        )
        return value * scale, zw

    (total, _), pull = jax.vjp(loss, totals, zeros(e))
    gw, ge = pull((jnp.ones_like(total), totals))
    return total, tmap(lambda a, g: g.reshape(a.shape), w, gw), ge


# ---- lockstep 1F1B


def one_forward_one_backward(
    decoder: Decoder,
    w: PyTree,
    e: PyTree,
    batch: Batch,
    key: Key[Array, ""] | None,
    scale: Loss,
    fill: float = 0.0,
):
    """Every tick, each stage runs one micro-batch forward, f = k - i, and one backward, j = k - 2(p - 1) + i.

    The last stage meets its own forward in the same tick; stage i - 1 needs j one tick after stage i made its
    cotangent. A stage input waits 2(p - 1 - i) ticks, so a ring of 2p inputs is all that is stored, whatever
    m is. The backward pass recomputes the stage from its input.
    """
    p, i = lax.axis_size("pipe"), place("pipe")
    m, b, s = batch.inputs.shape[:3]
    w = tmap(lambda a: a[0], w)  # one chunk
    depth = jax.tree.leaves(w)[0].shape[0]
    first, last = i == 0, i == p - 1
    inner = rematerialise({"nested": "full", "selective": "selective"}.get(decoder.plan.remat, "none"), "layer_in")

    def of(a, q):
        return lax.dynamic_index_in_dim(a, q, 0, keepdims=False)

    def keep(condition, tree):
        return tmap(lambda a: jnp.where(condition, a, 0), tree)

    def keys(q):
        return decoder.keys(key, sequences(q, b))

    padded = p * depth != decoder.model.layers

    def stage(z, x, q):
        return decoder.stage(w, x, i * depth, keys(q), remat=inner, padded=padded, totals=z)

    def tick(carry, k):
        arriving, returning, ring, gw, ge, total = carry
        f, j = jnp.clip(k - i, 0, m - 1), jnp.clip(k - 2 * (p - 1) + i, 0, m - 1)
        forward, backward = f == k - i, j == k - 2 * (p - 1) + i  # false in a bubble

        def embed(e, q):
            return decoder.embed(e, of(batch.inputs, q), keys(q))

        x = jnp.where(first, embed(e, f), arriving)
        x = jnp.where(forward, x, 0)  # bubbles compute on zeros: finite, and unread
        ring = lax.dynamic_update_index_in_dim(ring, x, k % (2 * p), 0)
        y, _ = stage(None, x, f)

        saved = jnp.where(backward, of(ring, (j + i) % (2 * p)), 0)
        (z, _), pull = jax.vjp(partial(stage, q=j), zeros(w), saved)

        def head(e, z):
            return decoder.loss(e, z, of(batch.targets, j)) * scale

        loss, (de, dz) = jax.value_and_grad(head, (0, 1))(e, z)
        gw, dx = pull((keep(backward, jnp.where(last, dz, returning)), gw))
        (de0,) = jax.vjp(lambda e: embed(e, j), e)[1](keep(first & backward, dx))

        ge = add(add(ge, keep(last & backward, de)), de0)
        total = total + keep(last & backward, loss)
        return (shift(y, "pipe", 1), shift(dx, "pipe", -1), ring, gw, ge, total), None

    shape = (b, s // lax.axis_size("tensor"), decoder.model.width)
    link = vary(jnp.full(shape, fill, decoder.plan.dtype))
    ring = vary(jnp.full((2 * p, *shape), fill, decoder.plan.dtype))
    start = link, link, ring, zeros(w), zeros(e), vary(jnp.zeros((), f32), AXES[:3])
    (_, _, _, gw, ge, total), _ = lax.scan(tick, start, jnp.arange(m + 2 * (p - 1)))
    return total, tmap(lambda a: a[None], gw), ge

"""Causal attention behind one door, with memory linear in the sequence on every backend.

`cudnn` is NVIDIA's fused kernel; `chunked` is a flash attention written in plain JAX, for every other
backend; `dense` holds the s x s scores and exists as the reference the others are tested against.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from jaxsci.transformer.collectives import vary_like

Implementation = Literal["auto", "cudnn", "chunked", "dense"]
Queries = Float[Array, "batch sequence groups queries size"]
Keys = Float[Array, "batch sequence groups size"]
f32 = jnp.float32


def attention(q: Queries, k: Keys, v: Keys, *, implementation: Implementation = "auto", chunk: int = 512) -> Queries:
    """softmax(q k^T / sqrt(size) + causal mask) v, softmax in float32 or more; one key head serves `queries` query
    heads.

    `chunk` is the edge of the largest block of scores ever held by `chunked`.
    """
    if implementation == "auto":
        implementation = "cudnn" if cudnn_applies(q) else "chunked"
    if implementation == "cudnn":
        return _cudnn(q.reshape(*q.shape[:2], -1, q.shape[-1]), k, v).reshape(q.shape)
    if implementation == "dense" or q.shape[1] <= chunk:
        return _dense(q, k, v)
    return _chunked(q, k, v, divisor(q.shape[1], chunk))


def cudnn_applies(q: Queries) -> bool:
    """Whether the fused kernel takes these queries: CUDA, 16 bits, head size a multiple of 8 up to 128."""
    if jax.default_backend() != "gpu" or "rocm" in jax.devices()[0].client.platform_version.lower():
        return False
    return q.dtype in (jnp.bfloat16, jnp.float16) and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128


def divisor(total: int, limit: int) -> int:
    """The largest divisor of `total` that is at most `limit`."""
    return next(d for d in range(min(total, limit), 0, -1) if total % d == 0)


def _dense(q, k, v):
    s = q.shape[1]
    wide = jnp.promote_types(q.dtype, f32)
    scores = jnp.einsum("bqgnd,bkgd->bgnqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=wide)
    scores = jnp.where(jnp.tril(jnp.ones((s, s), bool)), scores, -jnp.inf)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
    return checkpoint_name(jnp.einsum("bgnqk,bkgd->bqgnd", weights, v), "attended")


# The fused kernel. Its primitives carry no record of the mesh axes their results vary over, so both
# directions are wrapped here and marked again; the cotangents inside never meet the outer bookkeeping.


@jax.custom_vjp
def _cudnn(q, k, v):
    return _cudnn_forward(q, k, v)[0]


def _fused(q, k, v):
    return jax.nn.dot_product_attention(q, k, v, is_causal=True, implementation="cudnn")


def _cudnn_forward(q, k, v):
    out, back = jax.vjp(_fused, q, k, v)

    def kept(a):  # what the kernel itself made: its result and the sums of its softmax
        return a if any(a is given for given in (q, k, v)) else checkpoint_name(a, "attended")

    return vary_like(kept(out), q), jax.tree.map(kept, back)


def _cudnn_backward(back, gradient):
    return tuple(vary_like(g, gradient) for g in back(gradient))


_cudnn.defvjp(_cudnn_forward, _cudnn_backward)


# Flash attention in plain JAX (Dao et al. 2205.14135; Milakov and Gimelshein 1805.02867 for the running
# softmax). The sequence is cut into c-long chunks and one scan visits the pairs (i, j), j <= i, of query and
# key chunks: the pairs above the diagonal are never computed. Layout inside: (chunks, batch, groups, queries,
# c, size).


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _chunked(q, k, v, chunk):
    return _chunked_forward(q, k, v, chunk)[0]


def _split(x, chunk):
    b, s, *rest, d = x.shape
    return jnp.moveaxis(x.reshape(b, s // chunk, chunk, *rest, d), (1, 2), (0, -2))


def _join(x):
    x = jnp.moveaxis(x, (0, -2), (1, 2))
    return x.reshape(x.shape[0], x.shape[1] * x.shape[2], *x.shape[3:])


def _pairs(n):
    """(i, j) with j <= i; the running softmax of row i is completed before row i + 1 begins."""
    i, j = zip(*[(i, j) for i in range(n) for j in range(i + 1)], strict=True)
    return jnp.array(i), jnp.array(j)


def _scores(q, k, i, j):
    """Scores of query chunk i against key chunk j, float32; -inf above the diagonal."""
    c = q.shape[-2]
    scores = jnp.einsum("bgnqd,bgkd->bgnqk", q, k, preferred_element_type=f32) * q.shape[-1] ** -0.5
    return jnp.where((i > j) | jnp.tril(jnp.ones((c, c), bool)), scores, -jnp.inf)


def _at(x, i):
    return lax.dynamic_index_in_dim(x, i, 0, keepdims=False)


def _put(x, value, i):
    return lax.dynamic_update_index_in_dim(x, value.astype(x.dtype), i, 0)


def _add(x, value, i):
    return _put(x, _at(x, i) + value, i)


def _chunked_forward(q, k, v, chunk):
    qs, ks, vs = _split(q, chunk), _split(k, chunk), _split(v, chunk)
    fresh = (
        vary_like(jnp.full(qs.shape[1:-1], -jnp.inf, f32), q),  # running maximum
        vary_like(jnp.zeros(qs.shape[1:-1], f32), q),  # running sum of exponentials
        vary_like(jnp.zeros(qs.shape[1:], f32), q),  # running weighted sum of values
    )

    def visit(carry, pair):
        (top, total, mixed), out, logsum = carry
        i, j = pair
        top, total, mixed = jax.tree.map(lambda x, x0: jnp.where(j == 0, x0, x), (top, total, mixed), fresh)
        scores = _scores(_at(qs, i), _at(ks, j), i, j)
        higher = jnp.maximum(top, scores.max(-1))
        weights, shrink = jnp.exp(scores - higher[..., None]), jnp.exp(top - higher)
        total = total * shrink + weights.sum(-1)
        values = jnp.einsum("bgnqk,bgkd->bgnqd", weights.astype(v.dtype), _at(vs, j), preferred_element_type=f32)
        mixed = mixed * shrink[..., None] + values
        # Written at every visit of row i; the last one, j = i, is what stays.
        out, logsum = _put(out, mixed / total[..., None], i), _put(logsum, higher + jnp.log(total), i)
        return ((higher, total, mixed), out, logsum), None

    start = (fresh, vary_like(jnp.zeros_like(qs), q), vary_like(jnp.zeros(qs.shape[:-1], f32), q))
    (_, out, logsum), _ = lax.scan(visit, start, _pairs(qs.shape[0]))
    out, logsum = checkpoint_name(_join(out), "attended"), checkpoint_name(logsum, "attended")
    return out, (q, k, v, out, logsum)


def _chunked_backward(chunk, saved, gradient):
    q, k, v, out, logsum = saved
    qs, ks, vs, gs = (_split(x, chunk) for x in (q, k, v, gradient))
    # d softmax: dS = P * (dP - rowsum(dP * P)), and rowsum(dP * P) = rowsum(dOut * Out)
    inner = _split((gradient.astype(f32) * out.astype(f32)).sum(-1, keepdims=True), chunk)[..., 0]

    def visit(carry, pair):
        dq, dk, dv = carry
        i, j = pair
        qi, kj, vj, gi = _at(qs, i), _at(ks, j), _at(vs, j), _at(gs, i)
        weights = jnp.exp(_scores(qi, kj, i, j) - _at(logsum, i)[..., None])
        dweights = jnp.einsum("bgnqd,bgkd->bgnqk", gi, vj, preferred_element_type=f32)
        dscores = (weights * (dweights - _at(inner, i)[..., None]) * q.shape[-1] ** -0.5).astype(q.dtype)
        dv = _add(dv, jnp.einsum("bgnqk,bgnqd->bgkd", weights.astype(v.dtype), gi, preferred_element_type=f32), j)
        dq = _add(dq, jnp.einsum("bgnqk,bgkd->bgnqd", dscores, kj, preferred_element_type=f32), i)
        dk = _add(dk, jnp.einsum("bgnqk,bgnqd->bgkd", dscores, qi, preferred_element_type=f32), j)
        return (dq, dk, dv), None

    start = tuple(vary_like(jnp.zeros(x.shape, f32), q) for x in (qs, ks, vs))
    (dq, dk, dv), _ = lax.scan(visit, start, _pairs(qs.shape[0]))
    return _join(dq).astype(q.dtype), _join(dk).astype(k.dtype), _join(dv).astype(v.dtype)


_chunked.defvjp(_chunked_forward, _chunked_backward)

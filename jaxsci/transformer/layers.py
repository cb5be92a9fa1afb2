"""One layer of the decoder: norms, attention and feed-forward, as flax.nnx modules used functionally.

A module only names its parameters and says how they act. The structure is split off once (`nnx.split`),
parameters travel as a plain pytree stacked over layers, and the same code acts on whole weights or on one
device's shard. b batch, s sequence, t tensor devices, h width, k key heads, g query heads per key head, d
head size, f hidden.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float, Key

from jaxsci.transformer.collectives import keep_mask
from jaxsci.transformer.config import ModelConfig

f32 = jnp.float32
EPSILON = 1e-5


def normal(key: Key[Array, ""], shape: tuple[int, ...], deviation: float) -> nnx.Param:
    """A float32 parameter of independent normal values."""
    return nnx.Param(deviation * jax.random.normal(key, shape, f32))


class Norm(nnx.Module):
    """LayerNorm (scale, optional bias) or RMSNorm (scale), computed in float32 or more."""

    def __init__(self, config: ModelConfig):
        self.centred = config.norm == "layernorm"
        self.scale = nnx.Param(jnp.ones(config.width, f32))
        self.bias = nnx.Param(jnp.zeros(config.width, f32)) if self.centred and config.bias else None

    def __call__(self, x: Float[Array, "... h"]) -> Float[Array, "... h"]:
        y = x.astype(jnp.promote_types(x.dtype, f32))
        if self.centred:
            y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + EPSILON) * self.scale[...]
        return (y if self.bias is None else y + self.bias[...]).astype(x.dtype)


def rotate(x: Float[Array, "b s ... d"], positions: Float[Array, " s"], base: float) -> Float[Array, "b s ... d"]:
    """Rotary positions (Su et al. 2104.09864): pairs (x_j, x_{j+d/2}) turn by the angle position /
    base^(2j/d).
    """
    half = x.shape[-1] // 2
    angle = positions[:, None].astype(f32) * base ** (-jnp.arange(half, dtype=f32) / half)
    angle = angle.reshape(angle.shape[0], *[1] * (x.ndim - 3), half)
    cosine, sine = jnp.cos(angle), jnp.sin(angle)
    wide = jnp.promote_types(x.dtype, f32)
    a, b = x[..., :half].astype(wide), x[..., half:].astype(wide)
    return jnp.concatenate([a * cosine - b * sine, b * cosine + a * sine], -1).astype(x.dtype)


class Attention(nnx.Module):
    """Grouped-query attention; each key head keeps its g queries, its key and its value side by side in
    `qkv`.
    """

    def __init__(self, config: ModelConfig, key: Key[Array, ""]):
        h, k, g, d = config.width, config.groups, config.queries, config.head_size
        inward, outward = jax.random.split(key)
        self.base = config.rotary_base if config.positions == "rotary" else None
        self.qkv = normal(inward, (h, k, g + 2, d), config.initial_deviation)
        self.out = normal(outward, (k, g, d, h), config.initial_deviation / (2 * config.layers) ** 0.5)
        self.qkv_bias = nnx.Param(jnp.zeros((k, g + 2, d), f32)) if config.bias else None
        self.out_bias = nnx.Param(jnp.zeros(h, f32)) if config.bias else None

    def __call__(self, x: Float[Array, "b s/t h"], positions: Array, attend: Callable, place: Any):
        """`attend(q, k, v)` mixes the positions; `place` says how activations lie between tensor-parallel
        regions, and takes the products.
        """
        heads = place.linear(place.enter(x), self.qkv[...])
        heads = heads if self.qkv_bias is None else heads + self.qkv_bias[...].astype(x.dtype)
        heads = checkpoint_name(heads, "heads")
        q, k, v = heads[..., :-2, :], heads[..., -2, :], heads[..., -1, :]
        if self.base is not None:
            q, k = rotate(q, positions, self.base), rotate(k, positions, self.base)
        y = place.leave(place.linear(attend(q, k, v), self.out[...]))
        y = checkpoint_name(y, "projected")
        return y if self.out_bias is None else y + self.out_bias[...].astype(x.dtype)


class FeedForward(nnx.Module):
    """GELU (tanh form) or SwiGLU between a widening and a narrowing matrix."""

    def __init__(self, config: ModelConfig, key: Key[Array, ""]):
        h, f, n = config.width, config.hidden, config.gates
        inward, outward = jax.random.split(key)
        self.up = normal(inward, (h, n, f), config.initial_deviation)
        self.down = normal(outward, (f, h), config.initial_deviation / (2 * config.layers) ** 0.5)
        self.up_bias = nnx.Param(jnp.zeros((n, f), f32)) if config.bias else None
        self.down_bias = nnx.Param(jnp.zeros(h, f32)) if config.bias else None

    def __call__(self, x: Float[Array, "b s/t h"], place: Any):
        u = place.linear(place.enter(x), self.up[...])
        u = u if self.up_bias is None else u + self.up_bias[...].astype(x.dtype)
        u = checkpoint_name(u, "hidden")
        u = jax.nn.gelu(u[..., 0, :]) if u.shape[-2] == 1 else jax.nn.silu(u[..., 0, :]) * u[..., 1, :]
        y = place.leave(place.linear(u, self.down[...]))
        return y if self.down_bias is None else y + self.down_bias[...].astype(x.dtype)


class Block(nnx.Module):
    """x + attention(norm(x)), then x + feedforward(norm(x)); `active` 0 turns the layer into the identity."""

    def __init__(self, config: ModelConfig, key: Key[Array, ""]):
        first, second = jax.random.split(key)
        self.dropout = config.dropout
        self.attention_norm, self.attention = Norm(config), Attention(config, first)
        self.feedforward_norm, self.feedforward = Norm(config), FeedForward(config, second)

    def __call__(
        self,
        x: Float[Array, "b s/t h"],
        positions: Array,
        attend: Callable,
        place: Any,
        active: Float[Array, ""] | float = 1.0,
        keys: Key[Array, " b"] | None = None,
    ) -> Float[Array, "b s/t h"]:
        gate = jnp.asarray(active, x.dtype)
        y = self.attention(self.attention_norm(x), positions, attend, place)
        x = x + gate * dropout(y, self.dropout, keys, 0)
        y = self.feedforward(self.feedforward_norm(x), place)
        return x + gate * dropout(y, self.dropout, keys, 1)


def dropout(x: Float[Array, "b s/t h"], rate: float, keys: Key[Array, " b"] | None, site: int):
    """Zero a share `rate` of the entries and scale the rest; the identity without keys."""
    if keys is None or rate == 0:
        return x
    keep = keep_mask(jax.vmap(lambda key: jax.random.fold_in(key, site))(keys), x.shape, rate)
    return jnp.where(keep, x / (1 - rate), 0).astype(x.dtype)

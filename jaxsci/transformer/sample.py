"""Drawing text from a model: one token at a time, with the keys and values of the past kept in a cache.

The cache is split as the heads are, over `tensor`, and prompts over `data` and `fsdp`. Layers run one after
another on every device, so a mesh with stages is first folded into one without (`for_decoding`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.core.config import require
from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.transformer.collectives import BATCH, Replicated, all_gather, place, total, vary
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.cross_entropy import lookup
from jaxsci.transformer.layout import Layout, relayout
from jaxsci.transformer.model import Decoder
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.sharding import fetch, present, shardings, specs

f32 = jnp.float32


def for_decoding(model: ModelConfig, params: PyTree, mesh: Mesh) -> tuple[PyTree, Mesh]:
    """The same parameters without padded layers, on a mesh whose stages became copies."""
    sizes = mesh.shape
    order = [mesh.axis_names.index(axis) for axis in ("data", "pipe", "fsdp", "tensor")]
    devices = np.moveaxis(mesh.devices, order, range(mesh.devices.ndim - 4, mesh.devices.ndim)).ravel()
    config = MeshConfig(data=sizes["data"] * sizes["pipe"], fsdp=sizes["fsdp"], tensor=sizes["tensor"])
    folded = make_mesh(config, list(devices))
    params = relayout(params, model, Layout(1, model.layers, params["embed"].shape[0]))
    return jax.device_put(params, shardings(folded, params)), folded


def choose(
    logits: Float[Array, " vocabulary"], key: Key[Array, ""], temperature: float, top_p: float
) -> Int[Array, ""]:
    """Draw from softmax(logits / temperature), cut to the fewest tokens that together have probability
    `top_p`.

    Temperature 0 takes the likeliest token. Nucleus sampling: Holtzman et al. 1904.09751.
    """
    if temperature == 0:
        return logits.argmax()
    logits = logits / temperature
    if top_p < 1:
        ordered = jnp.sort(logits, descending=True)
        before = jnp.cumsum(jax.nn.softmax(ordered)) - jax.nn.softmax(ordered)
        least = jnp.where(before < top_p, ordered, jnp.inf).min()  # the likeliest token always stays
        logits = jnp.where(logits >= least, logits, -jnp.inf)
    return jax.random.categorical(key, logits)


def make_sampler(
    model: ModelConfig,
    plan: ParallelConfig,
    mesh: Mesh,
    length: int,
    *,
    temperature: float = 1.0,
    top_p: float = 1.0,
) -> Callable[[PyTree, Int[Array | np.ndarray, "batch prompt"], Key[Array, ""]], Int[Array, "batch length"]]:
    """A jitted `sample(params, prompts, key) -> tokens` that continues prompts to `length` tokens.

    `params` and `mesh` as `for_decoding` gives them; the prompts must split over data x fsdp. What is drawn
    depends on the key, the row and the position, not on the mesh. Raises `ConfigError`.
    """
    require(1 <= length <= model.sequence, "sample.length", f"1 to model.sequence {model.sequence}", length)
    require(temperature >= 0, "sample.temperature", "0 or more", temperature)
    require(0 < top_p <= 1, "sample.top_p", "a value above 0, up to 1", top_p)
    require(mesh.shape["pipe"] == 1, "mesh.pipe", "1 (see for_decoding)", mesh.shape["pipe"])
    decoder = Decoder(model, plan)

    def local(params, prompts, key):
        tables = fetch(params, plan.dtype)
        blocks = jax.tree.map(lambda a: a[0], tables.pop("blocks"))
        batch, given = prompts.shape
        replica = place("data") * mesh.shape["fsdp"] + place("fsdp")
        keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(replica * batch + jnp.arange(batch))
        groups = model.groups // mesh.shape["tensor"]
        cache = vary(jnp.zeros((2, model.layers, batch, length, groups, model.head_size), plan.dtype))

        def turn(carry, n):
            token, cache = carry
            logits, cache = _next(decoder, tables, blocks, token, cache, n)
            drawn = jax.vmap(lambda z, k: choose(z, jax.random.fold_in(k, n), temperature, top_p))(logits, keys)
            # Every tensor device drew the same; the sum over one of them says so to the type checker.
            drawn = total(jnp.where(place("tensor") == 0, drawn, 0), ("tensor",))
            following = lax.dynamic_index_in_dim(prompts, jnp.minimum(n + 1, given - 1), 1, keepdims=False)
            token = jnp.where(n + 1 < given, following, drawn.astype(jnp.int32))
            return (token, cache), token

        _, tokens = lax.scan(turn, (prompts[:, 0], cache), jnp.arange(length - 1))
        return jnp.concatenate([prompts[:, :1], tokens.T], axis=1)

    def sample(params, prompts, key):
        inward = present(mesh, (specs(params), P(BATCH), P()))
        spread = jax.shard_map(local, mesh=mesh, in_specs=inward, out_specs=present(mesh, P(BATCH)))
        return spread(params, prompts.astype(jnp.int32), key)

    return jax.jit(sample)


def _next(decoder: Decoder, e: PyTree, blocks: PyTree, token, cache, n):
    """Logits of the token after position n, and the cache with position n filled in.

    token (batch), cache (2, layer, batch, length, key heads / t, head size) -> logits (batch, vocabulary).
    """
    block, norm = decoder.graphs
    x = total(lookup(e["embed"], token[:, None]), ("tensor",))
    if "position" in e:
        x = x + total(lookup(e["position"], n[None, None]), ("tensor",))

    def layer(x, slice_):
        w, (past_k, past_v) = slice_
        filled = []

        def attend(q, k, v):  # q (batch, 1, key heads, queries, size)
            keys = lax.dynamic_update_slice_in_dim(past_k, k, n, 1)
            values = lax.dynamic_update_slice_in_dim(past_v, v, n, 1)
            filled.extend((keys, values))
            scores = jnp.einsum("bqgnd,bkgd->bgnqk", q, keys, preferred_element_type=f32) * q.shape[-1] ** -0.5
            scores = jnp.where(jnp.arange(keys.shape[1]) <= n, scores, -jnp.inf)
            return jnp.einsum("bgnqk,bkgd->bqgnd", jax.nn.softmax(scores).astype(v.dtype), values)

        x = nnx.merge(block, w)(x, n[None], attend, Replicated)
        return x, tuple(filled)

    x, (keys, values) = lax.scan(layer, vary(x), (blocks, (cache[0], cache[1])))
    x = nnx.merge(norm, e["norm"])(x)[:, 0]
    logits = jnp.einsum("bh,vh->bv", x, e.get("head", e["embed"]), preferred_element_type=f32)
    return all_gather(logits, "tensor", 1)[:, : decoder.model.vocabulary], jnp.stack([keys, values])

"""Small models, meshes and batches shared by the transformer tests, and an independent reference model.

The reference shares no code with the library: one device, whole weights, s x s scores, all logits at once.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.layout import Layout, layout, relayout
from jaxsci.transformer.model import init
from jaxsci.transformer.parallel import ParallelConfig, check
from jaxsci.transformer.pipeline import Batch
from jaxsci.transformer.sharding import shardings
from jaxsci.transformer.step import batch_sharding, make_gradients

AXES = ("data", "fsdp", "pipe", "tensor")
GPT = ModelConfig(layers=8, width=32, heads=8, sequence=16, vocabulary=101, bias=True)
LLAMA = ModelConfig(
    layers=4,
    width=32,
    heads=8,
    kv_heads=4,
    feedforward=48,
    sequence=16,
    vocabulary=101,
    positions="rotary",
    activation="swiglu",
    norm="rmsnorm",
    tied=False,
)
# Every mesh (data, fsdp, pipe, tensor) of eight devices.
MESHES = [(2**d, 2**f, 2**p, 2 ** (3 - d - f - p)) for d in range(4) for f in range(4 - d) for p in range(4 - d - f)]


@functools.cache
def mesh(shape: tuple[int, int, int, int]) -> Mesh:
    config = MeshConfig(**dict(zip(AXES, shape, strict=True)))
    return make_mesh(config, jax.devices()[: math.prod(shape)])


def tokens(model: ModelConfig, batch: int = 16, ignored: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (batch, sequence); a share `ignored` of the targets, unevenly spread, does not
    count.
    """
    random = np.random.default_rng(7)
    rows = random.integers(0, model.vocabulary, (batch, model.sequence + 1)).astype(np.int32)
    drop = random.random((batch, model.sequence)) < ignored * np.arange(batch)[:, None] / batch
    return rows[:, :-1], np.where(drop, -1, rows[:, 1:]).astype(np.int32)


def place(model: ModelConfig, plan: ParallelConfig, on: Mesh, inputs: np.ndarray, targets: np.ndarray) -> Batch:
    def cut(a):
        return a.reshape(plan.microbatches, -1, model.sequence)

    return jax.device_put(Batch(cut(inputs), cut(targets)), batch_sharding(plan, on))


def canonical(model: ModelConfig) -> Layout:
    return Layout(1, model.layers, model.vocabulary)


@functools.cache
def initial(model: ModelConfig) -> dict:
    """Unpadded initial parameters, larger than at the start of training so that every term matters."""
    params = jax.jit(lambda key: init(model, canonical(model), key))(jax.random.key(0))

    def scattered(path, a):
        return a + 0.05 * np.random.default_rng(len(str(path))).standard_normal(a.shape)

    return jax.tree_util.tree_map_with_path(lambda p, a: scattered(p, np.asarray(a)).astype(np.float32), params)


def placed(model: ModelConfig, plan: ParallelConfig, on: Mesh) -> dict:
    params = relayout(jax.tree.map(jnp.asarray, initial(model)), model, layout(model, plan, on.shape))
    return jax.device_put(params, shardings(on, params))


def gradients(model: ModelConfig, plan: ParallelConfig, shape: tuple, *, step: int = 0, fill: float = 0.0):
    """(loss, gradients in the unpadded layout, gradients as stored) of the standard batch on a mesh."""
    on = mesh(shape)
    check(model, plan, on.shape, 16)
    batch = place(model, plan, on, *tokens(model))
    run = jax.jit(make_gradients(model, plan, on, fill=fill))
    loss, g = run(placed(model, plan, on), batch, jax.random.key(step), jnp.float32(1))
    stored = jax.device_get(g)
    return float(loss), jax.device_get(relayout(stored, model, canonical(model))), stored


def largest_difference(a: dict, b: dict) -> float:
    """Largest difference of any leaf, relative to the largest entry of the leaf."""
    relative = jax.tree.map(lambda x, y: float(np.abs(x - y).max() / np.abs(y).max()), a, b)
    return max(jax.tree.leaves(relative))


# ---- the reference


def reference_loss(model: ModelConfig, params: dict, inputs, targets):
    """Mean cross-entropy over the targets that are not -1, in the precision of `params`."""
    x = params["embed"][inputs]
    if model.positions == "learned":
        x = x + params["position"]
    for n in range(model.layers):
        layer = jax.tree.map(lambda a, n=n: a[0, n], params["blocks"])
        x = x + _attention(model, layer["attention"], _norm(model, layer["attention_norm"], x))
        x = x + _feedforward(model, layer["feedforward"], _norm(model, layer["feedforward_norm"], x))
    logits = _norm(model, params["norm"], x) @ params.get("head", params["embed"]).T
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(targets, 0)[..., None], -1)[..., 0]
    return -jnp.where(targets >= 0, chosen, 0).sum() / (targets >= 0).sum()


@functools.cache
def reference(model: ModelConfig):
    """(loss, gradients) of the standard batch by the reference, float32 on one device."""
    params = jax.tree.map(jnp.asarray, initial(model))
    loss, g = jax.jit(jax.value_and_grad(functools.partial(reference_loss, model)))(params, *tokens(model))
    return float(loss), jax.device_get(g)


def _norm(model, p, x):
    if model.norm == "layernorm":
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    else:
        x = x / jnp.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    return x * p["scale"] + p.get("bias", 0)


def _attention(model, p, x):
    b, s, _ = x.shape
    heads = jnp.tensordot(x, p["qkv"], 1) + p.get("qkv_bias", 0)
    q = heads[..., : model.queries, :].reshape(b, s, model.heads, model.head_size)
    k, v = (jnp.repeat(heads[..., model.queries + j, :], model.queries, axis=2) for j in (0, 1))
    if model.positions == "rotary":
        q, k = _rotate(model, q), _rotate(model, k)
    scores = jnp.einsum("bqad,bkad->baqk", q, k) / jnp.sqrt(jnp.array(model.head_size, x.dtype))
    weights = jax.nn.softmax(jnp.where(np.tri(s, dtype=bool), scores, -jnp.inf))
    y = jnp.einsum("baqk,bkad->bqad", weights, v).reshape(b, s, -1)
    return y @ p["out"].reshape(-1, model.width) + p.get("out_bias", 0)


def _rotate(model, x):
    """Rotary positions as a product of complex numbers."""
    half = model.head_size // 2
    angle = np.arange(x.shape[1])[:, None] / model.rotary_base ** (np.arange(half) / half)
    turned = (x[..., :half] + 1j * x[..., half:]) * jnp.exp(1j * angle)[:, None, :]
    return jnp.concatenate([turned.real, turned.imag], -1).astype(x.dtype)


def _feedforward(model, p, x):
    u = (
        jnp.einsum("bsh,hnf->nbsf", x, p["up"])
        + jnp.asarray(p.get("up_bias", np.zeros((model.gates, 1))))[:, None, None]
    )
    u = jax.nn.gelu(u[0]) if model.gates == 1 else u[0] * jax.nn.sigmoid(u[0]) * u[1]
    return u @ p["down"] + p.get("down_bias", 0)

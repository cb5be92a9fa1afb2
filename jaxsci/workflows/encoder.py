"""The network both detectors share: what a job did, what its neighbours in the graph did, and what else its worker did.

    input    standardised telemetry (bounded and logarithmic), mask of what was observed, place of the job
    layers   h + MLP(LayerNorm[h, mean of parents, mean of children, mean of worker, of machine, of run])

Arrays inside are node-major, (nodes, runs, width).
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.core.config import between, positive
from jaxsci.workflows.batch import Runs
from jaxsci.workflows.graph import Dag
from jaxsci.workflows.pooling import Groups, groups, joined


@dataclass(frozen=True)
class EncoderConfig:
    """`width` of the hidden state; `layers`; `dropout` of what enters each layer.

    `position`: whether every job has a learned vector of its own, which knows the workflow and does not carry over to
    another one. `dag`, `worker`, `machine` switch the sources of a layer, for ablations.
    """

    width: int = 32
    layers: int = 2
    dropout: float = 0.1
    position: bool = True
    dag: bool = True
    worker: bool = True
    machine: bool = True

    def __post_init__(self):
        positive(self, "width", "layers")
        between(self, "dropout", 0.0, 0.9)


class Place(eqx.Module):
    """The graph and the groups of a batch of runs."""

    dag: Dag
    worker: Groups
    machine: Groups


def place(dag: Dag, runs: Runs) -> Place:
    """Groups of the jobs of `runs`."""
    return Place(dag, groups(runs.worker, runs.workers), groups(runs.machine, runs.machines))


class Layer(eqx.Module):
    """One round of looking around."""

    norm: eqx.nn.LayerNorm
    mix: Float[Array, "sources width hidden"]
    bias: Float[Array, "hidden"]
    out: Float[Array, "hidden width"]
    config: EncoderConfig = eqx.field(static=True)

    def __init__(self, config: EncoderConfig, *, key: PRNGKeyArray):
        first, second = jax.random.split(key)
        width, sources = config.width, 2 + 2 * config.dag + config.worker + config.machine
        self.norm = eqx.nn.LayerNorm(width)
        self.mix = jax.random.normal(first, (sources, width, width)) / jnp.sqrt(sources * width)
        self.bias = jnp.zeros(width)
        self.out = jax.random.normal(second, (width, width)) * (0.5 / jnp.sqrt(width))
        self.config = config

    def __call__(self, h: Float[Array, "nodes runs width"], around: Place) -> Float[Array, "nodes runs width"]:
        h0, h = h, layer_norm(self.norm, h)
        mix = iter(self.mix)
        mixed = h @ next(mix) + h.mean(axis=0) @ next(mix) + self.bias
        if self.config.dag:
            mixed += around.dag(h, next(mix), next(mix))
        kinds = [around.worker] * self.config.worker + [around.machine] * self.config.machine
        if kinds:
            means = [group.average(h) @ next(mix) for group in kinds]
            mixed += joined(kinds).spread(jnp.concatenate(means, axis=1))
        return h0 + jax.nn.gelu(mixed) @ self.out


class Encoder(eqx.Module):
    """From standardised telemetry to a latent vector per job."""

    inward: Float[Array, "inputs width"]
    position: Float[Array, "nodes width"] | None
    layers: tuple[Layer, ...]
    norm: eqx.nn.LayerNorm
    config: EncoderConfig = eqx.field(static=True)

    def __init__(self, config: EncoderConfig, nodes: int, features: int, *, key: PRNGKeyArray):
        first, second, rest = jax.random.split(key, 3)
        inputs = 3 * features + 2
        self.inward = jax.random.normal(first, (inputs, config.width)) / jnp.sqrt(inputs)
        self.position = 0.1 * jax.random.normal(second, (nodes, config.width)) if config.position else None
        self.layers = tuple(Layer(config, key=k) for k in jax.random.split(rest, config.layers))
        self.norm = eqx.nn.LayerNorm(config.width)
        self.config = config

    def __call__(
        self, c: Float[Array, "runs nodes features"], runs: Runs, around: Place, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "nodes runs width"]:
        """`c` is standardised; it stands apart from `runs` because an augmented view differs in it alone. With a `key`,
        dropout acts."""
        h = inputs(c, runs, around) @ self.inward
        if self.position is not None:
            h = h + self.position[:, None, :]
        for number, layer in enumerate(self.layers):
            if key is not None and self.config.dropout:
                h = dropped(h, self.config.dropout, key=jax.random.fold_in(key, number))
            h = layer(h, around)
        return layer_norm(self.norm, h)


def inputs(c: Float[Array, "runs nodes features"], runs: Runs, around: Place) -> Float[Array, "nodes runs inputs"]:
    """Small deviations as they are, large ones by their logarithm, what was observed, and how busy the worker was."""
    seen = runs.observed.astype(jnp.float32)
    c = c * seen
    bounded, logarithmic = jnp.clip(c, -3.0, 3.0), jnp.sign(c) * jnp.log1p(jnp.abs(c))
    company = jnp.log(around.worker.spread(around.worker.count()[..., None]))
    own = jnp.concatenate([bounded, logarithmic, seen, runs.on_worker[..., None]], axis=-1)
    return jnp.concatenate([jnp.swapaxes(own, 0, 1), company], axis=-1)


def dropped(h: Float[Array, "*shape"], share: float, *, key: PRNGKeyArray) -> Float[Array, "*shape"]:
    """Dropout of `share`, to the nearest 1/256 of it: a random byte an entry costs a quarter of a random float."""
    lost = round(256 * share)
    kept = jax.random.bits(key, h.shape, jnp.uint8) >= lost
    return jnp.where(kept, h * (256 / (256 - lost)), 0.0)


def layer_norm(norm: eqx.nn.LayerNorm, h: Float[Array, "nodes runs width"]) -> Float[Array, "nodes runs width"]:
    """Over the last axis of any array; Equinox's own works on single vectors."""
    centred = h - h.mean(axis=-1, keepdims=True)
    scaled = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + norm.eps)
    if norm.weight is None or norm.bias is None:
        return scaled
    return scaled * norm.weight + norm.bias

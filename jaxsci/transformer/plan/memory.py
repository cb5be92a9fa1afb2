"""Bytes that a step needs on a device of each pipeline stage, by closed formulas.

State is counted from the model's own shapes and its table of splits. Activations follow Korthikanti et al.
2205.05198, sections 4 to 6 (bytes at 16 bits, dropout masks included); what a single program holds follows
its schedule (`pipeline.py`). Formulas leave out what a compiler adds (fragments, temporary copies): expect it
to say up to a tenth more.

l layers, h width, a heads, s sequence, V vocabulary, b sequences of a micro-batch, m micro-batches, t, p, d
sizes of tensor, pipe and fsdp, v chunks per stage.
"""

from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.layout import TILE, Layout
from jaxsci.transformer.model import init
from jaxsci.transformer.plan.recipe import POLICIES, Recipe, depth
from jaxsci.transformer.sharding import leaf_spec, local_shape

Stages = Float[np.ndarray, " pipe"]
GIB = 2**30


class Memory(NamedTuple):
    """Bytes per device, an entry for each pipeline stage. `parameters`, `gradients`, `optimizer`: state,
    tables included. `activations`: what layers keep between forward and backward. `inputs`: dropout of the
    embedding. `logits`: final norm and logits. `working`: what exists only while a stage or layer runs.
    """

    parameters: Stages
    gradients: Stages
    optimizer: Stages
    activations: Stages
    inputs: Stages
    logits: Stages
    working: Stages

    @property
    def state(self) -> Stages:
        """Parameters, gradients and optimizer, bytes by stage."""
        return self.parameters + self.gradients + self.optimizer

    @property
    def total(self) -> Stages:
        """Everything, bytes by stage; the largest entry has to fit."""
        return np.sum(self, axis=0)

    @property
    def worst(self) -> float:
        """Bytes of the fullest stage: the one that decides."""
        return float(self.total.max())


class State(NamedTuple):
    """Bytes per parameter of a device's own shard: parameters, gradients, optimizer."""

    parameters: float
    gradients: float
    optimizer: float


def memory(model: ModelConfig, recipe: Recipe) -> Memory:
    """Bytes of `model` trained by `recipe`, per device and stage. Does not ask whether the recipe can run:
    `check_recipe` does.
    """
    whole, split = stage_parameters(model, recipe, 1), stage_parameters(model, recipe, recipe.fsdp)
    policy, zero = POLICIES[recipe.policy], recipe.zero
    layers = live_layers(model, recipe)
    return Memory(
        policy.weights * (split if zero == 3 else whole),
        policy.gradients * (split if zero >= 2 else whole),
        (policy.master + policy.copy + policy.moments) * (split if zero >= 1 else whole),
        layers * activation_bytes(model, recipe) + _stage_inputs(recipe) * _input_bytes(model, recipe),
        _inputs(model, recipe),
        _logits(model, recipe),
        _working(model, recipe),
    )


def state_bytes(policy: str, zero: int = 0, d: int = 1) -> State:
    """Bytes per parameter of a device's own shard when ZeRO splits state over `d` devices."""
    p = POLICIES[policy]
    parts = (p.weights, 3), (p.gradients, 2), (p.master + p.copy + p.moments, 1)
    return State(*(size / d if zero >= stage else size for size, stage in parts))


def stage_parameters(model: ModelConfig, recipe: Recipe, fsdp: int) -> Stages:
    """Parameters on one device of each stage, its layers' padding and its vocabulary's included."""
    layer, tables = _elements(model, recipe.tensor, fsdp)
    entrance = tables["embed"] + tables["position"]
    exit_ = tables["norm"] + tables["head" if "head" in tables else "embed"]
    if recipe.single_program or recipe.pipe == 1:
        held = np.full(recipe.pipe, float(sum(tables.values())))
    else:
        held = np.zeros(recipe.pipe)
        held[0] += entrance
        held[-1] += exit_  # a tied table is held twice
    return layers_of_stages(model, recipe) * layer + held


def layers_of_stages(model: ModelConfig, recipe: Recipe) -> Stages:
    """Layers stored by each stage: equally many, padding included, in a single program; else as even as can
    be.
    """
    if recipe.single_program:
        return np.full(recipe.pipe, float(depth(model, recipe)))
    places = recipe.pipe * recipe.virtual
    chunks = model.layers // places + (np.arange(places) < model.layers % places)
    return chunks.reshape(recipe.virtual, recipe.pipe).sum(0).astype(float)


def layer_matrices(model: ModelConfig) -> int:
    """Entries of one layer's matrices, 12 h^2 for a GPT: what published memory tables count as a layer."""
    qkv = model.width * model.head_size * (2 * model.heads + 2 * model.groups)
    return qkv + (model.gates + 1) * model.width * model.hidden


def activation_bytes(model: ModelConfig, recipe: Recipe) -> float:
    """Bytes that one layer keeps for the backward pass of one micro-batch, on one device.

    s b h (10 + 24/t + 5 a s/(h t)) for a GPT split over tensor; the 10 is divided by t too when the sequence
    is; attention scores are gone with selective recomputation or flash attention. Full recomputation keeps
    the input, 2 s b h.
    """
    if recipe.recompute in ("full", "nested"):
        return _input_bytes(model, recipe)
    scores = 0 if recipe.recompute == "selective" or recipe.flash else _score_bytes(model)
    return _layer_bytes(model, recipe, scores)


def live_layers(model: ModelConfig, recipe: Recipe) -> Stages:
    """Layers x micro-batches whose `activation_bytes` are kept at once, by stage.

    1F1B: the first stage holds l layers' worth, p micro-batches of l/p layers; interleaved
    l (1 + (p-1)/(p v)). A single program that recomputes stages keeps none: it keeps stage inputs.
    """
    p, m, v, i = recipe.pipe, recipe.microbatches, recipe.virtual, np.arange(recipe.pipe)
    held = layers_of_stages(model, recipe)
    if p == 1:
        return held
    if _recomputes_stages(recipe):
        return np.zeros(p)
    if recipe.schedule == "gpipe":
        return held / v * (v * m + recipe.idle)  # a turn in the bubble is stored like any other
    if recipe.schedule == "interleaved" and v > 1:
        return held / v * np.minimum(2 * (p - 1 - i) + (v - 1) * p + 1, v * m)
    return held * np.minimum(p - i, m)


def _recomputes_stages(recipe: Recipe) -> bool:
    """Whether a stage is recomputed from its input: always in lockstep."""
    streamed = recipe.schedule == "gpipe" and recipe.recompute in ("full", "nested")
    return recipe.pipe > 1 and (streamed or recipe.schedule == "lockstep")


def _stage_inputs(recipe: Recipe) -> int:
    """Stage inputs kept by a single program: those of every turn, in lockstep a ring of 2 p."""
    if not _recomputes_stages(recipe):
        return 0
    ring = 2 * recipe.pipe
    return ring if recipe.schedule == "lockstep" else recipe.virtual * recipe.microbatches + recipe.idle


def _working(model: ModelConfig, recipe: Recipe) -> Stages:
    """The layers that are being recomputed, gathered weights (ZeRO-3), and gradients before they are added."""
    held = layers_of_stages(model, recipe)
    layer_in = _input_bytes(model, recipe)
    full = _layer_bytes(model, recipe, 0 if recipe.flash else _score_bytes(model))
    chunk = held / recipe.virtual
    if _recomputes_stages(recipe):
        live = full + chunk * layer_in if recipe.recompute == "nested" else chunk * full
    elif recipe.recompute in ("full", "nested"):
        live = full
    else:
        live = full - activation_bytes(model, recipe)  # scores of one layer, with selective recomputation
    weights = POLICIES[recipe.policy].weights
    layer, _ = _elements(model, recipe.tensor, 1)
    if recipe.zero == 3:
        return live + 2 * weights * layer + np.zeros(recipe.pipe)  # one layer and its gradient
    transient = weights * layer * held if recipe.single_program else 0.0
    return live + transient + np.zeros(recipe.pipe)


def _inputs(model: ModelConfig, recipe: Recipe) -> Stages:
    """Mask of the embedding's dropout, s b h p / t, on the first stage: one for each micro-batch under way."""
    masks = np.zeros(recipe.pipe)
    under_way = 1 if recipe.single_program else recipe.pipe
    masks[0] = recipe.microbatch * model.sequence * model.width * under_way / recipe.tensor
    return masks


def _logits(model: ModelConfig, recipe: Recipe) -> Stages:
    """Final norm and logits, 4 s b h/t (1 + V/h), where the loss is computed: one micro-batch."""
    bytes_ = 4 * recipe.microbatch * model.sequence * (model.width + model.vocabulary) / recipe.tensor
    last = np.arange(recipe.pipe) == recipe.pipe - 1
    return np.where(last | recipe.single_program, bytes_, 0.0)


def _layer_bytes(model: ModelConfig, recipe: Recipe, scores: float) -> float:
    """s b h (10 + (8 + 4 f/h) / t) + scores / t at 16 bits; grouped keys and gated hidden units as they are."""
    shared = recipe.tensor if recipe.sequence_parallel else 1
    inner = 4 + 4 * model.groups / model.heads + 2 * (model.gates + 1) * model.hidden / model.width
    place = model.sequence * recipe.microbatch * model.width
    both = place * (10 / shared + inner / recipe.tensor) + scores * recipe.microbatch / recipe.tensor
    return both * POLICIES[recipe.policy].activation / 2


def _score_bytes(model: ModelConfig) -> float:
    """5 a s^2: softmax, its dropout mask and the dropped result, of one sequence."""
    return 5 * model.heads * model.sequence**2


def _input_bytes(model: ModelConfig, recipe: Recipe) -> float:
    shared = recipe.tensor if recipe.sequence_parallel else 1
    width = POLICIES[recipe.policy].activation
    return width * model.sequence * recipe.microbatch * model.width / shared


@lru_cache(maxsize=1024)
def _elements(model: ModelConfig, tensor: int, fsdp: int) -> tuple[int, dict[str, int]]:
    """Entries on one device: of one layer, and of each table by name."""
    tile = TILE * tensor
    vocabulary = -(-model.vocabulary // tile) * tile
    mesh = {"data": 1, "fsdp": fsdp, "pipe": 1, "tensor": tensor}
    tables = {"position": 0}
    layer = 0
    for path, shape in _shapes(model, vocabulary):
        here = prod(local_shape(leaf_spec(path), shape, mesh))
        name = str(path[0].key)
        if name == "blocks":
            layer += here
        else:
            tables[name] = tables.get(name, 0) + here
    return layer, tables


@lru_cache(maxsize=64)
def _shapes(model: ModelConfig, vocabulary: int) -> Iterable[tuple[tuple, tuple[int, ...]]]:
    """Tree path and shape of every leaf of a one-layer model."""
    one = replace(model, layers=1)
    params = jax.eval_shape(lambda: init(one, Layout(1, 1, vocabulary), jax.random.key(0)))  # starts no backend
    return [(path, leaf.shape) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]

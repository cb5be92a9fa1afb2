"""How a recipe scales: more replicas with more work (weak), or with the same work (strong)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxsci.core.errors import ConfigError
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.plan.hardware import Hardware
from jaxsci.transformer.plan.recipe import Recipe
from jaxsci.transformer.plan.time import rates, step_time


class Curve(NamedTuple):
    """Seconds per step on each number of `devices`, and throughput per device relative to the first."""

    devices: tuple[int, ...]
    seconds: Float[np.ndarray, " devices"]
    efficiency: Float[np.ndarray, " devices"]


def weak(model: ModelConfig, recipe: Recipe, hardware: Hardware, devices: Sequence[int]) -> Curve:
    """Every replica keeps its share of `recipe.batch`. Raises `ConfigError` for devices that do not make
    whole replicas.
    """
    each = recipe.batch // recipe.replicas
    return _curve(model, [_spread(recipe, n, lambda r: r * each) for n in devices], hardware)


def strong(model: ModelConfig, recipe: Recipe, hardware: Hardware, devices: Sequence[int]) -> Curve:
    """All replicas share the same `recipe.batch`, so more of them have fewer micro-batches each.

    Raises `ConfigError` for devices that do not make whole replicas, or replicas that do not share the batch.
    """
    return _curve(model, [_spread(recipe, n, lambda _: recipe.batch) for n in devices], hardware)


def _curve(model: ModelConfig, recipes: Sequence[Recipe], hardware: Hardware) -> Curve:
    seconds = np.array([float(step_time(model, r, rates(hardware, r)).total) for r in recipes])
    per_device = np.array([r.batch / r.devices for r in recipes]) / seconds
    return Curve(tuple(r.devices for r in recipes), seconds, per_device / per_device[0])


def _spread(recipe: Recipe, devices: int, batch) -> Recipe:
    """`recipe` on this many devices: the state stays split over `fsdp` where that divides the replicas."""
    group = recipe.pipe * recipe.tensor
    if devices % group:
        near = max(group, devices // group * group)
        raise ConfigError(
            f"devices: expected a multiple of pipe x tensor = {group}, got {devices}; the nearest is {near}"
        )
    replicas = devices // group
    fsdp = recipe.fsdp if replicas % recipe.fsdp == 0 else replicas
    return replace(recipe, data=replicas // fsdp, fsdp=fsdp, batch=batch(replicas))

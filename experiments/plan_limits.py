"""The least number of devices whose memory holds a model's state, whatever the mesh."""

from dataclasses import replace
from math import gcd
from typing import NamedTuple

from jaxsci.core.errors import ConfigError
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.plan.hardware import Hardware
from jaxsci.transformer.plan.memory import stage_parameters
from jaxsci.transformer.plan.recipe import POLICIES, Recipe

NAMES = ("pipe", "fsdp", "tensor")


class Least(NamedTuple):
    """Axis sizes of a mesh and the bytes of state per device on it."""

    pipe: int
    fsdp: int
    tensor: int
    bytes: float

    @property
    def devices(self) -> int:
        return self.pipe * self.fsdp * self.tensor


def least_devices(model: ModelConfig, recipe: Recipe, limit: float) -> Least | None:
    """The smallest mesh on which `limit` bytes per device hold the state, or None if there is none.

    Masters and moments are split over pipe, tensor and fsdp; weights and gradients while a step runs over pipe and
    tensor. Axes obey the rules of `parallel.check`; data only makes copies. Activations are left out: a bound.
    """
    policy = POLICIES[recipe.policy]
    once, shared = policy.weights + policy.gradients, policy.master + policy.copy + policy.moments
    best = None
    for tensor in _divisors(gcd(gcd(model.heads, model.groups), gcd(model.hidden, model.sequence))):
        for pipe in _depths(model.layers):
            here = replace(recipe, data=1, fsdp=1, pipe=pipe, tensor=tensor, virtual=1, batch=1, microbatch=1, zero=1)
            floor = once * float(stage_parameters(model, here, 1).max())
            if floor >= limit or (best and pipe * tensor >= best.devices):
                continue
            for fsdp in _divisors(model.width):
                size = floor + shared * float(stage_parameters(model, here, fsdp).max())
                if size <= limit:
                    found = Least(pipe, fsdp, tensor, size)
                    best = found if best is None or found.devices < best.devices else best
                    break
    return best


def refuse_too_large(model: ModelConfig, recipe: Recipe, hardware: Hardware) -> None:
    """Refuse a model whose state fits no mesh of as many devices as `recipe` has. Raises `ConfigError`."""
    least = least_devices(model, recipe, hardware.memory_bytes)
    memory = f"{hardware.memory_bytes / 1e9:.4g} GB of {hardware.title}"
    if least is None:
        raise ConfigError(f"model: its state does not fit into the {memory}, on any mesh; give a smaller model")
    if least.devices > recipe.devices:
        axes = " ".join(f"mesh.{name}={getattr(least, name)}" for name in NAMES)
        raise ConfigError(
            f"model: no mesh of {recipe.devices} devices holds its state in the {memory}; "
            f"it needs at least {least.devices} ({axes} mesh.data=1)"
        )


def _divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def _depths(layers: int) -> list[int]:
    """Numbers of stages that are the least for their layers per stage: others only pad."""
    return sorted({-(-layers // deep) for deep in range(1, layers + 1)})

"""What the image cells share: a stem, stages of cells with doubled channels, a mean over space and a linear head."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxsci.bayesnas.space.base import Space, init_dense
from jaxsci.bayesnas.space.convolution import convolve, group_norm, init_kernel, init_norm
from jaxsci.core.config import between, positive, require


@dataclass(frozen=True)
class StagedCells(Space):
    """`stages` stages of `cells` cells, `channels` doubled and the image halved from stage to stage by a strided
    convolution; `stem_stride=2` halves the image first. Normalisation is over `groups` of channels.
    """

    channels: int = 8
    cells: int = 1
    stages: int = 3
    groups: int = 4
    stem_stride: int = 1

    def __post_init__(self) -> None:
        positive(self, "cells")
        between(self, "stages", 1, 4)
        between(self, "stem_stride", 1, 4)
        sized = self.groups >= 1 and self.channels >= self.groups and self.channels % self.groups == 0
        require(sized, "channels", f"a multiple of groups={self.groups}", self.channels)

    def init_cell(self, channels: int, *, key: Key[Array, ""]) -> PyTree:
        """Fresh parameters of one cell."""
        raise NotImplementedError

    def init(self, inputs: tuple[int, ...], outputs: int, *, key: Key[Array, ""]) -> PyTree:
        stem, body, last = jax.random.split(key, 3)
        widths = [self.channels * 2**stage for stage in range(self.stages)]
        stages = []
        for number, width in enumerate(widths):
            keys = jax.random.split(jax.random.fold_in(body, number), self.cells + 1)
            stage = {"cells": [self.init_cell(width, key=k) for k in keys[:-1]]}
            if number:
                stage |= {
                    "reduce": init_kernel(3, width // 2, width, key=keys[-1]),
                    "reduce_norm": init_norm(width),
                }
            stages.append(stage)
        return {
            "stem": init_kernel(3, inputs[-1], self.channels, key=stem),
            "stem_norm": init_norm(self.channels),
            "stages": stages,
            "norm": init_norm(widths[-1]),
            "head": init_dense(widths[-1], outputs, key=last, gain=1.0),
        }

    def through(
        self, run: Callable[[list[PyTree], Array], Array], params: PyTree, x: Float[Array, "batch height width colours"]
    ) -> Float[Array, "batch features"]:
        """Stem to mean over space, with `run(cells, state)` for the cells of each stage."""
        state = group_norm(params["stem_norm"], convolve(x, params["stem"], self.stem_stride), self.groups)
        for stage in params["stages"]:
            if "reduce" in stage:
                reduced = convolve(jax.nn.relu(state), stage["reduce"], 2)
                state = group_norm(stage["reduce_norm"], reduced, self.groups)
            state = run(stage["cells"], state)
        return jnp.mean(jax.nn.relu(group_norm(params["norm"], state, self.groups)), axis=(1, 2))

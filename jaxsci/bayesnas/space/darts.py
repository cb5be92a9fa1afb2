"""A DARTS-like cell whose linear operations are merged into one 5 x 5 convolution per edge."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.bayesnas.space.convolution import (
    average_kernel,
    centred,
    convolve,
    dilated,
    group_norm,
    identity_kernel,
    init_kernel,
    init_norm,
)
from jaxsci.bayesnas.space.graph import all_edges, edge_names, reaches
from jaxsci.bayesnas.space.staged import StagedCells

NONE, MAX, AVERAGE, SKIP, SEPARABLE3, SEPARABLE5, DILATED3 = range(7)
INPUTS, NODES = 2, 6
EDGES = all_edges(NODES, INPUTS)
KERNEL = 5


@dataclass(frozen=True)
class DartsCell(StagedCells, kind="darts"):
    """Two input nodes, four inner nodes, 14 edges; the cell's output is a 1 x 1 convolution of all inner nodes.

    Operations: none, max and average pooling 3x3, skip, separable convolutions 3x3 and 5x5, dilated separable 3x3. A
    separable convolution without the ReLU between its halves is linear: its kernel is the product of the depthwise and
    the pointwise one, so all operations but max pooling merge. DARTS itself (arXiv:1806.09055) has that ReLU, applies
    each separable convolution twice, has an 8th operation (dilated 5x5) and searches a second cell for the reductions,
    which here are plain strided convolutions.
    """

    @property
    def ops(self) -> tuple[str, ...]:
        return ("none", "max_pool_3x3", "avg_pool_3x3", "skip", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3")

    @property
    def decision_names(self) -> tuple[str, ...]:
        return edge_names(EDGES)

    def init_cell(self, channels: int, *, key: Key[Array, ""]) -> PyTree:
        return _init_cell(channels, key=key)

    def features(
        self, params: PyTree, z: Float[Array, "decisions ops"], x: Float[Array, "batch height width colours"]
    ) -> Float[Array, "batch features"]:
        def run(cells: list[PyTree], state: Array) -> Array:
            before = state
            for cell in cells:
                before, state = state, _cell(cell, z, (before, state), self.groups)
            return state

        return self.through(run, params, x)

    def connected(self, choice: Int[np.ndarray, " decisions"]) -> bool:
        return reaches(choice, EDGES, NONE, tuple(range(INPUTS, NODES)))


def _init_cell(channels: int, *, key: Key[Array, ""]) -> PyTree:
    def separable(size: int, key: Key[Array, ""]) -> PyTree:
        deep, point = jax.random.split(key)
        return {
            "depthwise": jnp.sqrt(1.0 / size**2) * jax.random.normal(deep, (size, size, channels, 1)),
            "pointwise": init_kernel(1, channels, channels, key=point),
        }

    def edge(number: int) -> PyTree:
        keys = jax.random.split(jax.random.fold_in(key, number), 3)
        return {
            "separable3": separable(3, keys[0]),
            "separable5": separable(5, keys[1]),
            "dilated": separable(3, keys[2]),
        }

    return {
        "edges": [edge(number) for number in range(len(EDGES))],
        "norms": [init_norm(channels) for _ in range(NODES - INPUTS)],
        "join": init_kernel(1, (NODES - INPUTS) * channels, channels, key=jax.random.fold_in(key, len(EDGES))),
        "join_norm": init_norm(channels),
    }


def separable_kernel(params: PyTree) -> Float[Array, "k k channels channels"]:
    """Depthwise and pointwise convolution as one kernel."""
    return params["depthwise"] * params["pointwise"]


def merged_kernel(z: Float[Array, " ops"], params: PyTree, channels: int) -> Float[Array, "5 5 channels channels"]:
    """Every operation of an edge but max pooling as one kernel."""
    return (
        z[AVERAGE] * average_kernel(channels, KERNEL)
        + z[SKIP] * identity_kernel(channels, KERNEL)
        + z[SEPARABLE3] * centred(separable_kernel(params["separable3"]), KERNEL)
        + z[SEPARABLE5] * separable_kernel(params["separable5"])
        + z[DILATED3] * dilated(separable_kernel(params["dilated"]), 2)
    )


def max_pool(x: Float[Array, "batch height width channels"]) -> Float[Array, "batch height width channels"]:
    """The largest of each pixel's 3 x 3 neighbourhood, stride 1, same size."""
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")


def _cell(params: PyTree, z: Array, inputs: tuple[Array, Array], groups: int) -> Array:
    channels = inputs[0].shape[-1]
    states = list(inputs)
    for target in range(INPUTS, NODES):
        arriving = [(number, source) for number, (source, end) in enumerate(EDGES) if end == target]
        active = [jax.nn.relu(states[source]) for _, source in arriving]
        kernels = [merged_kernel(z[number], params["edges"][number], channels) for number, _ in arriving]
        total = convolve(jnp.concatenate(active, axis=-1), jnp.concatenate(kernels, axis=2))
        for (number, _), x in zip(arriving, active, strict=True):
            total += z[number, MAX] * max_pool(x)
        states.append(group_norm(params["norms"][target - INPUTS], total, groups))
    joined = convolve(jax.nn.relu(jnp.concatenate(states[INPUTS:], axis=-1)), params["join"])
    return group_norm(params["join_norm"], joined, groups)

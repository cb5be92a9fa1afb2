"""The NAS-Bench-201 cell as one merged convolution per node."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.bayesnas.space.convolution import (
    average_kernel,
    centred,
    convolve,
    group_norm,
    identity_kernel,
    init_kernel,
    init_norm,
)
from jaxsci.bayesnas.space.graph import all_edges, edge_names, reaches
from jaxsci.bayesnas.space.staged import StagedCells

NONE, SKIP, CONV1, CONV3, AVERAGE = range(5)
NODES = 4
EDGES = all_edges(NODES)


@dataclass(frozen=True)
class NasBench201Cell(StagedCells, kind="nasbench201"):
    """The cell of NAS-Bench-201 in a staged network.

    The five operations of NAS-Bench-201 (arXiv:2001.00326) are linear once ReLU stands before the edge and
    normalisation after the node, so a mixed edge is one 3x3 convolution with the kernel

        K(z) = z_skip δ + z_1x1 pad(k1) + z_3x3 k3 + z_avg 1/9,

    and the edges that leave a node are one convolution together. It differs from the benchmark's own network there: in
    that one BatchNorm belongs to each operation, skip and average pooling see no ReLU, and pooling divides by the
    pixels inside the border only. `stem_stride=2` halves the image first. Good values: channels 8 on CPU, 16 on a GPU,
    cells 1 and 5, groups 4.
    """

    @property
    def ops(self) -> tuple[str, ...]:
        return ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

    @property
    def decision_names(self) -> tuple[str, ...]:
        return edge_names(EDGES)

    def init_cell(self, channels: int, *, key: Key[Array, ""]) -> PyTree:
        return _init_cell(channels, key=key)

    def features(
        self, params: PyTree, z: Float[Array, "decisions ops"], x: Float[Array, "batch height width colours"]
    ) -> Float[Array, "batch features"]:
        return self.features_through(merged_cell, params, z, x)

    def features_through(
        self, cell, params: PyTree, z: Float[Array, "decisions ops"], x: Float[Array, "batch height width colours"]
    ) -> Float[Array, "batch features"]:
        """`features` with `cell(params, z, x, groups)` in place of the merged one, as `explicit` does."""

        def run(cells: list[PyTree], state: Array) -> Array:
            for one in cells:
                state = cell(one, z, state, self.groups)
            return state

        return self.through(run, params, x)

    def connected(self, choice: Int[np.ndarray, " decisions"]) -> bool:
        return reaches(choice, EDGES, NONE, (NODES - 1,))


def _init_cell(channels: int, *, key: Key[Array, ""]) -> PyTree:
    keys = jax.random.split(key, 2 * len(EDGES))
    return {
        "conv1": [init_kernel(1, channels, channels, key=k) for k in keys[: len(EDGES)]],
        "conv3": [init_kernel(3, channels, channels, key=k) for k in keys[len(EDGES) :]],
        "norms": [init_norm(channels) for _ in range(NODES - 1)],
    }


def merged_kernel(
    z: Float[Array, " ops"],
    conv1: Float[Array, "1 1 channels channels"],
    conv3: Float[Array, "3 3 channels channels"],
) -> Float[Array, "3 3 channels channels"]:
    """All five operations of an edge as one kernel."""
    channels = conv3.shape[-1]
    return (
        z[SKIP] * identity_kernel(channels, 3)
        + z[CONV1] * centred(conv1, 3)
        + z[CONV3] * conv3
        + z[AVERAGE] * average_kernel(channels, 3)
    )


def merged_cell(
    params: PyTree, z: Float[Array, "decisions ops"], x: Float[Array, "batch height width channels"], groups: int
) -> Float[Array, "batch height width channels"]:
    """One cell: three convolutions, each for all edges that leave a node."""
    position = {edge: number for number, edge in enumerate(EDGES)}
    into: list[list[Array]] = [[] for _ in range(NODES)]
    state = x
    for source in range(NODES - 1):
        if source:
            state = group_norm(params["norms"][source - 1], sum(into[source][1:], into[source][0]), groups)
        numbers = [position[source, target] for target in range(source + 1, NODES)]
        kernels = [merged_kernel(z[n], params["conv1"][n], params["conv3"][n]) for n in numbers]
        outputs = convolve(jax.nn.relu(state), jnp.concatenate(kernels, axis=-1))
        for target, part in zip(range(source + 1, NODES), jnp.split(outputs, len(kernels), axis=-1), strict=True):
            into[target].append(part)
    return group_norm(params["norms"][-1], sum(into[-1][1:], into[-1][0]), groups)

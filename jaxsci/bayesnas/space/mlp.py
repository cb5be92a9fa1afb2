"""A cell of dense layers on vectors: the small space in which whole studies fit a laptop."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.bayesnas.space.base import Space, head, init_dense
from jaxsci.bayesnas.space.graph import all_edges, edge_names, reaches
from jaxsci.core.config import between

NONE, SKIP, RELU, TANH, CENTRE = range(5)


@dataclass(frozen=True)
class MlpCell(Space, kind="mlp"):
    """Stem, one cell of `nodes` nodes of `width` units, linear head.

    Each edge takes its source to one of: nothing, itself, relu or tanh of a dense layer (one layer serves both), itself
    less its mean. A node is the sum over its edges. All edges that leave a node share one matrix product. Good values:
    nodes 4 (six edges, 15,625 architectures), width 32 to 128.
    """

    nodes: int = 4
    width: int = 48

    def __post_init__(self) -> None:
        between(self, "nodes", 2, 12)
        between(self, "width", 2, 4096)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        return all_edges(self.nodes)

    @property
    def ops(self) -> tuple[str, ...]:
        return ("none", "skip", "relu dense", "tanh dense", "centre")

    @property
    def decision_names(self) -> tuple[str, ...]:
        return edge_names(self.edges)

    def init(self, inputs: tuple[int, ...], outputs: int, *, key: Key[Array, ""]) -> PyTree:
        keys = jax.random.split(key, self.nodes + 1)
        fan_in = int(np.prod(inputs))
        return {
            "stem": init_dense(fan_in, self.width, key=keys[0]),
            "leaving": [
                init_dense(self.width, self.width * (self.nodes - 1 - node), key=keys[1 + node])
                for node in range(self.nodes - 1)
            ],
            "head": init_dense(self.width, outputs, key=keys[-1], gain=1.0),
        }

    def features(
        self, params: PyTree, z: Float[Array, "decisions ops"], x: Float[Array, "batch *inputs"]
    ) -> Float[Array, "batch width"]:
        position = {edge: number for number, edge in enumerate(self.edges)}
        flat = x.reshape(len(x), -1)
        states: list[Array] = [jax.nn.relu(head(params["stem"], flat))]
        into: list[list[Array]] = [[] for _ in range(self.nodes)]
        for source in range(self.nodes - 1):
            if source:
                states.append(sum(into[source][1:], into[source][0]))
            state = states[source]
            dense = jnp.split(head(params["leaving"][source], state), self.nodes - 1 - source, axis=-1)
            centred = state - jnp.mean(state, axis=-1, keepdims=True)
            for target in range(source + 1, self.nodes):
                weight, layer = z[position[source, target]], dense[target - source - 1]
                into[target].append(
                    weight[SKIP] * state
                    + weight[RELU] * jax.nn.relu(layer)
                    + weight[TANH] * jnp.tanh(layer)
                    + weight[CENTRE] * centred
                )
        return sum(into[-1][1:], into[-1][0])

    def connected(self, choice: Int[np.ndarray, " decisions"]) -> bool:
        return reaches(choice, self.edges, NONE, (self.nodes - 1,))

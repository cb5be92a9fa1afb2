"""Restarts alone: each chain is one trained network."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from jaxsci.bayesnas.weights.base import Info, Potential, Task, WeightPosterior, posterior_gradient, single
from jaxsci.core.config import between, positive


class SgdState(NamedTuple):
    """Weights, and the velocity of heavy-ball SGD."""

    params: PyTree
    velocity: PyTree


@dataclass(frozen=True)
class DeepEnsemble(WeightPosterior, kind="deep_ensemble"):
    """SGD with momentum 1 - `friction` down a cosine to a maximum of the posterior: the deterministic network.

    Deep Ensembles, arXiv:1612.01474. Good values: learning_rate 0.05 to 0.5 for dense networks, friction 0.1.
    """

    learning_rate: float = 0.1
    friction: float = 0.1
    samples: int = 1

    def __post_init__(self) -> None:
        positive(self, "learning_rate")
        between(self, "friction", 0.0, 1.0)
        between(self, "samples", 1, 1)

    def init(self, params: PyTree, task: Task, *, key: Key[Array, ""]) -> SgdState:
        return SgdState(params, jax.tree.map(jnp.zeros_like, params))

    def update(
        self, state: SgdState, step: Int[Array, ""], potential: Potential, task: Task, *, key: Key[Array, ""]
    ) -> tuple[SgdState, Info]:
        rate = 0.5 * self.learning_rate * (1 + jnp.cos(jnp.pi * step / task.steps))
        return descend(state, potential, task, rate, self.friction)

    def draws(self, state: SgdState, task: Task, *, key: Key[Array, ""]) -> PyTree:
        return single(state.params)


def descend(
    state: SgdState, potential: Potential, task: Task, rate: Array | float, friction: float
) -> tuple[SgdState, Info]:
    """v <- (1 - friction) v - rate * gradient; weights <- weights + v."""
    loss, gradient = posterior_gradient(state.params, potential, task)
    velocity = jax.tree.map(lambda v, g: (1 - friction) * v - rate * g, state.velocity, gradient)
    params = jax.tree.map(jnp.add, state.params, velocity)
    return SgdState(params, velocity), Info(loss, jnp.asarray(rate, loss.dtype))

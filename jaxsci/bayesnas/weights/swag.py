"""Stochastic weight averaging, Gaussian."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from jaxsci.bayesnas.weights.base import Info, Potential, Task, WeightPosterior, like_normal
from jaxsci.bayesnas.weights.deep_ensemble import SgdState, descend
from jaxsci.core.config import between, positive


class SwagState(NamedTuple):
    """The trained network and the running moments of its weights along the way."""

    sgd: SgdState
    mean: PyTree
    square: PyTree
    deviations: PyTree
    """(rank, ...): the newest weights less the mean at their time, oldest overwritten first."""
    collected: Int[Array, ""]


@dataclass(frozen=True)
class Swag(WeightPosterior, kind="swag"):
    """SGD down a cosine to `swag_rate` for the first half, constant from there; a Gaussian of the weights passed.

    Its covariance is half the diagonal of the collected weights and half their last `rank` deviations (Maddox et al.,
    arXiv:1902.02476, eq. 1). Good values: rank 20, swag_rate a tenth to a half of learning_rate.
    """

    learning_rate: float = 0.1
    swag_rate: float = 0.02
    friction: float = 0.1
    rank: int = 20
    every: int = 10
    samples: int = 10

    def __post_init__(self) -> None:
        positive(self, "learning_rate", "swag_rate", "every", "samples")
        between(self, "friction", 0.0, 1.0)
        between(self, "rank", 2, 1000)

    def init(self, params: PyTree, task: Task, *, key: Key[Array, ""]) -> SwagState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        stack = jax.tree.map(lambda leaf: jnp.zeros((self.rank, *leaf.shape), leaf.dtype), params)
        return SwagState(SgdState(params, zeros), zeros, zeros, stack, jnp.int32(0))

    def update(
        self, state: SwagState, step: Int[Array, ""], potential: Potential, task: Task, *, key: Key[Array, ""]
    ) -> tuple[SwagState, Info]:
        begin = task.steps // 2
        fraction = jnp.minimum(step / begin, 1.0)
        rate = self.swag_rate + 0.5 * (self.learning_rate - self.swag_rate) * (1 + jnp.cos(jnp.pi * fraction))
        sgd, info = descend(state.sgd, potential, task, rate, self.friction)
        due = (step >= begin) & ((step + 1) % self.every == 0)
        n = state.collected
        mean = jax.tree.map(lambda m, p: jnp.where(due, (n * m + p) / (n + 1), m), state.mean, sgd.params)
        square = jax.tree.map(lambda s, p: jnp.where(due, (n * s + p**2) / (n + 1), s), state.square, sgd.params)
        deviations = jax.tree.map(
            lambda d, p, m: d.at[n % self.rank].set(jnp.where(due, p - m, d[n % self.rank])),
            state.deviations,
            sgd.params,
            mean,
        )
        return SwagState(sgd, mean, square, deviations, n + due), info

    def draws(self, state: SwagState, task: Task, *, key: Key[Array, ""]) -> PyTree:
        used = jnp.clip(jnp.minimum(state.collected, self.rank), 2)

        def draw(key: Key[Array, ""]) -> PyTree:
            diagonal, low = jax.random.split(key)
            z = jax.random.normal(low, (self.rank,))
            return jax.tree.map(
                lambda m, s, d, e: (
                    m
                    + jnp.sqrt(jnp.maximum(s - m**2, 0) / 2) * e
                    + jnp.tensordot(z.astype(d.dtype), d, axes=1) / jnp.sqrt(2.0 * (used - 1))
                ),
                state.mean,
                state.square,
                state.deviations,
                like_normal(state.mean, key=diagonal),
            )

        return jax.lax.map(draw, jax.random.split(key, self.samples))

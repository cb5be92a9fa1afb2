"""The interface that every way of inferring weights has, and what it is told about the problem."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.core.config import Choice

Potential = Callable[[PyTree], Float[Array, ""]]  # weights -> mean negative log-likelihood of a batch


class Task(NamedTuple):
    """What the mathematics needs to know of data and run; static under `jit`."""

    count: int
    """Likelihood terms in the whole training set: scales the prior against the mean over a batch."""
    steps: int
    """Updates in all: the course of learning rates, cycles and annealing."""
    prior_std: float = 1.0
    """Weights are N(0, prior_std^2) a priori. Weight decay d of SGD is prior_std = 1 / sqrt(d * count)."""


class FullData(NamedTuple):
    """For methods that end with a pass over the training set."""

    potential: Potential
    """Mean over the whole training set."""
    features: Callable[[PyTree], Float[Array, "data width"]]
    """What the linear head sees, for every training input."""
    labels: Int[Array, " data"] | Float[Array, " data"]


class Info(NamedTuple):
    """What one update reports."""

    loss: Float[Array, ""]
    """Mean negative log-likelihood of the batch at the weights before the update."""
    learning_rate: Float[Array, ""]


class WeightPosterior(Choice):
    """A frozen config with pure functions. A chain is `init`, then `task.steps` times `update`, `finish`, `draws`.

    States are pytrees of arrays, so chains of many architectures and restarts advance together under `vmap`.
    """

    samples: int

    def check_steps(self, steps: int) -> None:
        """Raise `ConfigError` where a chain of this many updates is none of the method's."""

    def init(self, params: PyTree, task: Task, *, key: Key[Array, ""]) -> Any:
        """The state before the first update, from freshly initialised weights."""
        raise NotImplementedError

    def update(
        self, state: Any, step: Int[Array, ""], potential: Potential, task: Task, *, key: Key[Array, ""]
    ) -> tuple[Any, Info]:
        """Update number `step` (from 0); `potential` is the batch's mean negative log-likelihood of the weights.

        The step is no part of the state: chains that advance together share it, and what depends on it alone stays one
        branch under `vmap`.
        """
        raise NotImplementedError

    def finish(self, state: Any, data: FullData, task: Task, *, key: Key[Array, ""]) -> Any:
        """What is done once, after the last update."""
        return state

    def draws(self, state: Any, task: Task, *, key: Key[Array, ""]) -> PyTree:
        """`samples` sets of weights, stacked along a new leading axis."""
        raise NotImplementedError


def prior_potential(params: PyTree, task: Task) -> Float[Array, ""]:
    """Negative log prior on the scale of a mean over the training set, without its constant."""
    squares = jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params)]).sum()
    return squares / (2 * task.prior_std**2 * task.count)


def posterior_gradient(params: PyTree, potential: Potential, task: Task) -> tuple[Float[Array, ""], PyTree]:
    """Batch loss without the prior, and the gradient with it."""

    def total(params: PyTree) -> tuple[Array, Array]:
        loss = potential(params)
        return loss + prior_potential(params, task), loss

    (_, loss), gradient = jax.value_and_grad(total, has_aux=True)(params)
    return loss, gradient


def like_normal(params: PyTree, *, key: Key[Array, ""]) -> PyTree:
    """Independent standard normal numbers in the shape of `params`."""
    leaves, tree = jax.tree.flatten(params)
    total = sum(leaf.size for leaf in leaves)
    flat = jax.random.normal(key, (total,), leaves[0].dtype)  # one call: many small ones cost more than the numbers
    pieces, at = [], 0
    for leaf in leaves:
        pieces.append(flat[at : at + leaf.size].reshape(leaf.shape))
        at += leaf.size
    return jax.tree.unflatten(tree, pieces)


def single(params: PyTree) -> PyTree:
    """One set of weights as a stack of one."""
    return jax.tree.map(lambda leaf: leaf[None], params)

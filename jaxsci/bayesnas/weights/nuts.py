"""Hamiltonian Monte Carlo without U-turns, for networks small enough to serve as the reference."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int, Key, PyTree
from numpyro.infer import MCMC, NUTS

from jaxsci.bayesnas.weights.base import FullData, Info, Potential, Task, WeightPosterior, prior_potential
from jaxsci.bayesnas.weights.deep_ensemble import DeepEnsemble, SgdState
from jaxsci.core.config import between, positive


class NutsState(NamedTuple):
    """The trained start of the chain, and its samples."""

    sgd: SgdState
    chain: PyTree
    """(samples, ...) weights; copies of the start before `finish`."""


@dataclass(frozen=True)
class Nuts(WeightPosterior, kind="nuts"):
    """Descends by SGD, then runs NUTS (arXiv:1111.4246, numpyro) on the whole training set, at temperature 1.

    Every sample costs up to 2^max_tree_depth gradients of the full data: for digits-size networks only.
    """

    learning_rate: float = 0.1
    friction: float = 0.1
    warmup: int = 100
    samples: int = 100
    max_tree_depth: int = 8

    def __post_init__(self) -> None:
        positive(self, "learning_rate", "warmup", "samples")
        between(self, "friction", 0.0, 1.0)
        between(self, "max_tree_depth", 1, 12)

    def _descent(self) -> DeepEnsemble:
        return DeepEnsemble(self.learning_rate, self.friction)

    def init(self, params: PyTree, task: Task, *, key: Key[Array, ""]) -> NutsState:
        chain = jax.tree.map(lambda leaf: jax.numpy.broadcast_to(leaf, (self.samples, *leaf.shape)), params)
        return NutsState(self._descent().init(params, task, key=key), chain)

    def update(
        self, state: NutsState, step: Int[Array, ""], potential: Potential, task: Task, *, key: Key[Array, ""]
    ) -> tuple[NutsState, Info]:
        sgd, info = self._descent().update(state.sgd, step, potential, task, key=key)
        return state._replace(sgd=sgd), info

    def finish(self, state: NutsState, data: FullData, task: Task, *, key: Key[Array, ""]) -> NutsState:
        flat, unravel = ravel_pytree(state.sgd.params)

        def energy(weights: Array) -> Array:
            params = unravel(weights)
            return task.count * (data.potential(params) + prior_potential(params, task))

        kernel = NUTS(potential_fn=energy, max_tree_depth=self.max_tree_depth)
        run = MCMC(kernel, num_warmup=self.warmup, num_samples=self.samples, progress_bar=False)
        run.run(key, init_params=flat)
        return state._replace(chain=jax.vmap(unravel)(run.get_samples()))

    def draws(self, state: NutsState, task: Task, *, key: Key[Array, ""]) -> PyTree:
        return state.chain

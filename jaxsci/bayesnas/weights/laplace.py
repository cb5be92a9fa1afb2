"""A Gaussian around the trained head: the last-layer Laplace approximation, for classifiers."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.bayesnas.weights.base import FullData, Info, Potential, Task, WeightPosterior
from jaxsci.bayesnas.weights.deep_ensemble import DeepEnsemble, SgdState
from jaxsci.core.config import between, positive


class LaplaceState(NamedTuple):
    """The trained network, and the spread of its last layer."""

    sgd: SgdState
    root: Float[Array, "size size"]
    """Inverse transposed Cholesky factor of the head's posterior precision; identity before `finish`."""


@dataclass(frozen=True)
class LastLayerLaplace(WeightPosterior, kind="laplace"):
    """Trains like `deep_ensemble`, then takes the head's weights as Gaussian with the Gauss-Newton precision.

        precision = I / prior_std^2 + sum over data of (diag p - p p') (x) (f f'),   f the features and a one

    MacKay 1992, doi:10.1162/neco.1992.4.3.448; Daxberger et al., arXiv:2106.14806. The precision has
    ((width + 1) classes)^2 entries: meant for heads of up to a few thousand weights.
    """

    learning_rate: float = 0.1
    friction: float = 0.1
    samples: int = 10

    def __post_init__(self) -> None:
        positive(self, "learning_rate", "samples")
        between(self, "friction", 0.0, 1.0)

    def _descent(self) -> DeepEnsemble:
        return DeepEnsemble(self.learning_rate, self.friction)

    def init(self, params: PyTree, task: Task, *, key: Key[Array, ""]) -> LaplaceState:
        return LaplaceState(self._descent().init(params, task, key=key), jnp.eye(_size(params)))

    def update(
        self, state: LaplaceState, step: Int[Array, ""], potential: Potential, task: Task, *, key: Key[Array, ""]
    ) -> tuple[LaplaceState, Info]:
        sgd, info = self._descent().update(state.sgd, step, potential, task, key=key)
        return state._replace(sgd=sgd), info

    def finish(self, state: LaplaceState, data: FullData, task: Task, *, key: Key[Array, ""]) -> LaplaceState:
        params = state.sgd.params
        precision = head_precision(params["head"], data.features(params), task)
        lower = jnp.linalg.cholesky(precision)
        root = jax.scipy.linalg.solve_triangular(lower, jnp.eye(len(lower)), lower=True).T
        return state._replace(root=root)

    def draws(self, state: LaplaceState, task: Task, *, key: Key[Array, ""]) -> PyTree:
        params = state.sgd.params
        width, classes = params["head"]["weight"].shape
        noise = jax.random.normal(key, (self.samples, len(state.root))) @ state.root.T
        shifts = noise.reshape(self.samples, width + 1, classes)
        drawn = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.samples, *leaf.shape)), params)
        head = {"weight": params["head"]["weight"] + shifts[:, :-1], "bias": params["head"]["bias"] + shifts[:, -1]}
        return {**drawn, "head": head}


def _size(params: PyTree) -> int:
    width, classes = params["head"]["weight"].shape
    return (width + 1) * classes


def head_precision(head: PyTree, features: Float[Array, "data width"], task: Task) -> Float[Array, "size size"]:
    """Posterior precision of (weight rows, then bias), each row over classes."""
    p = jax.nn.softmax(features @ head["weight"] + head["bias"])
    extended = jnp.concatenate([features, jnp.ones((len(features), 1), features.dtype)], axis=1)
    fisher = jax.vmap(jnp.diag)(p) - p[:, :, None] * p[:, None, :]
    # Pairs of (feature, class): a matrix product instead of a four-index sum keeps the memory at data x size.
    products = jnp.einsum("ni,nab->niab", extended, fisher)
    curvature = jnp.einsum("niab,nj->iajb", products, extended)
    size = extended.shape[1] * p.shape[1]
    return curvature.reshape(size, size) + jnp.eye(size) / task.prior_std**2

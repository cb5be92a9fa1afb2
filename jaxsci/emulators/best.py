"""Which parameters to keep: those of the smallest validation loss so far."""

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree


class Best(NamedTuple):
    """The best parameters so far, and how long ago they were found."""

    loss: float
    params: PyTree
    """Copies on the host: training donates its own buffers."""
    evaluation: int
    """Number of the evaluation they come from; 0 is before training."""
    waited: int
    """Evaluations since then."""

    @classmethod
    def first(cls, loss: float, params: PyTree) -> "Best":
        return cls(loss, jax.tree.map(np.array, params), 0, 0)

    def with_candidate(self, loss: float, params: PyTree) -> "Best":
        if loss < self.loss:
            return Best(loss, jax.tree.map(np.array, params), self.evaluation + self.waited + 1, 0)
        return self._replace(waited=self.waited + 1)

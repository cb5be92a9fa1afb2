"""Any network as a space without decisions, so that whatever trains ensembles trains ensembles of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.bayesnas.space.base import Space


@dataclass(frozen=True)
class Network(Space):
    """`build(inputs, outputs, key=...)` makes parameters, `forward(params, x)` maps a batch to outputs.

    `z` has no rows and one operation. Both functions must be hashable by identity (plain functions are), as a space is
    a static argument of compiled programs. It ends in no linear head of ours, so last-layer Laplace does not apply.
    """

    build: Callable[..., PyTree]
    forward: Callable[[PyTree, Array], Array]

    @property
    def ops(self) -> tuple[str, ...]:
        return ("fixed",)

    @property
    def decision_names(self) -> tuple[str, ...]:
        return ()

    def init(self, inputs: tuple[int, ...], outputs: int, *, key: Key[Array, ""]) -> PyTree:
        return self.build(inputs, outputs, key=key)

    def features(
        self, params: PyTree, z: Float[Array, "decisions ops"], x: Float[Array, "batch *inputs"]
    ) -> Float[Array, "batch outputs"]:
        return self.forward(params, x)

    def apply(
        self, params: PyTree, z: Float[Array, "decisions ops"], x: Float[Array, "batch *inputs"]
    ) -> Float[Array, "batch outputs"]:
        return self.forward(params, x)

    def connected(self, choice: Int[np.ndarray, " decisions"]) -> bool:
        return True

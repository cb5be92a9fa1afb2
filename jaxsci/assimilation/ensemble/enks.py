"""The ensemble Kalman smoother: what the newest observation says about the states of the last cycles."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.assimilation.ensemble.etkf import spectrum, transform
from jaxsci.assimilation.ensemble.members import (
    EnsembleSettings,
    first_members,
    innovation_fit,
    observe_members,
    spread,
)
from jaxsci.assimilation.ensemble.rotation import mean_preserving_rotation
from jaxsci.assimilation.problem import Algorithm, Analysis, Method, Problem
from jaxsci.core.config import between


class History(NamedTuple):
    """The members of the last cycles."""

    members: Float[Array, "cycles members n"]
    """Newest cycle first; before the first observation all are the first ensemble."""


@dataclass(frozen=True)
class EnKS(EnsembleSettings, Method, kind="enks"):
    """The ETKF, whose transform is applied to the ensembles of the last `lag` cycles too.

    Rotation turns all of them alike, so that they stay correlated; inflation and relaxation touch the newest only.
    Source: Evensen and van Leeuwen 2000, Mon. Wea. Rev. 128, 1852-1867.
    """

    lag: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        between(self, "lag", 1, 1000)

    def build(self, problem: Problem) -> Algorithm:
        unturned = replace(self, rotate=False)

        def init(key: PRNGKeyArray) -> History:
            first = first_members(problem, self.size, key=key)
            return History(jnp.broadcast_to(first, (self.lag + 1, *first.shape)))

        def update(state: History, observation: Array, key: PRNGKeyArray) -> tuple[History, Analysis]:
            forecast = jax.vmap(problem.forecast)(state.members[0])
            observed, departure = observe_members(problem, forecast, observation)
            weights, turn = transform(spectrum(observed, departure))
            known = jnp.concatenate([forecast[None], state.members[:-1]])
            mean = jnp.mean(known, axis=1, keepdims=True)
            if self.rotate:
                turn = mean_preserving_rotation(self.size, key=key) @ turn
            known = mean + (weights + turn) @ (known - mean)
            newest = unturned.after_analysis(known[0], forecast, key=key)
            info = Analysis(
                jnp.mean(newest, axis=0),
                spread(newest),
                jnp.mean(forecast, axis=0),
                spread(forecast),
                innovation_fit(observed, departure, observation),
                jnp.mean(known[-1], axis=0),
                newest,
            )
            return History(known.at[0].set(newest)), info

        return Algorithm(init, update, self.lag)

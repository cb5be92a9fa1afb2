"""4DEnVar: a window of observations assimilated through ensemble trajectories, without a tangent model; and hybrids."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.assimilation.ensemble.etkf import spectrum, transform
from jaxsci.assimilation.ensemble.members import (
    EnsembleSettings,
    centre,
    first_members,
    innovation_fit,
    observe_members,
    spread,
)
from jaxsci.assimilation.problem import Algorithm, Analysis, Method, Problem
from jaxsci.core.config import between, positive


class Gathering(NamedTuple):
    """What 4DEnVar has gathered of its window so far. Departures are observations less the observed mean, whitened by
    R.
    """

    members: Float[Array, "members n"]
    observed: Float[Array, "lag members stations"]
    """Whitened anomalies of the observed members at each cycle of the window, as far as it has come."""
    operators: Float[Array, "lag stations n"]
    departures: Float[Array, "lag stations"]
    count: Int[Array, ""]
    """Cycles of the window gathered so far."""


@dataclass(frozen=True)
class EnVar(EnsembleSettings, Method, kind="envar"):
    """Back-to-back windows of `lag` cycles; all their observations make one analysis, at the window's end.

    The mean minimises the 4DEnVar cost with the prior covariance `(1 - hybrid) P + hybrid scale B_climate`; the
    climatological part is constant over the window. The anomalies take the ETKF's transform. Between analyses the
    estimate is the forecast. Source: Liu, Xiao and Wang 2008, Mon. Wea. Rev. 136, 3363-3373; Hamill and Snyder 2000,
    Mon. Wea. Rev. 128, 2905-2919; Lorenc et al. 2015, Mon. Wea. Rev. 143, 212-229.
    """

    lag: int = 1
    hybrid: float = 0.0
    scale: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        between(self, "lag", 1, 1000)
        between(self, "hybrid", 0.0, 1.0)
        positive(self, "scale")

    def build(self, problem: Problem) -> Algorithm:
        root = jnp.sqrt(self.hybrid * self.scale) * problem.climate.root
        members_part = jnp.sqrt((1 - self.hybrid) / (self.size - 1))

        def init(key: PRNGKeyArray) -> Gathering:
            members = first_members(problem, self.size, key=key)
            stations, n = len(problem.noise), members.shape[1]
            return Gathering(
                members,
                jnp.zeros((self.lag, self.size, stations), members.dtype),
                jnp.zeros((self.lag, stations, n), members.dtype),
                jnp.zeros((self.lag, stations), members.dtype),
                jnp.asarray(0, jnp.int32),
            )

        def analyse(gathered: Gathering) -> Array:
            mean, anomalies = centre(gathered.members)
            stack = jnp.concatenate(list(gathered.observed), axis=1)
            departure = gathered.departures.reshape(-1)
            operators = gathered.operators.reshape(len(departure), -1)
            basis = jnp.concatenate([members_part * anomalies, root.T])  # rows: increments per unit of control
            seen = jnp.concatenate([members_part * stack, (operators @ root).T])
            hessian = seen @ seen.T + jnp.eye(len(seen), dtype=seen.dtype)
            control = jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(hessian), seen @ departure)
            _, turn = transform(spectrum(stack, departure))
            return mean + control @ basis + turn @ anomalies

        def update(state: Gathering, observation: Array, key: PRNGKeyArray) -> tuple[Gathering, Analysis]:
            forecast = jax.vmap(problem.forecast)(state.members)
            observed, departure = observe_members(problem, forecast, observation)
            _, operator = problem.linearise(jnp.mean(forecast, axis=0), observation)
            gathered = Gathering(
                forecast,
                state.observed.at[state.count].set(observed),
                state.operators.at[state.count].set(operator),
                state.departures.at[state.count].set(departure),
                (state.count + 1) % self.lag,
            )
            members = lax.cond(
                gathered.count == 0,
                lambda g: self.after_analysis(analyse(g), forecast, key=key),
                lambda g: g.members,
                gathered,
            )
            info = Analysis(
                jnp.mean(members, axis=0),
                spread(members),
                jnp.mean(forecast, axis=0),
                spread(forecast),
                innovation_fit(observed, departure, observation),
                jnp.mean(members, axis=0),
                members,
            )
            return gathered._replace(members=members), info

        return Algorithm(init, update)

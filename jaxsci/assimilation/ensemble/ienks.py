"""The iterative ensemble Kalman smoother: Gauss-Newton on a sliding window, the ensemble in place of the tangent."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.assimilation.ensemble.enkf_n import hyperprior
from jaxsci.assimilation.ensemble.members import (
    EnsembleSettings,
    centre,
    first_members,
    innovation_fit,
    observe_members,
    spread,
)
from jaxsci.assimilation.problem import Algorithm, Analysis, Method, Problem
from jaxsci.assimilation.sliding import Sliding, slide, window_end
from jaxsci.core.config import between, positive


class _Iterate(NamedTuple):
    weights: Float[Array, " members"]
    """w: the mean at the window's start is `x0 + w X0`."""
    turn: Float[Array, "members members"]
    """T: the anomalies there are `T X0`."""
    back: Float[Array, "members members"]
    """The inverse of T."""
    change: Float[Array, "members members"]
    """What the last step added to `w + T`."""
    end: Float[Array, "members n"]
    """The members at the window's end before that step."""


@dataclass(frozen=True)
class IEnKS(EnsembleSettings, Method, kind="ienks"):
    """DAPPER's iEnKS 'Sqrt' over a window of `lag` cycles, `iterations` Gauss-Newton steps each.

    `certainty` (DAPPER's xN) puts the EnKF-N's prior in place of inflation; null leaves it out. With `annealed` the
    iterations assimilate the observation in equal parts instead (multiple data assimilation, Emerick and Reynolds
    2013). Source: Bocquet and Sakov 2014, Q. J. R. Meteorol. Soc. 140, 1521-1535.
    """

    lag: int = 1
    iterations: int = 10
    certainty: float | None = None
    annealed: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        between(self, "lag", 1, 1000)
        positive(self, "iterations", "certainty")

    def build(self, problem: Problem) -> Algorithm:
        less, identity = self.size - 1, jnp.eye(self.size, dtype=problem.start.root.dtype)
        forecast = jax.vmap(problem.forecast)

        def init(key: PRNGKeyArray) -> Sliding:
            return Sliding(first_members(problem, self.size, key=key), jnp.asarray(1, jnp.int32))

        def prior_precision(values: Array, weights: Array) -> Array | float:
            if self.certainty is None:
                return float(less)
            e, c = hyperprior(values, self.certainty)
            return less * c / (e + weights @ weights)

        def update(state: Sliding, observation: Array, key: PRNGKeyArray) -> tuple[Sliding, Analysis]:
            mean, anomalies = centre(state.start)

            def iterate(_: Any, it: _Iterate) -> _Iterate:
                end = window_end(forecast, mean + (it.weights + it.turn) @ anomalies, state.length)
                observed, departure = observe_members(problem, end, observation)
                observed = it.back @ observed
                values, vectors = jnp.linalg.eigh(observed @ observed.T)
                values = jnp.maximum(values, 0.0)
                precision = prior_precision(values, it.weights)
                if self.annealed:
                    precision = self.iterations * precision
                    turn = (vectors * jnp.sqrt(precision / (values + precision))) @ vectors.T @ it.turn
                    step = (vectors / (values + precision)) @ (vectors.T @ (observed @ departure)) @ it.turn
                    back = identity  # the members are the prior of the next part; nothing is to be undone
                else:
                    gradient = observed @ departure - it.weights * precision
                    step = (vectors / (values + precision)) @ (vectors.T @ gradient)
                    turn = (vectors * jnp.sqrt(less / (values + precision))) @ vectors.T
                    back = (vectors * jnp.sqrt((values + precision) / less)) @ vectors.T
                return _Iterate(it.weights + step, turn, back, step + turn - it.turn, end)

            zero = jnp.zeros_like(identity[0])
            start = _Iterate(zero, identity, identity, 0 * identity, state.start)
            first = iterate(0, start)
            last = lax.fori_loop(1, self.iterations, iterate, first)
            analysis = last.end + last.change @ centre(first.end)[1]
            smoothed = mean + (last.weights + last.turn) @ anomalies
            settled = self.after_analysis(smoothed, state.start, key=key)
            info = Analysis(
                jnp.mean(analysis, axis=0),
                spread(analysis),
                jnp.mean(first.end, axis=0),
                spread(first.end),
                innovation_fit(*observe_members(problem, first.end, observation), observation),
                jnp.mean(smoothed, axis=0),
                analysis,
            )
            return slide(forecast, Sliding(settled, state.length), self.lag), info

        return Algorithm(init, update, self.lag)

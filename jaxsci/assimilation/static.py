"""Methods with a covariance that never changes: climatology, optimal interpolation, cycled 3D-Var."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.assimilation.kalman import Gaussian, best_linear_estimate, gaussian_analysis
from jaxsci.assimilation.problem import Algorithm, Analysis, Method, Problem
from jaxsci.core.config import positive


class Carried(NamedTuple):
    """The state of a method whose covariance never changes: the analysis mean."""

    mean: Float[Array, " n"]


@dataclass(frozen=True)
class Climatology(Method, kind="climatology"):
    """The climatological mean at every time; what every other method must beat."""

    def build(self, problem: Problem) -> Algorithm:
        climate = _gaussian(problem, 1.0)

        def init(key: PRNGKeyArray) -> Carried:
            return Carried(climate.mean)

        def update(state: Carried, observation: Array, key: PRNGKeyArray) -> tuple[Carried, Analysis]:
            _, fit = best_linear_estimate(climate, problem, observation)
            return state, gaussian_analysis(climate, climate, fit)

        return Algorithm(init, update)


@dataclass(frozen=True)
class OptimalInterpolation(Method, kind="oi"):
    """Each observation on its own, from the climatological mean and covariance (Gandin 1965)."""

    def build(self, problem: Problem) -> Algorithm:
        climate = _gaussian(problem, 1.0)

        def init(key: PRNGKeyArray) -> Carried:
            return Carried(climate.mean)

        def update(state: Carried, observation: Array, key: PRNGKeyArray) -> tuple[Carried, Analysis]:
            analysis, fit = best_linear_estimate(climate, problem, observation)
            return Carried(analysis.mean), gaussian_analysis(climate, analysis, fit)

        return Algorithm(init, update)


@dataclass(frozen=True)
class ThreeDVar(Method, kind="3dvar"):
    """The background is the forecast, its covariance `scale` times the climatological one (DAPPER's xB)."""

    scale: float = 0.02

    def __post_init__(self) -> None:
        positive(self, "scale")

    def build(self, problem: Problem) -> Algorithm:
        covariance = _gaussian(problem, self.scale).covariance

        def init(key: PRNGKeyArray) -> Carried:
            return Carried(problem.start.mean)

        def update(state: Carried, observation: Array, key: PRNGKeyArray) -> tuple[Carried, Analysis]:
            forecast = Gaussian(problem.forecast(state.mean), covariance)
            analysis, fit = best_linear_estimate(forecast, problem, observation)
            return Carried(analysis.mean), gaussian_analysis(forecast, analysis, fit)

        return Algorithm(init, update)


def _gaussian(problem: Problem, scale: float) -> Gaussian:
    climate = problem.climate
    return Gaussian(jnp.asarray(climate.mean), scale * climate.root @ climate.root.T)

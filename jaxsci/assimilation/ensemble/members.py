"""What the ensemble methods share: first members, the cycle of forecast and analysis, what follows the analysis."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.assimilation.ensemble.inflation import relax_to_prior_perturbations, relax_to_prior_spread
from jaxsci.assimilation.ensemble.rotation import mean_preserving_rotation
from jaxsci.assimilation.inverse_factor import inverse_factor
from jaxsci.assimilation.problem import Algorithm, Analysis, Problem, per_observation, root_mean
from jaxsci.core.config import between, positive

Members = Float[Array, "members n"]
Whitened = Float[Array, "members stations"]
Analyse = Callable[[Members, Whitened, Float[Array, " stations"], PRNGKeyArray], Members]


class Ensemble(NamedTuple):
    """The state of an ensemble filter: (members, n)."""

    members: Members


@dataclass(frozen=True)
class EnsembleSettings:
    """`size` counts the members; the rest is what is done to their anomalies after each analysis, in this order.

    `rtpp`, `rtps` relax them to those of the forecast (0 to 1), `inflation` multiplies them (the covariance gets its
    square), `rotate` turns them by a random rotation that keeps the mean.
    """

    size: int = 20
    inflation: float = 1.0
    rotate: bool = False
    rtpp: float = 0.0
    rtps: float = 0.0

    def __post_init__(self) -> None:
        between(self, "size", 2, 10**7)
        positive(self, "inflation")
        between(self, "rtpp", 0.0, 1.0)
        between(self, "rtps", 0.0, 1.0)

    def after_analysis(self, analysis: Members, forecast: Members, *, key: PRNGKeyArray) -> Members:
        """Relaxation, inflation and rotation of the anomalies; the mean stays."""
        mean, anomalies = centre(analysis)
        if self.rtpp:
            anomalies = relax_to_prior_perturbations(anomalies, centre(forecast)[1], self.rtpp)
        if self.rtps:
            anomalies = relax_to_prior_spread(anomalies, centre(forecast)[1], self.rtps)
        if self.rotate:
            anomalies = mean_preserving_rotation(self.size, key=key) @ anomalies
        return mean + self.inflation * anomalies


def centre(members: Float[Array, "members n"]) -> tuple[Float[Array, " n"], Float[Array, "members n"]]:
    """Mean and anomalies."""
    mean = jnp.mean(members, axis=0)
    return mean, members - mean


def spread(members: Members) -> Float[Array, ""]:
    """Root of the mean variance over the variables."""
    return root_mean(jnp.var(members, axis=0, ddof=1))


def first_members(problem: Problem, count: int, *, key: PRNGKeyArray) -> Members:
    """Independent draws from `problem.start`."""
    root = problem.start.root
    return problem.start.mean + jax.random.normal(key, (count, root.shape[1]), root.dtype) @ root.T


def observe_members(
    problem: Problem, members: Members, observation: Float[Array, " stations"]
) -> tuple[Whitened, Float[Array, " stations"]]:
    """Anomalies of the observed members, and the departure of the observation from their mean, both whitened."""
    mean, anomalies = centre(jax.vmap(problem.operator)(members))
    return problem.whiten(observation, anomalies), problem.whiten(observation, observation - mean)


def innovation_factor(observed: Whitened) -> Float[Array, "stations stations"]:
    """`W` with `W' W = (Y'Y + (N-1) I)^{-1}`: the inverse of N-1 times the covariance of the departure."""
    identity = jnp.eye(observed.shape[1], dtype=observed.dtype)
    return inverse_factor(observed.T @ observed + (len(observed) - 1) * identity)


def innovation_fit(
    observed: Whitened, departure: Float[Array, " stations"], observation: Float[Array, " stations"]
) -> Float[Array, ""]:
    """Twice the least cost of a linear Gaussian analysis, `d' (Y'Y / (N-1) + I)^{-1} d`, per observation."""
    used = innovation_factor(observed) @ departure
    return per_observation((len(observed) - 1) * used @ used, observation)


def ensemble_filter(problem: Problem, settings: EnsembleSettings, analyse: Analyse) -> Algorithm:
    """The cycle all ensemble filters share: forecast the members, observe them, `analyse`, inflate, rotate.

    `analyse(members, observed, departure, key)` returns the analysed members; `observed` and `departure` come from
    `observe_members`.
    """

    def init(key: PRNGKeyArray) -> Ensemble:
        return Ensemble(first_members(problem, settings.size, key=key))

    def update(state: Ensemble, observation: Array, key: PRNGKeyArray) -> tuple[Ensemble, Analysis]:
        during, after = jax.random.split(key)
        forecast = jax.vmap(problem.forecast)(state.members)
        observed, departure = observe_members(problem, forecast, observation)
        analysis = settings.after_analysis(analyse(forecast, observed, departure, during), forecast, key=after)
        info = Analysis(
            jnp.mean(analysis, axis=0),
            spread(analysis),
            jnp.mean(forecast, axis=0),
            spread(forecast),
            innovation_fit(observed, departure, observation),
            jnp.mean(analysis, axis=0),
            analysis,
        )
        return Ensemble(analysis), info

    return Algorithm(init, update)

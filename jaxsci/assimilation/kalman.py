"""The Kalman filter and smoother: exact for linear models and Gaussian errors, the oracle of every other method.

As a `Method` the filter linearises model and operator where it stands (the extended Kalman filter).
Source: Kalman 1960, J. Basic Eng. 82, 35-45; Rauch, Tung and Striebel 1965, AIAA J. 3, 1445-1450.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.inverse_factor import inverse_factor
from jaxsci.assimilation.observation import LinearOperator
from jaxsci.assimilation.problem import Algorithm, Analysis, Method, Problem, per_observation, root_mean
from jaxsci.core.config import positive


class Gaussian(NamedTuple):
    """A normal distribution of the state."""

    mean: Float[Array, " n"]
    covariance: Float[Array, "n n"]


def best_linear_estimate(
    prior: Gaussian, problem: Problem, observation: Float[Array, " stations"]
) -> tuple[Gaussian, Float[Array, ""]]:
    """The posterior of a Gaussian prior, `x + K (y - H(x))`, and twice the least cost per observation.

    `K = P H' (H P H' + R)^{-1}`, with the operator linearised at the prior mean.
    """
    departure, operator = problem.linearise(prior.mean, observation)
    crossed = operator @ prior.covariance
    inverse = inverse_factor(crossed @ operator.T + jnp.eye(len(departure), dtype=departure.dtype))
    used, wanted = inverse @ departure, inverse @ crossed
    posterior = Gaussian(prior.mean + used @ wanted, prior.covariance - wanted.T @ wanted)
    return posterior, per_observation(used @ used, observation)


@dataclass(frozen=True)
class Kalman(Method, kind="kalman"):
    """The (extended) Kalman filter. `inflation` multiplies the covariance, per unit of time: `P <- i^dt F P F'`."""

    inflation: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "inflation")

    def build(self, problem: Problem) -> Algorithm:
        growth = self.inflation**problem.interval

        def init(key: PRNGKeyArray) -> Gaussian:
            return Gaussian(problem.start.mean, problem.start.root @ problem.start.root.T)

        def update(state: Gaussian, observation: Array, key: PRNGKeyArray) -> tuple[Gaussian, Analysis]:
            tangent = jax.jacfwd(problem.forecast)(state.mean)
            covariance = growth * tangent @ state.covariance @ tangent.T
            # Rounding leaves an asymmetry that a chaotic model would amplify without end.
            forecast = Gaussian(problem.forecast(state.mean), (covariance + covariance.T) / 2)
            analysis, fit = best_linear_estimate(forecast, problem, observation)
            return analysis, gaussian_analysis(forecast, analysis, fit)

        return Algorithm(init, update)


def gaussian_analysis(forecast: Gaussian, analysis: Gaussian, fit: Float[Array, ""]) -> Analysis:
    """The report of a method that carries a covariance."""
    return Analysis(
        analysis.mean,
        root_mean(jnp.diagonal(analysis.covariance)),
        forecast.mean,
        root_mean(jnp.diagonal(forecast.covariance)),
        fit,
        analysis.mean,
    )


class Smoothed(NamedTuple):
    """Filtered and smoothed states at every observed time (leading axis), covariances (times, n, n) with them."""

    filtered: Gaussian
    smoothed: Gaussian


class Filtered(NamedTuple):
    """Of a filter over all observed times (leading axis)."""

    state: Gaussian
    fit: Float[Array, " times"]
    """`d' (H P H' + R)^{-1} d / observations` of the innovations d: near one where Q and R are right."""


class LinearModel(NamedTuple):
    """`x' = F x + N(0, Q)`, `y = H x + N(0, R)`."""

    transition: Float[Array, "n n"]
    error: Float[Array, "n n"]
    operator: Float[Array, "stations n"]
    noise: Float[Array, " stations"] | Float[Array, "stations stations"]
    """R, as variances or as a matrix."""

    def ahead(self, state: Gaussian) -> Gaussian:
        """The forecast of one step."""
        spread = self.transition @ state.covariance @ self.transition.T + self.error
        return Gaussian(self.transition @ state.mean, (spread + spread.T) / 2)


def kalman_filter(model: LinearModel, start: Gaussian, values: Float[Array, "times stations"]) -> Filtered:
    """Analyses at every observed time. `start` is the prior at the first one; NaN marks a missing value."""
    unknown = Background(start.mean, jnp.zeros_like(start.covariance))
    problem = Problem(lambda x: model.transition @ x, LinearOperator(model.operator), model.noise, unknown, unknown)

    def forward(prior: Gaussian, observation: Array) -> tuple[Gaussian, tuple[Gaussian, Array]]:
        posterior, fit = best_linear_estimate(prior, problem, observation)
        return model.ahead(posterior), (posterior, fit)

    return Filtered(*lax.scan(forward, start, values)[1])


def kalman_smoother(model: LinearModel, start: Gaussian, values: Float[Array, "times stations"]) -> Smoothed:
    """Filter and fixed-interval (Rauch-Tung-Striebel) smoother; arguments as of `kalman_filter`."""

    def backward(later: Gaussian, here: Gaussian) -> tuple[Gaussian, Gaussian]:
        predicted = model.ahead(here)
        gain = jnp.linalg.solve(predicted.covariance, model.transition @ here.covariance).T
        mean = here.mean + gain @ (later.mean - predicted.mean)
        covariance = here.covariance + gain @ (later.covariance - predicted.covariance) @ gain.T
        return Gaussian(mean, covariance), Gaussian(mean, covariance)

    filtered = kalman_filter(model, start, values).state
    last = jax.tree.map(lambda a: a[-1], filtered)
    _, earlier = lax.scan(backward, last, jax.tree.map(lambda a: a[:-1], filtered), reverse=True)
    smoothed = jax.tree.map(lambda a, end: jnp.concatenate([a, end[None]]), earlier, last)
    return Smoothed(filtered, smoothed)

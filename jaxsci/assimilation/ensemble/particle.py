"""The bootstrap particle filter with systematic resampling."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.assimilation.background import symmetric_root
from jaxsci.assimilation.ensemble.members import first_members
from jaxsci.assimilation.problem import Algorithm, Analysis, Method, Problem, per_observation, root_mean
from jaxsci.core.config import between


class Particles(NamedTuple):
    """Particles and their weights."""

    members: Float[Array, "members n"]
    log_weights: Float[Array, " members"]
    """Normalised: their exponentials sum to one."""


def systematic_resampling(weights: Float[Array, " members"], *, key: PRNGKeyArray) -> Int[Array, " members"]:
    """Indices of the members to keep: each appears N w times, rounded up or down.

    Source: Kitagawa 1996, J. Comput. Graph. Stat. 5, 1-25.
    """
    members = len(weights)
    cumulative = jnp.cumsum(weights)
    points = (jnp.arange(members) + jax.random.uniform(key, dtype=weights.dtype)) / members
    return jnp.minimum(jnp.searchsorted(cumulative / cumulative[-1], points), members - 1)


@dataclass(frozen=True)
class ParticleFilter(Method, kind="particle"):
    """Weights from the likelihood; resampled when the effective number of members falls below `threshold` of them.

    A deterministic model never parts copies again: `jitter` (DAPPER's reg) moves resampled members by a Gaussian of
    the ensemble's covariance, times `jitter` and the bandwidth `N^(-1/(n+4))`, squared. Needs N to grow exponentially
    with n. Source: Gordon, Salmond and Smith 1993, IEE Proc. F 140, 107-113.
    """

    size: int = 800
    threshold: float = 0.2
    jitter: float = 0.9

    def __post_init__(self) -> None:
        between(self, "size", 2, 10**7)
        between(self, "threshold", 0.0, 1.0)
        between(self, "jitter", 0.0, 100.0)

    def build(self, problem: Problem) -> Algorithm:
        bandwidth = self.jitter * self.size ** (-1 / (len(jnp.asarray(problem.start.mean)) + 4))

        def init(key: PRNGKeyArray) -> Particles:
            members = first_members(problem, self.size, key=key)
            return Particles(members, jnp.full(self.size, -jnp.log(self.size), members.dtype))

        def resample(members: Array, weights: Array, key: PRNGKeyArray) -> Particles:
            which, how = jax.random.split(key)
            kept = members[systematic_resampling(weights, key=which)]
            if self.jitter:
                root = bandwidth * symmetric_root(_covariance(members, weights))
                kept = kept + jax.random.normal(how, kept.shape, kept.dtype) @ root
            return Particles(kept, jnp.full(self.size, -jnp.log(self.size), kept.dtype))

        def update(state: Particles, observation: Array, key: PRNGKeyArray) -> tuple[Particles, Analysis]:
            forecast = jax.vmap(problem.forecast)(state.members)
            before = jnp.exp(state.log_weights)
            departures = problem.whiten(observation, observation - jax.vmap(problem.operator)(forecast))
            likelihood = -0.5 * jnp.sum(departures**2, axis=1)
            log_weights = jax.nn.log_softmax(state.log_weights + likelihood)
            weights = jnp.exp(log_weights)
            few = 1 / jnp.sum(weights**2) < self.threshold * self.size
            resampled = resample(forecast, weights, key)
            kept = jax.tree.map(lambda new, old: jnp.where(few, new, old), resampled, Particles(forecast, log_weights))
            innovation = _covariance(departures, before) + jnp.eye(len(observation), dtype=forecast.dtype)
            mean_departure = before @ departures
            info = Analysis(
                weights @ forecast,
                root_mean(jnp.diagonal(_covariance(forecast, weights))),
                before @ forecast,
                root_mean(jnp.diagonal(_covariance(forecast, before))),
                per_observation(mean_departure @ jnp.linalg.solve(innovation, mean_departure), observation),
                weights @ forecast,
            )
            return kept, info

        return Algorithm(init, update)


def _covariance(members: Float[Array, "members n"], weights: Float[Array, " members"]) -> Float[Array, "n n"]:
    anomalies = members - weights @ members
    return (weights[:, None] * anomalies).T @ anomalies

"""The ensemble Kalman filter with perturbed observations."""

from dataclasses import dataclass

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.assimilation.ensemble.members import EnsembleSettings, centre, ensemble_filter, innovation_factor
from jaxsci.assimilation.problem import Algorithm, Method, Problem


def gain(anomalies: Float[Array, "members n"], observed: Float[Array, "members stations"]) -> Array:
    """The transposed Kalman gain `K' = (Y'Y + (N-1) I)^{-1} Y'A` (stations, n) of whitened observations."""
    factor = innovation_factor(observed)
    return factor.T @ (factor @ (observed.T @ anomalies))


@dataclass(frozen=True)
class EnKF(EnsembleSettings, Method, kind="enkf"):
    """Each member assimilates the observation with noise of its own, re-centred to mean zero.

    Source: Burgers, van Leeuwen and Evensen 1998, Mon. Wea. Rev. 126, 1719-1724.
    """

    def build(self, problem: Problem) -> Algorithm:
        def analyse(members: Array, observed: Array, departure: Array, key: PRNGKeyArray) -> Array:
            _, noise = centre(jax.random.normal(key, observed.shape, observed.dtype))
            # Where the observation is missing, its column of `observed` is zero: the gain makes nothing of the noise.
            return members + (departure - observed + noise) @ gain(centre(members)[1], observed)

        return ensemble_filter(problem, self, analyse)

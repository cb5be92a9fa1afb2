"""The deterministic ensemble Kalman filter: half the gain for the anomalies, no perturbed observations."""

from dataclasses import dataclass

from jaxtyping import Array, PRNGKeyArray

from jaxsci.assimilation.ensemble.enkf import gain
from jaxsci.assimilation.ensemble.members import EnsembleSettings, centre, ensemble_filter
from jaxsci.assimilation.problem import Algorithm, Method, Problem


@dataclass(frozen=True)
class DeterministicEnKF(EnsembleSettings, Method, kind="denkf"):
    """The mean takes the gain K, the anomalies K/2. Source: Sakov and Oke 2008, Tellus A 60, 361-371."""

    def build(self, problem: Problem) -> Algorithm:
        def analyse(members: Array, observed: Array, departure: Array, key: PRNGKeyArray) -> Array:
            return members + (departure - observed / 2) @ gain(centre(members)[1], observed)

        return ensemble_filter(problem, self, analyse)

"""How likely a change is, before looking at the point: a function of the run length and of what is known beforehand."""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

NEVER = -1e6


class Hazard(eqx.Module):
    """Probability H that the run ends, in logarithms."""

    @abstractmethod
    def logits(self, runs: Float[Array, " r"], covariates: Float[Array, " c"]) -> Float[Array, " r"]:
        """log(H / (1 - H)) for each run length."""

    def log_probabilities(
        self, runs: Float[Array, " r"], covariates: Float[Array, " c"]
    ) -> tuple[Float[Array, " r"], Float[Array, " r"]]:
        """log H and log(1 - H)."""
        logits = self.logits(runs, covariates)
        return jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)


class ConstantHazard(Hazard):
    """A change every `mean_run` points on average, whenever the last one was: H = 1 / mean_run."""

    mean_run: Float[Array, ""] | float = 100.0

    def logits(self, runs, covariates):
        """Logit of the chance of a change; the same for every run length."""
        return jnp.full(runs.shape, -jnp.log(jnp.asarray(self.mean_run, runs.dtype) - 1))


class RefractoryHazard(Hazard):
    """As `ConstantHazard`, but a run of fewer than `least` points does not end: no segment is shorter."""

    mean_run: Float[Array, ""] | float = 100.0
    least: Float[Array, ""] | float = 10.0

    def logits(self, runs, covariates):
        constant = -jnp.log(jnp.asarray(self.mean_run, runs.dtype) - 1)
        return jnp.where(runs + 1 >= self.least, constant, NEVER)  # the run has runs + 1 points when it ends


class LogisticHazard(Hazard):
    """H = sigmoid(offset + slope log(1 + r)): runs that grow more brittle (slope > 0) or safer with age."""

    offset: Float[Array, ""] | float = -4.6
    slope: Float[Array, ""] | float = 0.0

    def logits(self, runs, covariates):
        return self.offset + self.slope * jnp.log1p(runs)


class CovariateHazard(Hazard):
    """H = sigmoid(offset + w . c): a maintenance calendar, a software version, a queue that was drained.

    Equivalently log H = -softplus(-(offset + w . c)). `weights` has one entry a covariate.
    """

    weights: Float[Array, " c"]
    offset: Float[Array, ""] | float = -4.6

    def logits(self, runs, covariates):
        return jnp.full(runs.shape, self.offset + self.weights @ covariates)

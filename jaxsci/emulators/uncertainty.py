"""How sure a trajectory emulator is: the scatter of an ensemble or of dropout, and whether it can be believed."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.emulators.trajectory import TrajectoryEmulator, TrajectoryEnsemble

QUANTILE_90 = 1.6448536269514722  # of the standard normal, for central 90 % intervals


class Predicted(NamedTuple):
    """Mean and spread of POD coefficients, in their own units."""

    mean: Float[Array, "*runs times modes"]
    spread: Float[Array, "*runs times modes"]
    """Standard deviation that the model gives itself."""


@eqx.filter_jit
def ensemble_prediction(ensemble: TrajectoryEnsemble, parameters: Float[Array, "runs parameters"]) -> Predicted:
    """Mean and standard deviation (unbiased) over the members (Lakshminarayanan et al. 2017, arXiv:1612.01474)."""
    each = jax.vmap(ensemble.each)(parameters)
    return Predicted(each.mean(1), jnp.std(each, axis=1, ddof=1))


@eqx.filter_jit
def dropout_prediction(
    emulator: TrajectoryEmulator, parameters: Float[Array, "runs parameters"], draws: int, *, key: PRNGKeyArray
) -> Predicted:
    """Mean and standard deviation over draws of the dropout masks (Gal and Ghahramani 2016, arXiv:1506.02142)."""

    def of_run(parameters: Array, key: PRNGKeyArray) -> Array:
        return jax.vmap(lambda k: emulator(parameters, key=k))(jax.random.split(key, draws))

    each = jax.vmap(of_run)(parameters, jax.random.split(key, len(parameters)))
    return Predicted(each.mean(1), jnp.std(each, axis=1, ddof=1))


class Calibration(NamedTuple):
    """Whether the spread can be believed, measured on runs that were not trained on."""

    coverage_90: float
    """Share of errors within what should be the central 90 % interval."""
    spread_over_error: float
    """Root mean square of the spread over that of the error; one where the spread is right on average."""
    factor: float
    """What the spread was multiplied by."""


def calibration(
    error: Float[np.ndarray, "runs times modes"], spread: Float[np.ndarray, "runs times modes"], factor: float = 1.0
) -> Calibration:
    """Of errors and spreads in units of each mode's own, so that every mode counts alike."""
    wide = factor * spread
    inside = np.abs(error) <= QUANTILE_90 * wide
    return Calibration(float(inside.mean()), float(np.sqrt(np.mean(wide**2) / np.mean(error**2))), factor)


def spread_factor(error: Float[np.ndarray, "runs times modes"], spread: Float[np.ndarray, "runs times modes"]) -> float:
    """The factor that makes 90 % intervals hold 90 % of these errors: fit it on validation runs, use it on others."""
    ratio = np.abs(error) / np.maximum(spread, np.finfo(np.float32).tiny)
    return float(np.quantile(ratio, 0.9) / QUANTILE_90)

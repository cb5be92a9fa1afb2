"""Background covariances from data: climatology, forecast differences, ensembles, and mixtures of them.

Each estimate is a covariance B that `covariance_root` accepts; `Background(mean, covariance_root(B))` uses it. All
raise `DataError` in one line for data that are too few, not finite, or whose covariance is not positive semi-definite.
"""

import numpy as np
from jaxtyping import Float

from jaxsci.assimilation.background import covariance_root
from jaxsci.core.config import require
from jaxsci.core.errors import DataError

Matrix = Float[np.ndarray, "n n"]


def climatological(states: Float[np.ndarray, "times n"], scale: float = 1.0) -> Matrix:
    """`scale` times the covariance of states in time: right in shape, `scale` makes it the size of forecast errors."""
    require(scale > 0, "scale", "a value above 0", scale)
    return _checked(scale * _sample(states, "states"))


def forecast_differences(
    long: Float[np.ndarray, "times n"], short: Float[np.ndarray, "pairs n"], scale: float = 0.5
) -> Matrix:
    """`scale` times the covariance of differences of forecasts of two lead times, valid at the same times (NMC).

    Half, the default, is right where the errors of both are independent and equally large.
    Source: Parrish and Derber 1992, Mon. Wea. Rev. 120, 1747-1763.
    """
    require(scale > 0, "scale", "a value above 0", scale)
    if np.shape(long) != np.shape(short):
        raise DataError(f"forecasts: expected pairs for the same times, got shapes {np.shape(long)}, {np.shape(short)}")
    return _checked(scale * _sample(np.asarray(long) - np.asarray(short), "forecasts"))


def ensemble(members: Float[np.ndarray, "members n"]) -> Matrix:
    """Covariance of an ensemble about its mean; of rank below its size."""
    return _checked(_sample(members, "members"))


def hybrid(static: Matrix, flow_dependent: Float[np.ndarray, "m m"], weight: float) -> Matrix:
    """`(1 - weight) static + weight flow_dependent`. Source: Hamill and Snyder 2000, Mon. Wea. Rev. 128, 2905-2919."""
    require(0 <= weight <= 1, "weight", "a value between 0 and 1", weight)
    if np.shape(static) != np.shape(flow_dependent):
        raise DataError(
            f"hybrid: expected covariances of one size, got shapes {np.shape(static)} and {np.shape(flow_dependent)}"
        )
    return _checked((1 - weight) * np.asarray(static) + weight * np.asarray(flow_dependent))


def diagonal(covariance: Matrix) -> Matrix:
    """The variances alone. In POD space, where coefficients are uncorrelated in time, little is lost by it."""
    return _checked(np.diag(np.diag(np.asarray(covariance))))


def _sample(states: np.ndarray, name: str) -> np.ndarray:
    states = np.asarray(states)
    if states.ndim != 2 or len(states) < 2:
        raise DataError(f"{name}: expected two or more flat states, got shape {states.shape}")
    return np.atleast_2d(np.cov(states.T))


def _checked(covariance: np.ndarray) -> np.ndarray:
    covariance_root(covariance)
    return covariance

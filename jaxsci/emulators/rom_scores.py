"""How wrong a reduced-order model is: against the truth, against what its modes could do, early, late and at worst."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import t


class RomScore(NamedTuple):
    """Mean squared errors over test runs, times and grid points, in squared units of the field."""

    mse: float
    above_floor: float
    """What is not the basis's fault: `mse` less the projection error of the same fields. Negative for a model that
    does not live in the basis."""
    early: float
    """Over the first tenth of the fields."""
    late: float
    """Over the last half."""
    after_window: float
    """Without the first tenth, which autoregressive models are given."""
    worst: float
    """Of the worst run."""
    diverged: float
    """Share of runs that did not stay finite; from there on they count as the mean field."""


def score(
    errors: Float[np.ndarray, "runs times"],
    floor: Float[np.ndarray, "runs times"],
    climatology: Float[np.ndarray, "runs times"],
) -> RomScore:
    """From squared errors averaged over the grid; `climatology` are those of the training mean.

    A run that is not finite at some time scores as climatology at that time, and as diverged.
    """
    finite = np.isfinite(errors)
    counted = np.where(finite, errors, climatology)
    times = errors.shape[1]
    tenth, half = max(times // 10, 1), times // 2
    return RomScore(
        mse=float(counted.mean()),
        above_floor=float(counted.mean() - floor.mean()),
        early=float(counted[:, :tenth].mean()),
        late=float(counted[:, half:].mean()),
        after_window=float(counted[:, tenth:].mean()),
        worst=float(counted.mean(1).max()),
        diverged=float(np.mean(~finite.all(1))),
    )


def squared_errors(
    predicted: Float[np.ndarray, "runs times *grid"], truth: Float[np.ndarray, "runs times *grid"]
) -> Float[np.ndarray, "runs times"]:
    """Squared error averaged over the grid."""
    grid = tuple(range(2, truth.ndim))
    with np.errstate(over="ignore", invalid="ignore"):  # a diverging run may leave float32
        return np.square(predicted - truth).mean(grid, dtype=np.float64)


def student_interval(values: Float[np.ndarray, " seeds"], level: float = 0.95) -> tuple[float, float]:
    """Mean and half-width of its Student interval; the half-width is NaN for a single seed."""
    count = len(values)
    if count < 2:
        return float(values.mean()), float("nan")
    half = t.ppf(0.5 + level / 2, count - 1) * values.std(ddof=1) / np.sqrt(count)
    return float(values.mean()), float(half)

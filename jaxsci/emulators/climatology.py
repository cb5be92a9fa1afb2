"""The seasonal cycle, as a least-squares fit of annual harmonics."""

import equinox as eqx
import numpy as np
from jaxtyping import Float

DAYS_PER_YEAR = 365.25


class HarmonicClimatology(eqx.Module):
    """`mean + sum_k a_k cos(k phi) + b_k sin(k phi)` at every point, `phi = 2 pi day_of_year / 365.25`."""

    coefficients: Float[np.ndarray, "terms points"]

    @classmethod
    def fit(cls, time: np.ndarray, values: Float[np.ndarray, "days points"], harmonics: int) -> "HarmonicClimatology":
        """Least squares over the given days alone (the training span)."""
        return cls(np.linalg.lstsq(_basis(time, harmonics), values, rcond=None)[0])

    @property
    def harmonics(self) -> int:
        """Number of annual harmonics."""
        return (len(self.coefficients) - 1) // 2

    def __call__(self, time: np.ndarray) -> Float[np.ndarray, "days points"]:
        return _basis(time, self.harmonics) @ self.coefficients


def select_climatology(
    time: np.ndarray,
    values: Float[np.ndarray, "days points"],
    weights: Float[np.ndarray, " points"],
    candidates: tuple[int, ...],
    blocks: int = 5,
) -> HarmonicClimatology:
    """The number of harmonics that best predicts left-out blocks of consecutive days, fitted to all the days given.

    Pass the training days. Years differ more than harmonics do: one other year would be a poor judge.
    """

    def error(harmonics: int) -> float:
        total = 0.0
        for out in np.array_split(np.arange(len(time)), blocks):
            kept = np.delete(np.arange(len(time)), out)
            fit = HarmonicClimatology.fit(time[kept], values[kept], harmonics)
            total += np.sum(weights * np.square(values[out] - fit(time[out])))
        return total

    best = min(candidates, key=error)
    return HarmonicClimatology.fit(time, values, best)


def _basis(time: np.ndarray, harmonics: int) -> Float[np.ndarray, "days terms"]:
    day_of_year = (time - time.astype("datetime64[Y]")) / np.timedelta64(1, "D")
    phase = 2 * np.pi * np.arange(1, harmonics + 1) * day_of_year[:, None] / DAYS_PER_YEAR
    return np.concatenate([np.ones((len(time), 1)), np.cos(phase), np.sin(phase)], axis=1)

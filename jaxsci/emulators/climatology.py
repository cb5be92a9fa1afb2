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
        return (len(self.coefficients) - 1) // 2

    def __call__(self, time: np.ndarray) -> Float[np.ndarray, "days points"]:
        return _basis(time, self.harmonics) @ self.coefficients


def select_climatology(
    time: np.ndarray,
    values: Float[np.ndarray, "days points"],
    train: slice,
    validation: slice,
    candidates: tuple,
) -> HarmonicClimatology:
    """The number of harmonics with the smallest squared error on the validation span."""
    fits = [HarmonicClimatology.fit(time[train], values[train], harmonics) for harmonics in candidates]
    errors = [np.square(values[validation] - fit(time[validation])).mean() for fit in fits]
    return fits[int(np.argmin(errors))]


def _basis(time: np.ndarray, harmonics: int) -> Float[np.ndarray, "days terms"]:
    day_of_year = (time - time.astype("datetime64[Y]")) / np.timedelta64(1, "D")
    phase = 2 * np.pi * np.arange(1, harmonics + 1) * day_of_year[:, None] / DAYS_PER_YEAR
    return np.concatenate([np.ones((len(time), 1)), np.cos(phase), np.sin(phase)], axis=1)

"""How sure is a difference between two methods? Intervals from resampling starts, in blocks and in pairs."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Interval(NamedTuple):
    """A figure and the central 95 % of what resampling makes of it."""

    value: float
    low: float
    high: float


def resampled_rmse(
    squares: Mapping[str, Float[np.ndarray, " starts"]], *, block: int = 10, resamples: int = 2000, seed: int = 0
) -> dict[str, Float[np.ndarray, " resamples"]]:
    """RMSE of every method over `resamples` draws of the starts, the same draw for all methods.

    `squares` holds each start's mean squared error. Starts are consecutive and their errors correlated, so they are
    drawn in circular blocks of `block`, longer than weather remembers its errors. Drawing all methods alike keeps the
    days hard for one hard for the others, and so differences sharp.
    Source: Politis and Romano 1992, in Exploring the Limits of Bootstrap, 263-270 (the circular block bootstrap).
    """
    starts = len(next(iter(squares.values())))
    block = min(block, starts)
    drawn = np.random.default_rng(seed).integers(starts, size=(resamples, -(-starts // block)))
    days = ((drawn[:, :, None] + np.arange(block)) % starts).reshape(resamples, -1)[:, :starts]
    return {name: np.sqrt(np.asarray(values)[days].mean(axis=1)) for name, values in squares.items()}


def interval(value: float, samples: Float[np.ndarray, " resamples"]) -> Interval:
    """The percentile interval of 95 %."""
    low, high = np.quantile(samples, (0.025, 0.975))
    return Interval(value, float(low), float(high))

"""Jobs of several kinds as one multivariate series: a step is a round, in which each kind runs at most once.

Kinds that a round lacks are missing values, so a change shared by several kinds is one change of one series.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsci.core.errors import DataError
from jaxsci.drift.tokio import Jobs

LEAST_SPREAD = 0.02  # 5 %: a kind that hardly varied at first must not make an alarm of every ripple
MAD = 1.4826  # from the median absolute deviation to the standard deviation of a normal


@dataclass(frozen=True)
class Rounds:
    """`values` (round, kind) is log10 performance in units of the warm-up's spread, 0 where `known` is false."""

    values: Float[np.ndarray, "t k"]
    known: Bool[np.ndarray, "t k"]
    time: Float[np.ndarray, " t"]
    first_job: Int[np.ndarray, " t"]
    """Index of each round's first job."""
    of_job: Int[np.ndarray, " n"]
    """The round of each job."""


def into_rounds(jobs: Jobs, *, warm_up: int = 30, gap_hours: float = 12.0) -> Rounds:
    """A new round begins when a kind comes again or after a pause of `gap_hours`.

    Standardised by median and median absolute deviation of the first `warm_up` rounds only: what comes later cannot
    change what an alarm would have said. Raises `DataError` when there are fewer than twice as many rounds.
    """
    of_job = np.zeros(len(jobs), int)
    seen: set[int] = set()
    for i in range(1, len(jobs)):
        seen.add(int(jobs.kind[i - 1]))
        new = int(jobs.kind[i]) in seen or jobs.time[i] - jobs.time[i - 1] > 3600 * gap_hours
        of_job[i] = of_job[i - 1] + new
        if new:
            seen = set()
    count = int(of_job[-1]) + 1
    if count < 2 * warm_up:
        raise DataError(f"{count} rounds of jobs are too few: expected {2 * warm_up} or more; lower warm_up")
    values = np.zeros((count, len(jobs.kinds)))
    known = np.zeros(values.shape, bool)
    values[of_job, jobs.kind] = jobs.performance
    known[of_job, jobs.kind] = True
    first = np.searchsorted(of_job, np.arange(count))
    for k in range(len(jobs.kinds)):
        values[:, k] = standardise_by_start(values[:, k], known[:, k], warm_up)
    return Rounds(values, known, jobs.time[first], first, of_job)


def standardise_by_start(values: Float[np.ndarray, " t"], known: Bool[np.ndarray, " t"], warm_up: int) -> np.ndarray:
    """Less the median, over 1.48 median absolute deviations, of the first known ones of `warm_up` values.

    A series that begins later is standardised by its own first values.
    """
    start = values[:warm_up][known[:warm_up]]
    if len(start) < 5:
        start = values[known][:warm_up]
    if not len(start):
        return np.zeros_like(values)
    centre = np.median(start)
    spread = max(MAD * float(np.median(np.abs(start - centre))), LEAST_SPREAD)
    return np.where(known, (values - centre) / spread, 0.0)

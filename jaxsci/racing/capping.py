"""Adaptive capping (Hutter et al. 2009; irace 3): when run time is tuned, no run goes on once it cannot help.

The bound of a block k is what the elites needed per block so far. A candidate may use k times that, less what it has
used; one whose mean exceeds the bound is dominated and dropped before any test.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxsci.core.config import one_of, positive
from jaxsci.racing.ledger import Ledger


@dataclass(frozen=True)
class Capping:
    """`longest`: seconds any run may take. `kind`: which elite sets the bound. `shortest`: the least that can be
    measured. `per_block`: the elites' time on that block alone is the bound, not a candidate's total.
    `penalty`: a run that hits `longest` costs so many times that (PAR-X).
    """

    longest: float
    kind: Literal["median", "mean", "best", "worst"] = "median"
    shortest: float = 0.01
    per_block: bool = False
    penalty: float = 1.0

    def __post_init__(self):
        positive(self, "longest", "shortest", "penalty")
        one_of(self, "kind", ("median", "mean", "best", "worst"))

    def bound(self, ledger: Ledger, elites: Sequence[int], blocks: Sequence[int]) -> float:
        """Seconds a block should take, from the elites' times on `blocks`; `longest` without any."""
        times = np.array([[self._time(ledger, e, b) for b in blocks] for e in elites])
        if not times.size or np.isnan(times).all(axis=1).all():
            return self.longest
        means = np.nanmean(times, axis=1)
        chosen = {"median": np.nanmedian, "mean": np.nanmean, "best": np.nanmin, "worst": np.nanmax}[self.kind](means)
        return float(min(chosen, self.longest))

    def bounds(
        self, ledger: Ledger, numbers: Sequence[int], elites: Sequence[int], blocks: Sequence[int]
    ) -> list[float]:
        """What each configuration may take on the last of `blocks`."""
        *before, now = blocks
        if not elites:
            return [self.longest] * len(numbers)
        if self.per_block:
            one = max(self.bound(ledger, elites, [now]), self.shortest)
            return [min(one, self.longest)] * len(numbers)
        total = len(blocks) * self.bound(ledger, elites, blocks) + self.shortest
        used = [sum(self._time(ledger, n, b) for b in before) for n in numbers]
        return [float(np.clip(total - spent, self.shortest, self.longest)) for spent in used]

    def dominated(
        self, ledger: Ledger, numbers: Sequence[int], elites: Sequence[int], blocks: Sequence[int]
    ) -> list[int]:
        """Those whose mean time over `blocks` exceeds the bound."""
        if not elites:
            return []
        bound = self.bound(ledger, elites, blocks) + self.shortest
        means = {n: np.mean([self._time(ledger, n, b) for b in blocks]) for n in numbers if n not in elites}
        return [n for n, mean in means.items() if mean > bound]

    def cost(self, seconds: float, bound: float, finished: bool) -> float:
        """The cost of a run: its time, or the penalised longest time where it hit that."""
        if not finished and bound >= self.longest:
            return self.penalty * self.longest
        return seconds

    def _time(self, ledger: Ledger, number: int, block: int) -> float:
        return ledger.seconds.get((number, block), ledger.costs.get((number, block), np.nan))

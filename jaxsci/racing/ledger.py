"""The purse of a tuning: counts every run, never exceeds the budget, asks the log before it asks the target."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from jaxsci.core.config import require
from jaxsci.core.errors import DataError, JaxsciError
from jaxsci.racing.log import RunLog
from jaxsci.racing.space import Configuration
from jaxsci.racing.targets.protocol import REJECTED, Job, Outcome, Target

LARGEST_SEED = 2**31 - 1
Watch = Callable[[int, int], None]
"""Called with runs used and budget after every batch; may raise to stop."""


@dataclass(frozen=True)
class Blocks:
    """The stream of (instance, seed) pairs: round after round, all instances in a fresh order, each with a new seed.

    With `deterministic`, each instance comes once, without a seed. Groups of `group` instances that follow each other
    in the list stay together. Raises `ConfigError` for a list that is not made of whole groups.
    """

    instances: tuple[str, ...]
    seed: int
    deterministic: bool = False
    group: int = 1

    def __post_init__(self):
        count = len(self.instances)
        if not count:
            raise DataError("instances: expected at least one, got none")
        require(count % self.group == 0, "block_size", f"a divisor of the {count} training instances", self.group)

    def __getitem__(self, number: int) -> tuple[str, int]:
        turn, place = divmod(number, len(self.instances))
        order, seeds = _turn(self.seed, turn, len(self.instances) // self.group, len(self.instances))
        instance = self.instances[order[place // self.group] * self.group + place % self.group]
        return instance, 0 if self.deterministic else int(seeds[place])

    @property
    def count(self) -> float:
        return float(len(self.instances)) if self.deterministic else float("inf")


@lru_cache(maxsize=1024)
def _turn(seed: int, turn: int, groups: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The order of the groups in one round of the stream, and a seed for each instance."""
    rng = np.random.default_rng([seed, 1, turn])
    return rng.permutation(groups), rng.integers(1, LARGEST_SEED, count)


@dataclass
class Ledger:
    """`costs[configuration number, block number]` of all runs so far; `used + left == budget` always.

    `timed`: runs whose target does not say how long they took get an equal share of their batch's time.
    """

    target: Target
    blocks: Blocks
    budget: int
    log: RunLog
    watch: Watch | None = None
    timed: bool = False
    used: int = 0
    costs: dict[tuple[int, int], float] = field(default_factory=dict)
    seconds: dict[tuple[int, int], float] = field(default_factory=dict)
    configurations: dict[int, Configuration] = field(default_factory=dict)
    replayed: int = 0

    @property
    def left(self) -> int:
        """Runs that may still be made."""
        return self.budget - self.used

    def enter(self, configuration: Configuration) -> int:
        """Give the configuration the next number."""
        number = len(self.configurations) + 1
        self.configurations[number] = configuration
        return number

    def missing(self, numbers: Sequence[int], block: int) -> list[int]:
        """Those that have no cost on the block yet."""
        return [n for n in numbers if (n, block) not in self.costs]

    def run(self, cells: Sequence[tuple[int, int]], bounds: Sequence[float | None] | None = None) -> None:
        """Run configurations on blocks, (number, block) each. Raises `ValueError` beyond the budget.

        Raises `DataError` where every run so far has failed.
        """
        if len(cells) > self.left:
            raise ValueError(f"{len(cells)} runs asked for with {self.left} left")
        jobs = []
        for place, (number, block) in enumerate(cells):
            instance, seed = self.blocks[block]
            bound = bounds[place] if bounds else None
            jobs.append(Job(number, self.configurations[number], instance, seed, bound))
        known = [self.log.known(job) for job in jobs]
        fresh = [job for job, outcome in zip(jobs, known, strict=True) if outcome is None]
        answers = iter(self._ask(fresh))
        outcomes = [outcome or next(answers) for outcome in known]
        self.replayed += len(jobs) - len(fresh)
        self.used += len(jobs)
        for cell, outcome in zip(cells, outcomes, strict=True):
            self.costs[cell] = outcome.cost
            if outcome.seconds is not None:
                self.seconds[cell] = outcome.seconds
        if not any(cost < REJECTED for cost in self.costs.values()) and len({job.number for job in jobs}) > 1:
            said = next((outcome.message for outcome in outcomes if outcome.message), "no message")
            raise DataError(f"target: all {len(jobs)} runs failed, the first with: {said}; check the target by hand")
        if self.watch:
            self.watch(self.used, self.budget)

    def matrix(self, numbers: Sequence[int], blocks: Sequence[int]) -> np.ndarray:
        """Costs, a row a block, NaN where not run."""
        return np.array([[self.costs.get((n, b), np.nan) for n in numbers] for b in blocks]).reshape(
            len(blocks), len(numbers)
        )

    def _ask(self, jobs: Sequence[Job]) -> list[Outcome]:
        if not jobs:
            return []
        begin = time.perf_counter()
        try:
            raw = list(self.target(jobs))
        except JaxsciError:
            raise
        except Exception as error:  # a target is foreign code: whatever it raises rejects the batch, and says why
            raw = [Outcome(REJECTED, message=f"{type(error).__name__}: {error}")] * len(jobs)
        if len(raw) != len(jobs):
            raise DataError(f"target: expected {len(jobs)} outcomes, got {len(raw)}")
        share = (time.perf_counter() - begin) / len(jobs) if self.timed else None
        outcomes = [_checked(o if o.seconds is not None else o._replace(seconds=share)) for o in raw]
        self.log.record(jobs, outcomes)
        return outcomes


def _checked(outcome: Outcome) -> Outcome:
    cost = float(outcome.cost)
    if np.isfinite(cost):
        return outcome._replace(cost=cost)
    return outcome._replace(cost=REJECTED, message=outcome.message or f"the target returned {cost}")

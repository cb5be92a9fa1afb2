"""How many iterations, how many candidates, how few runs will do: irace's arithmetic and that of I/F-Race 2010."""

import math
from dataclasses import dataclass

from jaxsci.core.config import between, require

MOST_CANDIDATES = 1024


@dataclass(frozen=True)
class Allowance:
    """What the numbers of an iterated race follow from: parameters, first test, tests, `mu` and fresh instances."""

    dimension: int
    first_test: int = 5
    each_test: int = 1
    mu: int = 5
    new_instances: int = 1
    elitist: bool = True

    def __post_init__(self):
        for name in ("dimension", "first_test", "each_test", "mu"):
            between(self, name, 1, 10**6)
        require(self.first_test >= 2, "first_test", "at least 2 blocks", self.first_test)
        between(self, "new_instances", 0, self.first_test)

    @property
    def iterations(self) -> int:
        return math.floor(2 + math.log2(self.dimension))

    @property
    def survivors(self) -> int:
        """A race ends when no more than this many are left."""
        return math.floor(2 + math.log2(self.dimension))

    def candidates(self, budget: int, iteration: int, *, elites: int = 0, old: int = 0) -> int:
        """Configurations in the race of an iteration; the `old` runs of each elite are credited."""
        blocks = self.mu + self.each_test * min(5, iteration)
        if elites and self.elitist:
            fresh = old + self.new_instances
            blocks = max(blocks, -(-fresh // self.each_test) * self.each_test)
            return min((budget + elites * old) // blocks, MOST_CANDIDATES)
        return min(budget // blocks, MOST_CANDIDATES)

    @property
    def least(self) -> int:
        """The least budget with which every iteration can race at least one new candidate."""
        length, each, fresh = self.iterations, self.each_test, max(self.each_test, self.new_instances)
        if not self.elitist:
            blocks = self.mu + 5 * each
        elif length <= 5:
            blocks = self.mu + each + (length - 1) * fresh
        else:
            blocks = self.mu + each + (length - 5) * self.new_instances + 5 * fresh
        return (self.survivors + 1) * length * blocks

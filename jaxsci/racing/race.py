"""One race: candidates meet block after block, and each is dropped as soon as the test says it is worse than the best.

With elites from earlier races it is irace's elitist race: first fresh blocks, then those the elites were run on, in a
new order; what is known is not run again, and an elite cannot be dropped while past blocks of its own are still to
come.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from jaxsci.core.config import between, one_of, require
from jaxsci.racing.capping import Capping
from jaxsci.racing.ledger import Ledger
from jaxsci.racing.statistics import TESTS, Test, decide, final_ranks
from jaxsci.racing.targets.protocol import REJECTED


@dataclass(frozen=True)
class Rules:
    """`first_test` blocks before the first test, one test every `each_test` blocks, no more than `stall` tests in a row
    that drop nobody (0: no limit). `together` runs the blocks of the first test in one batch. `lookahead` blocks are
    run in one batch afterwards; the tests are applied block by block all the same, and runs past a drop count as used.
    `block_size` (irace's blockSize): instances are listed in groups of so many, one of each class; a group stays
    together, nobody is dropped by a test in the middle of one, and the numbers above count groups. `rank_by`: survivors
    are ordered by the test's own criterion or by their mean cost.
    """

    test: Test = "friedman"
    confidence: float = 0.95
    first_test: int = 5
    each_test: int = 1
    stall: int = 2
    together: bool = True
    lookahead: int = 1
    block_size: int = 1
    rank_by: Literal["test", "mean"] = "test"
    capping: Capping | None = None

    def __post_init__(self):
        one_of(self, "test", TESTS)
        one_of(self, "rank_by", ("test", "mean"))
        require(0.5 < self.confidence < 1.0, "confidence", "a value above 0.5 and below 1", self.confidence)
        between(self, "first_test", 2, 10**6)
        between(self, "each_test", 1, 10**6)
        between(self, "stall", 0, 10**6)
        between(self, "lookahead", 1, 10**6)
        between(self, "block_size", 1, 10**6)

    @property
    def first(self) -> int:
        """Blocks before the first test."""
        return self.first_test * self.block_size

    @property
    def each(self) -> int:
        """Blocks from test to test."""
        return self.each_test * self.block_size

    def due(self, blocks: int) -> bool:
        """Whether the test is applied after so many blocks."""
        return blocks >= self.first and blocks % self.each == 0


class Step(NamedTuple):
    """After one block: how many blocks so far, who is left, who was dropped now, and the test's p (NaN: none)."""

    blocks: int
    block: int
    alive: tuple[int, ...]
    dropped: tuple[int, ...]
    p: float
    used: int


class Outcome(NamedTuple):
    """`survivors` in order, the best first. `stop` says what ended the race."""

    entered: tuple[int, ...]
    survivors: tuple[int, ...]
    blocks: tuple[int, ...]
    steps: tuple[Step, ...]
    stop: str


def race(
    ledger: Ledger,
    entered: Sequence[int],
    order: Sequence[int],
    rules: Rules,
    *,
    budget: int,
    survivors: int,
    elites: Sequence[int] = (),
    past: frozenset[int] | set[int] = frozenset(),
) -> Outcome:
    """Race the configurations `entered` over the blocks of `order` until one of the ends below.

    `past` blocks, those of earlier races, must all be seen before the race may end: at most `survivors` left, the next
    block beyond `budget` runs, or `rules.stall` tests without a drop.
    """
    alive, steps, done = list(entered), [], 0
    owed = {e: sum((e, b) in ledger.costs for b in order if b in past) for e in elites}
    begin, stalled, stop = ledger.used, 0, "no blocks left"
    cap_elites = list(elites)
    while done < len(order):
        ahead = _ahead(rules, done, len(order))
        cells = [(n, b) for b in order[done : done + ahead] for n in ledger.missing(alive, b)]
        seen = not (past & set(order[done:]))
        if seen and done >= rules.first:
            if len(alive) <= survivors:
                stop = f"{len(alive)} left"
                break
            if rules.stall and stalled >= rules.stall:
                stop = f"{stalled} tests without a drop"
                break
        spent = ledger.used - begin
        if ahead > rules.block_size and len(cells) > min(budget - spent, ledger.left):
            ahead = rules.block_size
            cells = [(n, b) for b in order[done : done + ahead] for n in ledger.missing(alive, b)]
        if len(cells) > ledger.left or (seen and done >= 1 and spent + len(cells) > budget):
            stop = "the next block would exceed the budget"
            break
        bounds = None
        if rules.capping and cells:
            now = [*order[:done], order[done]]
            bounds = rules.capping.bounds(ledger, [n for n, _ in cells], cap_elites, now)
        known = {(e, b): (e, b) in ledger.costs for e in owed for b in order[done : done + ahead]}
        ledger.run(cells, bounds)
        for block in order[done : done + ahead]:
            done += 1
            for e in owed:
                owed[e] -= known[e, block] and block in past
            protected = {e for e, count in owed.items() if count > 0}
            kept, p = _judged(ledger, alive, order[:done], rules, protected, cap_elites)
            dropped = tuple(n for n in alive if n not in kept)
            if rules.due(done) and len(alive) > 1 and not protected:
                stalled = 0 if dropped else stalled + 1
            alive = kept
            steps.append(Step(done, block, tuple(alive), dropped, p, ledger.used))
            if not alive:
                break
        if rules.capping and not cap_elites and done >= rules.first:
            cap_elites = _ranked(ledger, alive, order[:done], rules)[:survivors]
        if not alive:
            stop = "every configuration was rejected"
            break
    blocks = tuple(order[:done])
    return Outcome(tuple(entered), tuple(_ranked(ledger, alive, blocks, rules)), blocks, tuple(steps), stop)


def _ahead(rules: Rules, done: int, length: int) -> int:
    """Blocks in the next batch, whole groups. Bounds depend on earlier runs, so capping goes block by block."""
    if rules.capping:
        return 1
    together = rules.together and done < rules.first
    wanted = rules.first - done if together else rules.lookahead * rules.block_size
    return max(1, min(wanted, length - done))


def _judged(
    ledger: Ledger,
    alive: Sequence[int],
    blocks: Sequence[int],
    rules: Rules,
    protected: set[int],
    cap_elites: Sequence[int],
) -> tuple[list[int], float]:
    """Who stays after the last of `blocks`, and the p of the test if there was one."""
    kept = [n for n in alive if ledger.costs[n, blocks[-1]] != REJECTED]
    whole = len(blocks) % rules.block_size == 0
    if rules.capping and len(blocks) >= rules.first and whole:
        out = set(rules.capping.dominated(ledger, kept, cap_elites, blocks)) - protected
        kept = [n for n in kept if n not in out]
    if not rules.due(len(blocks)) or len(kept) < 2:
        return kept, np.nan
    verdict = decide(ledger.matrix(kept, blocks), rules.test, rules.confidence)
    return [n for n, stays in zip(kept, verdict.alive, strict=True) if stays or n in protected], verdict.p


def _ranked(ledger: Ledger, numbers: Sequence[int], blocks: Sequence[int], rules: Rules) -> list[int]:
    """The best first; ties in the order given."""
    if len(numbers) < 2 or not blocks:
        return list(numbers)
    ranks = final_ranks(ledger.matrix(numbers, blocks), rules.test if rules.rank_by == "test" else "t")
    return [numbers[i] for i in np.argsort(ranks, kind="stable")]

"""What a tuner must beat: random search with one race at the end of it, and successive halving."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxsci.core.config import between, require
from jaxsci.racing import sampling
from jaxsci.racing.ledger import Blocks, Ledger, Watch
from jaxsci.racing.log import RunLog
from jaxsci.racing.race import Rules, race
from jaxsci.racing.space import Space
from jaxsci.racing.targets.protocol import REJECTED, Target
from jaxsci.racing.tuning import Point, Race, Tuning, entered, finish, header, initial_configurations, require_budget


@dataclass(frozen=True)
class RandomSearch:
    """`budget / blocks` uniform configurations in one F-race that may use all of the budget (Birattari et al. 2002)."""

    budget: int
    rules: Rules = field(default_factory=lambda: Rules(stall=0))
    blocks: int = 10
    deterministic: bool = False

    def __post_init__(self):
        require(self.budget > 0, "budget", "a value above 0", self.budget)
        between(self, "blocks", self.rules.first, 10**6)


@dataclass(frozen=True)
class Halving:
    """Successive halving (Jamieson and Talwalkar 2016): after each rung the better 1 / `factor` by mean cost go on with
    `factor` times the blocks; the first rung has `first` of them.
    """

    budget: int
    factor: int = 3
    first: int = 3
    deterministic: bool = False

    def __post_init__(self):
        require(self.budget > 0, "budget", "a value above 0", self.budget)
        between(self, "factor", 2, 100)
        between(self, "first", 1, 1000)


def random_search(
    space: Space,
    target: Target,
    options: RandomSearch,
    *,
    seed: int,
    log: RunLog | None = None,
    watch: Watch | None = None,
    initial: Sequence[Mapping[str, Any]] = (),
) -> Tuning:
    """Race as many uniform configurations as the budget allows, down to one."""
    require_budget(options.budget, 2 * options.blocks, "two configurations")
    ledger = _ledger(space, target, options, seed, log, watch)
    count = options.budget // options.blocks
    numbers = _drawn(space, ledger, count, seed, initial)
    length = int(min(options.budget, ledger.blocks.count))
    outcome = race(ledger, numbers, range(length), options.rules, budget=options.budget, survivors=1)
    return finish(space, ledger, outcome.survivors, [], [Race("race", tuple(numbers), outcome)], outcome.stop)


def successive_halving(
    space: Space,
    target: Target,
    options: Halving,
    *,
    seed: int,
    log: RunLog | None = None,
    watch: Watch | None = None,
    initial: Sequence[Mapping[str, Any]] = (),
) -> Tuning:
    """One bracket that uses the whole budget: no test, only means on common blocks."""
    ledger = _ledger(space, target, options, seed, log, watch)
    # A rung costs about as much as the next: n first (1 + (f - 1) / f rungs).
    rungs = max(1, math.floor(math.log(max(options.budget / options.first, options.factor), options.factor)) - 1)
    share = 1.0 + (rungs - 1) * (options.factor - 1) / options.factor
    count = int(options.budget / (options.first * share))
    require_budget(options.budget, options.first * options.factor, "one halving")
    alive, done, curve = _drawn(space, ledger, count, seed, initial), 0, []
    while True:
        goal = int(min(max(options.first, done * options.factor), ledger.blocks.count))
        cells = [(n, b) for b in range(done, goal) for n in alive]
        cells = cells[: ledger.left // max(len(alive), 1) * len(alive)]
        if not cells:
            break
        ledger.run(cells)
        done += len(cells) // len(alive)
        means = ledger.matrix(alive, range(done)).mean(0)
        order = [alive[i] for i in np.argsort(means, kind="stable") if means[i] != REJECTED]
        if not order:
            alive = []
            break
        curve.append(Point(ledger.used, order[0]))
        alive = order[: max(1, math.ceil(len(order) / options.factor))]
        if len(alive) == 1 and len(order) == 1:
            break
    return finish(space, ledger, alive, curve, [], f"halved to {len(alive)}")


def _ledger(
    space: Space,
    target: Target,
    options: RandomSearch | Halving,
    seed: int,
    log: RunLog | None,
    watch: Watch | None,
) -> Ledger:
    group = options.rules.block_size if isinstance(options, RandomSearch) else 1
    blocks = Blocks(tuple(target.instances), seed, options.deterministic, group)
    log = log or RunLog(None, header(space, options, seed, blocks.instances))
    return Ledger(target, blocks, options.budget, log, watch)


def _drawn(space: Space, ledger: Ledger, count: int, seed: int, initial: Sequence[Mapping[str, Any]]) -> list[int]:
    given = initial_configurations(space, initial)
    rng = np.random.default_rng([seed, 2, 0])
    taken = {space.key(c) for c in given}
    drawn = sampling.uniform(space, max(count - len(given), 0), rng, taken, sobol=False)
    return [c.number for c in entered(ledger, space, [*given, *drawn])]

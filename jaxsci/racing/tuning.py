"""What every tuner returns, and what all of them share: numbering, elites, the order of blocks, the final selection."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.racing import race as races
from jaxsci.racing.ledger import Ledger
from jaxsci.racing.race import Rules
from jaxsci.racing.sampling import Candidate, first_model
from jaxsci.racing.space import Configuration, Parameter, Space, describe

MOST_RACED_LAST = 8


class Point(NamedTuple):
    """The incumbent after so many runs."""

    used: int
    number: int


class Race(NamedTuple):
    """A race and the iteration it belongs to; `candidates` were new in it."""

    label: str
    candidates: tuple[int, ...]
    outcome: races.Outcome


@dataclass(frozen=True)
class Tuning:
    """`best` is the answer, `elites` the runners-up after it. `result` says in a sentence how it ended."""

    space: Space
    best: Configuration
    elites: tuple[int, ...]
    curve: tuple[Point, ...]
    races: tuple[Race, ...]
    ledger: Ledger
    result: str

    @property
    def number(self) -> int:
        """Number of the best configuration in the log."""
        return self.elites[0]


def header(space: Space, options: Any, seed: int, instances: Sequence[str]) -> dict[str, Any]:
    """What a log is recognised by."""
    return {
        "space": {p.name: _domain(p) for p in space.parameters},
        "forbidden": [expression.source for expression in space.forbidden],
        "options": _plain(options),
        "seed": seed,
        "instances": list(instances),
    }


def entered(
    ledger: Ledger, space: Space, configurations: Sequence[Configuration], parents: Sequence[Candidate] | None = None
) -> list[Candidate]:
    """New candidates with numbers and the model they sample from: their parent's, or the first."""
    model = first_model(space)
    given = [parent.model for parent in parents] if parents else [model] * len(configurations)
    return [Candidate(ledger.enter(c), c, m) for c, m in zip(configurations, given, strict=True)]


def elitist_order(ledger: Ledger, past: Sequence[int], fresh: int, horizon: int, rng: np.random.Generator) -> list[int]:
    """`fresh` new blocks, the past ones in a new random order (whole groups), then `horizon` further ones."""
    start = max(past, default=-1) + 1
    stop = int(min(start + fresh + horizon, ledger.blocks.count))
    new = list(range(start, stop))
    group = ledger.blocks.group
    places = {int(g): place for place, g in enumerate(rng.permutation(sorted({b // group for b in past})))}
    return [*new[:fresh], *sorted(past, key=lambda b: (places[b // group], b)), *new[fresh:]]


def post_selection(ledger: Ledger, finalists: Sequence[int], rules: Rules) -> Race | None:
    """Spend what is left on a race of the finalists: on all past blocks, then on fresh ones (Yuan et al. 2012).

    Every run is used that still makes a whole block; elimination goes on by the same test.
    """
    numbers = list(dict.fromkeys(finalists))[:MOST_RACED_LAST]
    past = sorted({block for _, block in ledger.costs})
    # Blocks that most of them know first, so that the runs go where they complete a row.
    group = ledger.blocks.group
    lacking = Counter(b // group for b in past for _ in ledger.missing(numbers, b))
    past.sort(key=lambda b: (lacking[b // group], b))
    while len(numbers) > 1 and sum(len(ledger.missing(numbers, b)) for b in past[: rules.first]) > ledger.left:
        numbers.pop()
    if len(numbers) < 2:
        return None
    start = max(past, default=-1) + 1
    fresh = range(start, int(min(start + ledger.left + 1, ledger.blocks.count)))
    last = replace(rules, stall=0)
    outcome = races.race(ledger, numbers, [*past, *fresh], last, budget=ledger.left, survivors=1)
    return Race("post-selection", (), outcome) if outcome.steps else None


def finish(
    space: Space, ledger: Ledger, elites: Sequence[int], curve: Sequence[Point], found: Sequence[Race], ended: str
) -> Tuning:
    """The tuning, once its elites are known. Raises `DataError` without any."""
    if not elites:
        raise DataError("target: every configuration was rejected; run one by hand to see why")
    points = [*curve, Point(ledger.used, elites[0])]
    result = f"{ended}; {ledger.used} of {ledger.budget} runs used, {ledger.left} left"
    best = ledger.configurations[elites[0]]
    return Tuning(space, best, tuple(elites), tuple(points), tuple(found), ledger, result)


def initial_configurations(space: Space, given: Sequence[Mapping[str, Any]]) -> list[Configuration]:
    """The user's own configurations, checked against the space. Raises `ConfigError`."""
    return [space.check(configuration, f"initial configuration {i}") for i, configuration in enumerate(given, 1)]


def require_budget(budget: int, least: int, what: str) -> None:
    """Raise `ConfigError`, naming the least budget, unless it is reached."""
    if budget < least:
        raise ConfigError(f"budget: expected at least {least} target runs for {what}, got {budget}")


def _domain(parameter: Parameter) -> str:
    condition = f" if {parameter.condition.source}" if parameter.condition else ""
    log = ", log" if getattr(parameter, "log", False) else ""
    return describe(parameter) + log + condition


def _plain(options: Any) -> Any:
    from jaxsci.core.config import to_mapping

    return to_mapping(options)

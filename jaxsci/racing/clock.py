"""A budget in seconds of target time, turned into runs as irace does with `maxTime`.

Two configurations meet the first blocks, and more of them while a twentieth of the time lasts; what a run took on
average says how many runs the rest of the time pays for. The estimate is made anew before every race from all runs, so
candidates that run longer leave room for fewer of them. Seconds are those of the log, hence the same after a kill.
"""

import math
from collections.abc import Sequence

import numpy as np

from jaxsci.core.errors import ConfigError
from jaxsci.racing import sampling
from jaxsci.racing.ledger import Ledger
from jaxsci.racing.sampling import Candidate
from jaxsci.racing.space import Space
from jaxsci.racing.tuning import entered

ESTIMATION = 0.05
"""Share of the time that the first estimate may take (irace's `budgetEstimation`)."""

LEAST_PROBES = 2


def probe(
    space: Space, ledger: Ledger, max_time: float, first: int, given: Sequence[Candidate], rng: np.random.Generator
) -> list[Candidate]:
    """Run two configurations, those `given` before others, on the `first` blocks, then what else a twentieth of the
    time pays for. Returns all that were run, to be candidates of the first race, and sets the ledger's budget.
    """
    probes = list(given[:LEAST_PROBES])
    probes += _drawn(space, ledger, LEAST_PROBES - len(probes), rng)
    _run(ledger, probes, first)
    more = (ESTIMATION * max_time - spent(ledger)) / (first * per_run(ledger))
    if more >= 1:
        others = list(given[LEAST_PROBES:]) or _drawn(space, ledger, math.floor(more), rng)
        others = others[: math.floor(more)]
        _run(ledger, others, first)
        probes += others
    ledger.budget = affordable(ledger, max_time)
    return probes


def require_time(ledger: Ledger, max_time: float, least: int, what: str) -> None:
    """Raise `ConfigError`, naming the least time, unless it pays for `least` runs."""
    if ledger.budget < least:
        raise ConfigError(
            f"max_time: expected at least {least * per_run(ledger):.3g} s, {least} target runs of "
            f"{per_run(ledger):.3g} s for {what}, got {max_time:g} s"
        )


def spent(ledger: Ledger) -> float:
    """Seconds of all runs so far."""
    return sum(ledger.seconds.values())


def per_run(ledger: Ledger) -> float:
    """Mean seconds of a run."""
    return max(spent(ledger) / max(len(ledger.seconds), 1), 1e-9)


def affordable(ledger: Ledger, max_time: float) -> int:
    """Runs that the whole of the time pays for, those done included, at the mean time of a run so far."""
    return ledger.used + max(0, math.floor((max_time - spent(ledger)) / per_run(ledger)))


def _drawn(space: Space, ledger: Ledger, count: int, rng: np.random.Generator) -> list[Candidate]:
    taken = {space.key(c) for c in ledger.configurations.values()}
    return entered(ledger, space, sampling.uniform(space, max(count, 0), rng, taken))


def _run(ledger: Ledger, candidates: Sequence[Candidate], first: int) -> None:
    cells = [(c.number, block) for c in candidates for block in range(first)]
    ledger.budget = ledger.used + len(cells)
    ledger.run(cells)

"""Iterated racing: irace (Lopez-Ibanez et al. 2016, doi 10.1016/j.orp.2016.09.002) and I/F-Race (Birattari et al.
2010).

    tuning = tune(space, target, Iterated(budget=1000), seed=1)
    tuning.best

Each iteration samples candidates around the elites of the one before, from models that grow narrower, and races them
with the elites. Beyond irace: the first design is a Sobol sequence, candidates are the best of a larger sample by a
cheap model of the log (`pool`), and what the last iteration leaves of the budget goes into a race of the finalists.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxsci.core.config import between, one_of, positive, require
from jaxsci.core.errors import ConfigError
from jaxsci.racing import clock, sampling, surrogate
from jaxsci.racing.budget import Allowance
from jaxsci.racing.ledger import Blocks, Ledger, Watch
from jaxsci.racing.log import RunLog
from jaxsci.racing.race import Rules, race
from jaxsci.racing.sampling import Candidate
from jaxsci.racing.space import Space
from jaxsci.racing.targets.protocol import Target
from jaxsci.racing.tuning import (
    Point,
    Race,
    Tuning,
    elitist_order,
    entered,
    finish,
    header,
    initial_configurations,
    post_selection,
    require_budget,
)

PATIENT, HASTY = 10, 5
"""Values of `mu`. Of the annealing target's tunings by 1000 runs, seven in 24 ended far behind with 5, one with 10."""


@dataclass(frozen=True)
class Iterated:
    """`budget` in target runs, or `max_time` in seconds of target time (`clock`), one of the two.

    - `rule`: irace, or I/F-Race as of 2010 (no elitist races, soft restart or exploration, other numbers).
    - `mu`: runs a candidate gets before it may win, roughly; the more of them, the fewer candidates. By default 10
      where the budget allows it, else irace's own 5.
    - `pool`: how many times as many candidates are sampled as raced, 1 without a model of the log.
    - `explore`: share of the later iterations' candidates that comes from the whole space, or else a label that looked
      bad on the first few blocks would not come back.
    - `design`: of the first iteration. `deterministic` targets see each instance once.
    """

    budget: int | None = None
    rule: Literal["irace", "ifrace2010"] = "irace"
    rules: Rules = field(default_factory=Rules)
    mu: int | None = None
    new_instances: int = 1
    soft_restart: bool = True
    design: Literal["sobol", "uniform"] = "sobol"
    pool: int = 10
    explore: float = 0.2
    post_selection: bool = True
    deterministic: bool = False
    max_time: float | None = None

    def __post_init__(self):
        one_of(self, "rule", ("irace", "ifrace2010"))
        one_of(self, "design", ("sobol", "uniform"))
        require(self.mu is None or 1 <= self.mu <= 1000, "mu", "nothing or a value between 1 and 1000", self.mu)
        between(self, "pool", 1, 1000)
        between(self, "explore", 0.0, 0.9)
        between(self, "new_instances", 0, self.rules.first_test)
        both = f"budget {self.budget} and max_time {self.max_time}"
        require((self.budget is None) != (self.max_time is None), "budget", "either budget or max_time", both)
        positive(self, "budget", "max_time")

    @property
    def elitist(self) -> bool:
        return self.rule == "irace"


class Plan(NamedTuple):
    """One iteration: its number, of how many, the runs it may use and the size of its race."""

    iteration: int
    iterations: int
    budget: int
    candidates: int


def allowance(space: Space, options: Iterated) -> Allowance:
    """The arithmetic of the budget for this space."""
    if options.mu is not None:
        return _allowance(space, options, options.mu)
    patient = _allowance(space, options, PATIENT)
    enough = options.budget is not None and options.budget >= patient.least
    return patient if enough else _allowance(space, options, HASTY)


def _allowance(space: Space, options: Iterated, mu: int) -> Allowance:
    rules = options.rules
    mu = mu if rules.block_size == 1 else max(mu, rules.first)
    return Allowance(space.dimension, rules.first, rules.each, mu, _fresh(options), options.elitist)


def _fresh(options: Iterated) -> int:
    """Fresh blocks of an elitist race, whole groups."""
    size = options.rules.block_size
    return -(-options.new_instances // size) * size


def least_budget(space: Space, options: Iterated) -> int:
    """Target runs below which iterated racing makes no sense."""
    return allowance(space, options).least


def tune(
    space: Space,
    target: Target,
    options: Iterated,
    *,
    seed: int,
    log: RunLog | None = None,
    watch: Watch | None = None,
    initial: Sequence[Mapping[str, Any]] = (),
) -> Tuning:
    """Find a configuration of `space` with a small expected cost over instances and seeds.

    `log` makes the search resumable. `initial` configurations are in the first race. Raises `ConfigError` for a budget
    below `least_budget` and for a space without allowed configurations, `DataError` for a target that always fails.
    """
    least, what = least_budget(space, options), f"{space.dimension} free parameters"
    if options.budget is not None:
        require_budget(options.budget, least, what)
    blocks = Blocks(tuple(target.instances), seed, options.deterministic, options.rules.block_size)
    log = log or RunLog(None, header(space, options, seed, blocks.instances))
    ledger = Ledger(target, blocks, options.budget or 0, log, watch, timed=options.max_time is not None)
    given = entered(ledger, space, initial_configurations(space, initial))
    if options.max_time is not None:
        rng = np.random.default_rng([seed, 5])
        given = clock.probe(space, ledger, options.max_time, options.rules.first, given, rng)
        clock.require_time(ledger, options.max_time, least, what)
    elites: list[Candidate] = []
    curve: list[Point] = []
    found: list[Race] = []
    winners: list[int] = []
    ended, iteration = "", 0
    while True:
        iteration += 1
        if options.max_time is not None:
            ledger.budget = clock.affordable(ledger, options.max_time)
        plan = _plan(space, options, ledger, iteration, elites)
        if plan is None:
            ended = "the budget cannot pay another race"
            break
        fresh, elites = _candidates(space, options, ledger, plan, elites, given, seed)
        if not fresh:
            ended = f"nothing new is left about the elites after {len(ledger.configurations)} configurations"
            break
        outcome = _raced(space, options, ledger, plan, elites, fresh, seed)
        found.append(Race(f"iteration {iteration}", tuple(c.number for c in fresh), outcome))
        known = {c.number: c for c in [*elites, *fresh]}
        elites = [known[n] for n in outcome.survivors[: allowance(space, options).survivors]]
        if not elites:
            break
        winners.append(elites[0].number)
        curve.append(Point(ledger.used, elites[0].number))
    numbers = [c.number for c in elites]
    if options.max_time is not None:
        ledger.budget = clock.affordable(ledger, options.max_time)
    if options.post_selection and numbers:
        last = post_selection(ledger, [*numbers, *reversed(winners)], options.rules)
        if last is not None:
            found.append(last)
            numbers = list(last.outcome.survivors) + [n for n in numbers if n not in last.outcome.survivors]
    return finish(space, ledger, numbers, curve, found, ended or "every configuration was rejected")


def _plan(space: Space, options: Iterated, ledger: Ledger, iteration: int, elites: Sequence[Candidate]) -> Plan | None:
    """`None` once what is left cannot pay a race of more than the surviving elites."""
    numbers = allowance(space, options)
    length = numbers.iterations if options.elitist else 2 + round(math.log2(space.dimension))
    length = max(length, iteration)
    budget = ledger.left // (length - iteration + 1)
    old = len({block for _, block in ledger.costs}) if elites else 0
    if options.elitist:
        count = numbers.candidates(budget, iteration, elites=len(elites), old=old)
        least = numbers.survivors
    else:
        count, least = budget // (5 + iteration), 2 + round(math.log2(space.dimension))
    first = options.rules.first * max(count - len(elites), 0)
    if count <= max(least, len(elites)) or first > ledger.left:
        return None
    if old >= ledger.blocks.count:
        return None
    return Plan(iteration, length, budget, count)


def _candidates(
    space: Space,
    options: Iterated,
    ledger: Ledger,
    plan: Plan,
    elites: list[Candidate],
    given: Sequence[Candidate],
    seed: int,
) -> tuple[list[Candidate], list[Candidate]]:
    """New candidates of the iteration, in the first those `given` too, and the elites with narrower models."""
    rng = np.random.default_rng([seed, 2, plan.iteration])
    taken = {space.key(c) for c in ledger.configurations.values()}
    if not elites:
        first = list(given) if plan.iteration == 1 else []
        wanted = max(plan.candidates - len(first), 0)
        drawn = sampling.uniform(space, wanted, rng, taken, sobol=options.design == "sobol")
        return [*first, *entered(ledger, space, drawn)], []
    fresh = plan.candidates - len(elites)
    narrow = [
        sampling.narrowed(
            space, e, iteration=plan.iteration, iterations=plan.iterations, fresh=fresh, capped=options.elitist
        )
        for e in elites
    ]
    rank = surrogate.ranking(space, ledger) if options.pool > 1 else None
    share = options.explore if options.elitist else 0.0
    wide = sampling.anywhere(space, round(share * fresh), rng, taken, rank, options.pool)
    taken |= {space.key(c) for c in wide}
    drawn, parents = sampling.around(space, narrow, fresh - len(wide), rng, taken, rank, options.pool)
    if options.soft_restart and options.elitist and drawn:
        again = sampling.repeats(space, drawn, [e.configuration for e in elites])
        if again:
            concerned = {parents[i].number for i in again}
            narrow = [sampling.softened(space, e, fresh=fresh) if e.number in concerned else e for e in narrow]
            drawn, parents = sampling.around(space, narrow, fresh - len(wide), rng, taken, rank, options.pool)
    return [*entered(ledger, space, wide), *entered(ledger, space, drawn, parents)], narrow


def _raced(
    space: Space,
    options: Iterated,
    ledger: Ledger,
    plan: Plan,
    elites: Sequence[Candidate],
    fresh: Sequence[Candidate],
    seed: int,
):
    rng = np.random.default_rng([seed, 3, plan.iteration])
    past = sorted({block for _, block in ledger.costs}) if elites else []
    everyone = [c.number for c in [*elites, *fresh]]
    survivors = allowance(space, options).survivors
    if options.elitist:
        order = elitist_order(ledger, past, _fresh(options) if past else 0, ledger.budget, rng)
        return race(
            ledger,
            everyone,
            order,
            options.rules,
            budget=plan.budget,
            survivors=survivors,
            elites=[e.number for e in elites],
            past=set(past),
        )
    order = elitist_order(ledger, past, ledger.budget, 0, rng)[: ledger.budget]
    order = [b for b in order if b not in set(past)]
    if not order:
        raise ConfigError("deterministic: a race of 2010 needs fresh instances each iteration; use rule=irace")
    return race(ledger, everyone, order, options.rules, budget=plan.budget, survivors=survivors)

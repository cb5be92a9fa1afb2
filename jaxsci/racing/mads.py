"""MADS/F-Race (Yuan, Stuetzle, Birattari 2010): mesh adaptive direct search whose poll is decided by a race.

Numbers only. Around the incumbent lie 2 d poll points, the columns of a random lower triangular basis and their
opposites, scaled to the poll size (Audet and Dennis 2006, doi 10.1137/040603371, LTMADS). One F-race compares them with
the incumbent. A better point becomes the incumbent and the mesh grows by 4, otherwise it shrinks by 4.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsci.core.config import between, require
from jaxsci.core.errors import ConfigError
from jaxsci.racing import sampling
from jaxsci.racing.ledger import Blocks, Ledger, Watch
from jaxsci.racing.log import RunLog
from jaxsci.racing.race import Rules, race
from jaxsci.racing.space import Configuration, Space
from jaxsci.racing.targets.protocol import Target
from jaxsci.racing.tuning import (
    Point,
    Race,
    Tuning,
    elitist_order,
    finish,
    header,
    initial_configurations,
    post_selection,
    require_budget,
)


@dataclass(frozen=True)
class Mads:
    """`mesh`: first mesh size on the unit cube. `start`: random configurations in the first race, which the search
    starts from the winner of. `blocks`: of a race at most.
    """

    budget: int
    rules: Rules = field(default_factory=lambda: Rules(stall=3))
    mesh: float = 0.25
    start: int = 10
    blocks: int = 15
    deterministic: bool = False

    def __post_init__(self):
        require(self.budget > 0, "budget", "a value above 0", self.budget)
        between(self, "mesh", 1e-6, 1.0)
        between(self, "start", 2, 1000)
        between(self, "blocks", self.rules.first, 10**6)


def tune(
    space: Space,
    target: Target,
    options: Mads,
    *,
    seed: int,
    log: RunLog | None = None,
    watch: Watch | None = None,
    initial: Sequence[Mapping[str, Any]] = (),
) -> Tuning:
    """Find a configuration with a small expected cost. Raises `ConfigError` for labels among the parameters."""
    for parameter in space.parameters:
        if sampling.is_labels(parameter):
            raise ConfigError(f"mads: expected numbers only, got labels for {parameter.name}; use irace instead")
    first = options.rules.first
    require_budget(options.budget, first * (options.start + 2 * space.dimension + 1), "a first race and one poll")
    blocks = Blocks(tuple(target.instances), seed, options.deterministic, options.rules.block_size)
    log = log or RunLog(None, header(space, options, seed, blocks.instances))
    ledger = Ledger(target, blocks, options.budget, log, watch)
    rng = np.random.default_rng([seed, 2, 0])
    given = initial_configurations(space, initial)
    taken = {space.key(c) for c in given}
    drawn = [*given, *sampling.uniform(space, max(options.start - len(given), 0), rng, taken)]
    numbers = [ledger.enter(c) for c in drawn]
    limit = int(min(options.blocks, blocks.count))
    outcome = race(ledger, numbers, range(limit), options.rules, budget=ledger.left, survivors=1)
    found, curve = [Race("start", tuple(numbers), outcome)], []
    incumbent, winners = (outcome.survivors or (0,))[0], list(outcome.survivors[:1])
    mesh, poll = options.mesh, 0
    while incumbent and mesh > 1e-6:
        curve.append(Point(ledger.used, incumbent))
        poll += 1
        rng = np.random.default_rng([seed, 2, poll])
        points = _poll(space, ledger.configurations[incumbent], mesh, rng)
        known = {space.key(c) for c in ledger.configurations.values()}
        fresh = [c for c in points if space.key(c) not in known]
        if ledger.left < first * (len(fresh) + 1):
            break
        if not fresh:
            mesh /= 4.0
            continue
        numbers = [ledger.enter(c) for c in fresh]
        past = sorted({b for (n, b) in ledger.costs if n == incumbent})
        order = elitist_order(ledger, past, 0, options.blocks, rng)[:limit]
        everyone = [incumbent, *numbers]
        outcome = race(ledger, everyone, order, options.rules, budget=ledger.left, survivors=1)
        found.append(Race(f"poll {poll}", tuple(numbers), outcome))
        improved = bool(outcome.survivors) and outcome.survivors[0] != incumbent
        mesh = min(4.0 * mesh, 1.0) if improved else mesh / 4.0
        if improved:
            incumbent = outcome.survivors[0]
            winners.append(incumbent)
    last = post_selection(ledger, [incumbent, *reversed(winners)], options.rules) if incumbent else None
    if last is not None:
        found.append(last)
        incumbent = last.outcome.survivors[0]
    return finish(space, ledger, [incumbent] if incumbent else [], curve, found, f"{poll} polls, mesh {mesh:.2g}")


def poll_directions(dimension: int, mesh: float, rng: np.random.Generator) -> Float[np.ndarray, "m d"]:
    """2 d directions on the mesh: a lower triangular basis with +-1/sqrt(mesh) on the diagonal, rows and columns
    permuted, and its opposite. Their largest entry is the poll size sqrt(mesh).
    """
    largest = max(1, round(1.0 / np.sqrt(mesh)))
    basis = np.tril(rng.integers(-largest + 1, largest, (dimension, dimension)), -1).astype(float)
    basis[np.diag_indices(dimension)] = largest * rng.choice([-1.0, 1.0], dimension)
    basis = basis[rng.permutation(dimension)][:, rng.permutation(dimension)]
    return mesh * np.concatenate([basis, -basis])


def _poll(space: Space, centre: Configuration, mesh: float, rng: np.random.Generator) -> list[Configuration]:
    unit, active = space.to_unit([centre])
    directions = poll_directions(len(space.parameters), min(mesh, 1.0), rng)
    points = np.clip(unit + np.where(active, directions, 0.0), 0.0, 1.0)
    drawn = space.finished(space.from_unit(points))
    return [c for c, allowed in zip(drawn, space.allowed(drawn), strict=True) if allowed]

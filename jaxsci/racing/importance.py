"""What the log tells about parameters: importance by a forest, marginals, and the path of an ablation.

Importance is the drop in how well a forest of randomised trees (Geurts et al. 2006, doi 10.1007/s10994-006-6226-1)
predicts held-out configurations when one parameter's column is shuffled, as a share of all drops. A race runs good
configurations more often, so it speaks about the neighbourhood of good ones more than about the whole space.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxsci.racing.ledger import Ledger
from jaxsci.racing.space import Configuration, Space, Value
from jaxsci.racing.surrogate import observed

TREES = 64
LEAST_LEAF = 3


@dataclass
class _Node:
    value: float
    feature: int = -1
    cut: float = 0.0
    low: "_Node | None" = None
    high: "_Node | None" = None


def importance(space: Space, ledger: Ledger, *, seed: int = 0) -> dict[str, float]:
    """Shares of parameters, the largest first; all 0 where nothing can be predicted."""
    numbers, means, counts = observed(ledger)
    x = coordinates(space, [ledger.configurations[n] for n in numbers])
    rng = np.random.default_rng(seed)
    drops = np.zeros(len(space.parameters))
    for _ in range(TREES):
        chosen = rng.integers(0, len(x), len(x))
        out = np.setdiff1d(np.arange(len(x)), chosen)
        if len(out) < 2:
            continue
        tree = _grow(x[chosen], means[chosen], counts[chosen], rng)
        error = np.average((_predict(tree, x[out]) - means[out]) ** 2, weights=counts[out])
        for i in range(len(drops)):
            shuffled = x[out].copy()
            shuffled[:, i] = rng.permutation(shuffled[:, i])
            drops[i] += np.average((_predict(tree, shuffled) - means[out]) ** 2, weights=counts[out]) - error
    drops = np.maximum(drops, 0.0)
    shares = drops / drops.sum() if drops.sum() > 0 else drops
    order = np.argsort(-shares, kind="stable")
    return {space.names[i]: float(shares[i]) for i in order}


def coordinates(space: Space, configurations: Sequence[Configuration]) -> Float[np.ndarray, "n d"]:
    """Unit coordinates, -1 where inactive."""
    unit, active = space.to_unit(configurations)
    return np.where(active, unit, -1.0)


class Ablation(NamedTuple):
    """A step from the start towards the goal: the parameters changed, their new values, and the mean cost after it."""

    parameters: tuple[str, ...]
    values: tuple[Value, ...]
    cost: float


def ablation(
    space: Space, ledger: Ledger, start: Configuration, goal: Configuration, blocks: Sequence[int]
) -> list[Ablation]:
    """Change one parameter at a time from `start` to `goal`, always the one that helps most (Fawcett and Hoos 2016).

    Costs are means over `blocks`, run through the ledger. What a changed condition switches on or off changes with it.
    Stops early where the budget of the ledger ends.
    """
    current, path = dict(start), []
    number = ledger.enter(current)
    if len(blocks) > ledger.left:
        return []
    ledger.run([(number, b) for b in blocks])
    path.append(Ablation((), (), float(ledger.matrix([number], blocks).mean())))
    while current != dict(goal):
        options = _towards(space, current, goal)
        fresh = [ledger.enter(option) for _, option in options]
        if not options or len(fresh) * len(blocks) > ledger.left:
            break
        ledger.run([(n, b) for b in blocks for n in fresh])
        means = ledger.matrix(fresh, blocks).mean(0)
        best = int(np.argmin(means))
        changed, current = options[best]
        path.append(Ablation(changed, tuple(current[name] for name in changed), float(means[best])))
    return path


def _towards(
    space: Space, current: Configuration, goal: Configuration
) -> list[tuple[tuple[str, ...], dict[str, Value]]]:
    """Configurations one allowed change nearer to the goal."""
    found = []
    for name in space.names:
        if current[name] == goal[name] or goal[name] is None or current[name] is None:
            continue
        option: dict[str, Value] = {**current, name: goal[name]}
        for i in space.order:  # what is switched on takes the goal's value, what is off has none
            p = space.parameters[i]
            on = bool(space.active(p, space.columns([option]), 1)[0])
            option[p.name] = None if not on else goal[p.name] if option[p.name] is None else option[p.name]
        complete = all(
            option[p.name] is not None or not space.active(p, space.columns([option]), 1)[0] for p in space.parameters
        )
        if complete and space.allowed([option])[0]:
            found.append((tuple(n for n in space.names if option[n] != current[n]), option))
    return found


def _grow(x: np.ndarray, y: np.ndarray, weight: np.ndarray, rng: np.random.Generator) -> _Node:
    node = _Node(float(np.average(y, weights=weight)))
    if len(y) < 2 * LEAST_LEAF:
        return node
    best = 0.0
    total = np.sum(weight * (y - node.value) ** 2)
    for i in rng.permutation(x.shape[1])[: max(2, x.shape[1] // 2)]:
        low, high = x[:, i].min(), x[:, i].max()
        if low == high:
            continue
        cut = rng.uniform(low, high)
        left = x[:, i] <= cut
        if min(left.sum(), (~left).sum()) < LEAST_LEAF:
            continue
        parts = (left, ~left)
        rest = sum(float(np.sum(weight[m] * (y[m] - np.average(y[m], weights=weight[m])) ** 2)) for m in parts)
        if total - rest > best:
            best, node.feature, node.cut = total - rest, int(i), float(cut)
    if node.feature >= 0:
        left = x[:, node.feature] <= node.cut
        node.low = _grow(x[left], y[left], weight[left], rng)
        node.high = _grow(x[~left], y[~left], weight[~left], rng)
    return node


def _predict(node: _Node, x: np.ndarray) -> np.ndarray:
    if node.feature < 0 or node.low is None or node.high is None:
        return np.full(len(x), node.value)
    left = x[:, node.feature] <= node.cut
    found = np.empty(len(x))
    found[left], found[~left] = _predict(node.low, x[left]), _predict(node.high, x[~left])
    return found

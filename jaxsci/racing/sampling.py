"""New candidates around elites: irace's model of truncated normals and discrete distributions, and uniform designs.

Each elite carries its own model: a standard deviation per number (a share of the parameter's current width) and a
probability per label. A new elite starts from the model of the one it was sampled from.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from jaxsci.core.errors import ConfigError
from jaxsci.racing.space import RETRIES, Categorical, Configuration, Ordinal, Parameter, Space, Value

Rank = Callable[[Sequence[Configuration]], np.ndarray]
SAME = 1e-4
"""Numbers closer than this share of their domain are the same to the soft restart."""


@dataclass(frozen=True)
class Candidate:
    """A configuration, the number it has in the log, and the model it would sample from."""

    number: int
    configuration: Configuration
    model: "Model"


class Model(NamedTuple):
    """`sd`: on the unit scale, by name of a number. `p`: probabilities by name of a label parameter."""

    sd: dict[str, float]
    p: dict[str, Float[np.ndarray, " values"]]


def is_labels(parameter: Parameter) -> bool:
    """Whether values are labels without an order."""
    return isinstance(parameter, Categorical) and not isinstance(parameter, Ordinal)


def first_model(space: Space) -> Model:
    """Half the range, and equal probabilities."""
    sd, p = {}, {}
    for parameter in space.parameters:
        if is_labels(parameter):
            assert isinstance(parameter, Categorical)
            p[parameter.name] = np.full(len(parameter.values), 1.0 / len(parameter.values))
        elif isinstance(parameter, Ordinal):
            sd[parameter.name] = 0.5 * (len(parameter.values) - 1) / len(parameter.values)
        else:
            sd[parameter.name] = 0.5
    return Model(sd, p)


def narrowed(space: Space, elite: Candidate, *, iteration: int, iterations: int, fresh: int, capped: bool) -> Candidate:
    """The elite with its model one iteration narrower, `fresh` being the number of candidates to be sampled.

    sd <- sd fresh^(-1/d);  p <- p (1 - (l - 1) / L), the elite's own label + (l - 1) / L, with `capped` no p above
    0.2^(1/d). What is inactive in the elite stays as it is.
    """
    model, d = elite.model, space.dimension
    sd, p = dict(model.sd), dict(model.p)
    share = min((iteration - 1) / iterations, 1.0)
    for parameter in space.parameters:
        value = elite.configuration.get(parameter.name)
        if value is None:
            continue
        if is_labels(parameter):
            assert isinstance(parameter, Categorical)
            updated = p[parameter.name] * (1.0 - share)
            updated[parameter.values.index(str(value))] += share
            if capped:
                updated = np.minimum(updated / updated.sum(), 0.2 ** (1.0 / d))
            p[parameter.name] = updated / updated.sum()
        else:
            sd[parameter.name] *= (1.0 / max(fresh, 1)) ** (1.0 / d)
    return replace(elite, model=Model(sd, p))


def softened(space: Space, elite: Candidate, *, fresh: int) -> Candidate:
    """The elite with its model as it was two iterations back: the soft restart."""
    d = space.dimension
    first = first_model(space)
    sd = {
        name: min(value * max(fresh, 1) ** (2.0 / d), first.sd[name] * max(fresh, 1) ** (-1.0 / d))
        for name, value in elite.model.sd.items()
    }
    p = {name: (raised := 0.9 * value + 0.1 * value.max()) / raised.sum() for name, value in elite.model.p.items()}
    return replace(elite, model=Model(sd, p))


def uniform(
    space: Space, count: int, rng: np.random.Generator, taken: set[tuple[Value, ...]], *, sobol: bool = True
) -> list[Configuration]:
    """`count` different allowed configurations, none of them `taken`, from a scrambled Sobol sequence or at random.

    A small space may have fewer left: then that many. Raises `ConfigError` where every configuration is forbidden.
    """
    d = len(space.parameters)
    sequence = qmc.Sobol(d, scramble=True, rng=rng) if sobol and d <= 1000 else None

    def draw(n: int) -> list[dict[str, Value]]:
        # Whole powers of two keep the sequence balanced; what is beyond n is not used.
        unit = sequence.random(1 << max(n - 1, 0).bit_length())[:n] if sequence else rng.random((n, d))
        return space.from_unit(unit)

    return _collect(space, count, draw, taken)


def around(
    space: Space,
    elites: Sequence[Candidate],
    count: int,
    rng: np.random.Generator,
    taken: set[tuple[Value, ...]],
    rank: Rank | None = None,
    pool: int = 10,
) -> tuple[list[Configuration], list[Candidate]]:
    """`count` new configurations and the elite each was sampled from; elite z of E has weight (E - z + 1).

    With `rank`, `pool` times as many are sampled and those that it gives the least values are kept.
    """
    weights = np.arange(len(elites), 0, -1.0)
    parents: dict[tuple[Value, ...], Candidate] = {}

    def draw(n: int) -> list[dict[str, Value]]:
        chosen = rng.choice(len(elites), n, p=weights / weights.sum())
        found = sample_children(space, [elites[i] for i in chosen], rng)
        for configuration, parent in zip(found, chosen, strict=True):
            parents.setdefault(space.key(configuration), elites[parent])
        return found

    drawn = _selected(_collect(space, count * pool if rank else count, draw, taken), count, rank)
    return drawn, [parents.get(space.key(c), elites[0]) for c in drawn]


def anywhere(
    space: Space,
    count: int,
    rng: np.random.Generator,
    taken: set[tuple[Value, ...]],
    rank: Rank | None = None,
    pool: int = 10,
) -> list[Configuration]:
    """`count` new configurations of the whole space; with `rank`, the best of `pool` times as many."""
    if count < 1:
        return []
    return _selected(uniform(space, count * pool if rank else count, rng, taken, sobol=False), count, rank)


def _selected(drawn: list[Configuration], count: int, rank: Rank | None) -> list[Configuration]:
    """The `count` of least rank, in the order drawn."""
    if rank is None or len(drawn) <= count:
        return drawn[:count]
    return [drawn[i] for i in sorted(np.argsort(rank(drawn), kind="stable")[:count])]


def sample_children(space: Space, parents: Sequence[Candidate], rng: np.random.Generator) -> list[dict[str, Value]]:
    """One configuration from each parent's model, in the order of the conditions."""
    count, unit = len(parents), rng.random((len(parents), len(space.parameters)))
    columns: dict[str, np.ndarray] = {}
    values = space.columns([parent.configuration for parent in parents])
    for i in space.order:
        parameter, u = space.parameters[i], unit[:, i]
        name = parameter.name
        if is_labels(parameter):
            cumulative = np.cumsum(np.stack([parent.model.p[name] for parent in parents]), axis=1)
            places = np.sum(u[:, None] >= cumulative[:, :-1], axis=1)
            coordinate = (places + 0.5) / cumulative.shape[1]
        else:
            mean = space.encode(parameter, values[name], columns)  # within the child's own bounds
            sd = np.array([parent.model.sd[name] for parent in parents])
            coordinate = np.where(np.isnan(mean), u, truncated_normal(u, np.nan_to_num(mean, nan=0.5), sd))
        columns[name] = space.decode(parameter, coordinate, columns)
    assert all(len(column) == count for column in columns.values())
    return space.rows(columns)


def truncated_normal(
    u: Float[np.ndarray, " n"], mean: Float[np.ndarray, " n"], sd: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Quantiles at `u` of Normal(mean, sd) truncated to [0, 1], mean inside (same law as Robert 1995's sampler)."""
    sd = np.maximum(sd, 1e-12)
    low, high = ndtr((0.0 - mean) / sd), ndtr((1.0 - mean) / sd)
    return np.clip(mean + sd * ndtri(low + u * (high - low)), 0.0, 1.0)


def repeats(space: Space, fresh: Sequence[Configuration], others: Sequence[Configuration]) -> list[int]:
    """Places in `fresh` of configurations the same as another: equal labels, numbers within `SAME` of the domain."""
    everything = [*fresh, *others]
    unit, active = space.to_unit(everything)
    coordinates = np.where(active, unit, -1.0)
    labels = np.array([isinstance(p, Categorical) for p in space.parameters])
    found = []
    for i in range(len(fresh)):
        close = np.abs(coordinates - coordinates[i]) < np.where(labels, 1e-9, SAME)
        if np.sum(close.all(axis=1)) > 1:
            found.append(i)
    return found


def _collect(
    space: Space, count: int, draw: Callable[[int], list[dict[str, Value]]], taken: set[tuple[Value, ...]]
) -> list[Configuration]:
    found: dict[tuple[Value, ...], Configuration] = {}
    permitted = False
    for _ in range(RETRIES):
        drawn = space.finished(draw(max(count - len(found), 8)))
        for configuration, allowed in zip(drawn, space.allowed(drawn), strict=True):
            permitted |= bool(allowed)
            if allowed and len(found) < count:
                key = space.key(configuration)
                if key not in taken:
                    found.setdefault(key, configuration)
        if len(found) >= count:
            break
    if not permitted:
        rules = "; ".join(expression.source for expression in space.forbidden)
        raise ConfigError(f"space: every one of {RETRIES} rounds of samples was forbidden by {rules}; relax a rule")
    return list(found.values())

"""What is tuned: parameters with domains, conditions and forbidden combinations, as columns and on the unit cube.

A configuration is a mapping from every parameter's name to its value, `None` where the parameter is inactive. Many are
`Columns`: an array per parameter, NaN (or None, for labels) where inactive. On the unit cube each parameter is one
coordinate in [0, 1]: real values linearly or by their logarithm, integers and levels by equal cells (an integer v of
[low, high] is the cell [v, v + 1) of [low, high + 1)), as irace samples them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxsci.core.errors import ConfigError
from jaxsci.racing.expressions import Columns, Expression

Value = int | float | str | None
Configuration = Mapping[str, Value]
Bound = int | float | Expression
Repair = Callable[[Configuration], Configuration]

RETRIES = 100
"""Rounds of drawing again what is forbidden, after which a space counts as having nothing left."""


@dataclass(frozen=True)
class Parameter:
    """Common to all parameters: a name, the command-line switch of process targets, and when it is active."""

    name: str
    switch: str = ""
    condition: Expression | None = None


@dataclass(frozen=True)
class Number(Parameter):
    """`low` and `high` are numbers or expressions of other parameters; `log` spreads values by their logarithm."""

    low: Bound = 0.0
    high: Bound = 1.0
    log: bool = False

    def __post_init__(self):
        if isinstance(self.low, Expression) or isinstance(self.high, Expression):
            return
        if self.low > self.high:
            raise ConfigError(f"parameter {self.name}: expected low <= high, got ({self.low:g}, {self.high:g})")
        if self.log and self.low <= 0:
            raise ConfigError(f"parameter {self.name}: a log scale needs a low above 0, got {self.low:g}")


@dataclass(frozen=True)
class Real(Number):
    """Any value between `low` and `high`."""


@dataclass(frozen=True)
class Integer(Number):
    """Whole numbers, both bounds included."""


@dataclass(frozen=True)
class Categorical(Parameter):
    """Labels without an order."""

    values: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.values or len(set(self.values)) < len(self.values):
            raise ConfigError(f"parameter {self.name}: expected different values, got {self.values}")


@dataclass(frozen=True)
class Ordinal(Categorical):
    """Labels from the least to the greatest."""


class Domain(NamedTuple):
    """Bounds of a parameter for each of n configurations, on the scale in which the unit interval is linear."""

    low: Float[np.ndarray, " n"]
    width: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Space:
    """Parameters in any order, forbidden combinations, decimals that real values keep, and a repair of one's own.

    Raises `ConfigError` for two parameters of one name, or conditions and bounds that depend on each other in a circle.
    """

    parameters: tuple[Parameter, ...]
    forbidden: tuple[Expression, ...] = ()
    digits: int | None = None
    repair: Repair | None = None
    order: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        names = [p.name for p in self.parameters]
        if not names:
            raise ConfigError("space: expected at least one parameter, got none")
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"space: parameter '{name}' appears twice")
        graph = {i: [names.index(n) for n in sorted(_depends(p))] for i, p in enumerate(self.parameters)}
        try:
            order = tuple(TopologicalSorter(graph).static_order())
        except CycleError as error:
            circle = " -> ".join(names[i] for i in error.args[1])
            raise ConfigError(f"space: conditions or bounds depend on each other in a circle: {circle}") from None
        object.__setattr__(self, "order", order)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters, in their order."""
        return tuple(p.name for p in self.parameters)

    @property
    def free(self) -> tuple[Parameter, ...]:
        """Parameters with more than one value."""
        return tuple(p for p in self.parameters if not _fixed(p))

    @property
    def dimension(self) -> int:
        """Number of parameters that are free to vary, at least 1."""
        return max(1, len(self.free))

    def columns(self, configurations: Sequence[Configuration]) -> dict[str, np.ndarray]:
        """One array per parameter."""
        found = {}
        for p in self.parameters:
            values = [c.get(p.name) for c in configurations]
            if isinstance(p, Categorical):
                found[p.name] = np.array([None if v is None else str(v) for v in values] + [None], dtype=object)[:-1]
            else:
                found[p.name] = np.array([np.nan if v is None else v for v in values], dtype=float)
        return found

    def rows(self, columns: Columns) -> list[dict[str, Value]]:
        """The inverse of `columns`."""
        count = len(next(iter(columns.values())))
        return [{p.name: _plain(p, columns[p.name][i]) for p in self.parameters} for i in range(count)]

    def from_unit(self, unit: Float[np.ndarray, "n d"]) -> list[dict[str, Value]]:
        """Configurations at points of the unit cube; inactive coordinates are ignored. Forbidden ones stay in."""
        columns: dict[str, np.ndarray] = {}
        for i in self.order:
            p = self.parameters[i]
            columns[p.name] = self.decode(p, unit[:, i], columns)
        return self.rows(columns)

    def to_unit(
        self, configurations: Sequence[Configuration]
    ) -> tuple[Float[np.ndarray, "n d"], Bool[np.ndarray, "n d"]]:
        """Points of the unit cube (0.5 where inactive) and which coordinates are active."""
        columns = self.columns(configurations)
        unit = np.stack([self.encode(p, columns[p.name], columns) for p in self.parameters], axis=1)
        return np.where(np.isnan(unit), 0.5, unit), ~np.isnan(unit)

    def active(self, parameter: Parameter, columns: Columns, count: int) -> Bool[np.ndarray, " n"]:
        """Where the condition holds, given the columns it depends on."""
        if parameter.condition is None:
            return np.ones(count, bool)
        return np.broadcast_to(parameter.condition.holds(columns), (count,))

    def domain(self, parameter: Parameter, columns: Columns, count: int) -> Domain:
        """Low end and width for each configuration, in logarithms for a log scale."""
        if isinstance(parameter, Categorical):
            return Domain(np.zeros(count), np.full(count, float(len(parameter.values))))
        assert isinstance(parameter, Number)
        low, high = (
            np.broadcast_to(np.asarray(b(columns) if isinstance(b, Expression) else b, float), (count,))
            for b in (parameter.low, parameter.high)
        )
        if isinstance(parameter, Integer):
            low, high = np.ceil(low), np.floor(high) + 1.0
        if parameter.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                low, high = np.log(low), np.log(high)
        return Domain(low, high - low)

    def decode(self, parameter: Parameter, unit: Float[np.ndarray, " n"], columns: Columns) -> np.ndarray:
        """Values at unit coordinates, missing where inactive or where a dependent domain is empty."""
        low, width = self.domain(parameter, columns, len(unit))
        on = self.active(parameter, columns, len(unit)) & (width >= 0)
        value = low + np.clip(unit, 0.0, 1.0) * np.where(on, width, 0.0)
        if isinstance(parameter, Categorical):
            places = np.minimum(value.astype(int), len(parameter.values) - 1)
            chosen = np.array([*parameter.values, None], dtype=object)[places]
            chosen[~np.broadcast_to(on, chosen.shape)] = None
            return chosen
        assert isinstance(parameter, Number)
        value = np.exp(value) if parameter.log else value
        bottom, top = (np.exp(low), np.exp(low + width)) if parameter.log else (low, low + width)
        if isinstance(parameter, Integer):
            value = np.clip(np.floor(value + 1e-9), np.round(bottom), np.round(top) - 1)
        else:
            value = np.clip(value if self.digits is None else np.round(value, self.digits), bottom, top)
        return np.where(on, value, np.nan)

    def encode(self, parameter: Parameter, values: np.ndarray, columns: Columns) -> Float[np.ndarray, " n"]:
        """Unit coordinates of values (the middle of a cell), NaN where missing."""
        low, width = self.domain(parameter, columns, len(values))
        if isinstance(parameter, Categorical):
            place = {value: i + 0.5 for i, value in enumerate(parameter.values)}
            number = np.array([place.get(v, np.nan) for v in values], dtype=float)
        else:
            assert isinstance(parameter, Number)
            number = values + 0.5 if isinstance(parameter, Integer) else values.astype(float)
            number = np.log(number) if parameter.log else number
        unit = np.where(width > 0, (number - low) / np.where(width > 0, width, 1.0), np.where(number == number, 0.5, 0))
        return np.where(np.isnan(number), np.nan, np.clip(unit, 0.0, 1.0))

    def allowed(self, configurations: Sequence[Configuration]) -> Bool[np.ndarray, " n"]:
        """Which configurations no forbidden expression holds for."""
        columns = self.columns(configurations)
        allowed = np.ones(len(configurations), bool)
        for expression in self.forbidden:
            allowed &= ~np.broadcast_to(expression.holds(columns), allowed.shape)
        return allowed

    def finished(self, configurations: Sequence[Configuration]) -> list[Configuration]:
        """The configurations after the user's repair."""
        return [self.repair(c) for c in configurations] if self.repair else list(configurations)

    def key(self, configuration: Configuration) -> tuple[Value, ...]:
        """What tells configurations apart."""
        return tuple(configuration.get(name) for name in self.names)

    def check(self, configuration: Configuration, what: str = "configuration") -> dict[str, Value]:
        """The configuration with inactive parameters as `None`. Raises `ConfigError` for what the space forbids."""
        for name in configuration:
            if name not in self.names:
                raise ConfigError(f"{what}: unknown parameter '{name}'; known: {', '.join(self.names)}")
        columns = self.columns([configuration])
        checked: dict[str, Value] = {}
        for i in self.order:
            p = self.parameters[i]
            on, value = bool(self.active(p, columns, 1)[0]), configuration.get(p.name)
            if not on:
                value, columns[p.name] = None, columns[p.name][:0]
                columns[p.name] = self.columns([{}])[p.name]
            elif not self._inside(p, value, columns):
                raise ConfigError(f"{what}: parameter {p.name} is active and expects {describe(p)}, got {value!r}")
            checked[p.name] = value
        if not self.allowed([checked])[0]:
            raise ConfigError(f"{what}: a forbidden expression holds for {checked}")
        return {name: checked[name] for name in self.names}

    def _inside(self, parameter: Parameter, value: Value, columns: Columns) -> bool:
        if isinstance(parameter, Categorical):
            return str(value) in parameter.values
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        low, width = (float(part[0]) for part in self.domain(parameter, columns, 1))
        assert isinstance(parameter, Number)
        number = float(np.log(value)) if parameter.log and value > 0 else float(value)
        tolerance = 1e-9 * max(1.0, abs(low), abs(low + width))
        inside = low - tolerance <= number <= low + width + tolerance
        return inside and (not isinstance(parameter, Integer) or float(value).is_integer())


def describe(parameter: Parameter) -> str:
    """A domain in words, for messages."""
    if isinstance(parameter, Categorical):
        return f"one of {', '.join(parameter.values)}"
    assert isinstance(parameter, Number)
    low, high = (b.source if isinstance(b, Expression) else f"{b:g}" for b in (parameter.low, parameter.high))
    return f"{'a whole number' if isinstance(parameter, Integer) else 'a number'} between {low} and {high}"


def _depends(parameter: Parameter) -> set[str]:
    sources: Iterable[object] = (
        (parameter.condition, parameter.low, parameter.high)
        if isinstance(parameter, Number)
        else (parameter.condition,)
    )
    return {name for source in sources if isinstance(source, Expression) for name in source.names}


def _fixed(parameter: Parameter) -> bool:
    if isinstance(parameter, Categorical):
        return len(parameter.values) == 1
    assert isinstance(parameter, Number)
    return not isinstance(parameter.low, Expression) and parameter.low == parameter.high


def _plain(parameter: Parameter, value: object) -> Value:
    if isinstance(parameter, Categorical):
        return None if value is None else str(value)
    number = float(value)  # type: ignore[arg-type]
    if np.isnan(number):
        return None
    return int(number) if isinstance(parameter, Integer) else number

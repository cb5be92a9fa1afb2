"""ConfigSpace's JSON: read into a `Space` and written back, without the ConfigSpace package.

Understood: uniform floats and integers, categoricals, ordinals, constants; conditions EQ, NEQ, LT, GT, IN, AND, OR;
forbidden clauses EQUALS, IN and AND. The layout is that of ConfigSpace 1.x, whose `format_version` is written.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.core.reading import read_json
from jaxsci.racing.expressions import Expression, parse
from jaxsci.racing.space import Categorical, Integer, Number, Ordinal, Parameter, Real, Space

FORMAT_VERSION = 0.4
_OPERATORS = {"EQ": "==", "NEQ": "!=", "LT": "<", "GT": ">"}


def read(path: str | Path) -> Space:
    """The space of a JSON file. Raises `DataError` with what is not understood."""
    content = read_json(path, "ConfigSpace JSON")
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected ConfigSpace JSON, an object, got {type(content).__name__}")
    return from_mapping(content, str(path))


def from_mapping(content: Mapping[str, Any], source: str = "space") -> Space:
    """The space of parsed JSON."""
    entries = content.get("hyperparameters")
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{source}: expected a list 'hyperparameters', got {type(entries).__name__}")
    try:
        names = {str(entry.get("name")) for entry in entries}
        conditions: dict[str, list[str]] = {}
        for entry in content.get("conditions", []):
            conditions.setdefault(str(entry.get("child")), []).append(_condition(entry, source))
        parameters = tuple(_parameter(e, conditions.get(str(e.get("name")), []), names, source) for e in entries)
        forbidden = tuple(parse(_clause(entry, source), names) for entry in content.get("forbiddens", []))
        return Space(parameters, forbidden)
    except ConfigError as error:
        raise DataError(f"{source}: {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise DataError(f"{source}: not as ConfigSpace writes it, something lacks or misstates {error}") from None


def to_mapping(space: Space, name: str = "jaxsci") -> dict[str, Any]:
    """The JSON of a space. Raises `ConfigError` for what ConfigSpace cannot say: dependent bounds, comparisons."""
    return {
        "name": name,
        "hyperparameters": [_entry(parameter) for parameter in space.parameters],
        "conditions": [
            {"child": p.name, **_written(p.condition.tree, p.condition.source)} for p in space.parameters if p.condition
        ],
        "forbiddens": [_forbidden(expression) for expression in space.forbidden],
        "python_module_version": "1.2.1",
        "format_version": FORMAT_VERSION,
    }


def _parameter(entry: Mapping[str, Any], conditions: Sequence[str], names: set[str], source: str) -> Parameter:
    name, kind = str(entry.get("name")), str(entry.get("type"))
    condition = parse(" & ".join(f"({c})" for c in conditions), names) if conditions else None
    try:
        match kind.removeprefix("uniform_"):
            case "float" | "int":
                cls = Real if kind.endswith("float") else Integer
                low, high, log = float(entry["lower"]), float(entry["upper"]), bool(entry.get("log", False))
                return cls(name, condition=condition, low=low, high=high, log=log)
            case "categorical":
                return Categorical(name, condition=condition, values=_labels(entry["choices"]))
            case "ordinal":
                return Ordinal(name, condition=condition, values=_labels(entry.get("sequence") or entry["values"]))
            case "constant" | "unparametrized":
                return Categorical(name, condition=condition, values=_labels([entry["value"]]))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{source}: hyperparameter '{name}' lacks or misstates {error}") from None
    known = "uniform_float, uniform_int, categorical, ordinal, constant"
    raise DataError(f"{source}: hyperparameter '{name}': expected a type among {known}, got '{kind}'")


def _labels(values: Sequence[Any]) -> tuple[str, ...]:
    return tuple(_label(value) for value in values)


def _label(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _literal(value: Any) -> str:
    return f'"{_label(value)}"' if isinstance(value, str | bool) else f"{value:.15g}"


def _condition(entry: Mapping[str, Any], source: str) -> str:
    kind = str(entry.get("type"))
    if kind in ("AND", "OR"):
        sign = " & " if kind == "AND" else " | "
        return sign.join(f"({_condition(part, source)})" for part in entry["conditions"])
    if kind == "IN":
        return f"{entry['parent']} %in% c({', '.join(_literal(v) for v in entry['values'])})"
    if kind in _OPERATORS:
        return f"{entry['parent']} {_OPERATORS[kind]} {_literal(entry['value'])}"
    raise DataError(f"{source}: expected a condition of type EQ, NEQ, LT, GT, IN, AND or OR, got '{kind}'")


def _clause(entry: Mapping[str, Any], source: str) -> str:
    kind = str(entry.get("type"))
    if kind == "AND":
        return " & ".join(f"({_clause(part, source)})" for part in entry["clauses"])
    if kind == "EQUALS":
        return f"{entry['name']} == {_literal(entry['value'])}"
    if kind == "IN":
        return f"{entry['name']} %in% c({', '.join(_literal(v) for v in entry['values'])})"
    raise DataError(f"{source}: expected a forbidden clause of type EQUALS, IN or AND, got '{kind}'")


def _entry(parameter: Parameter) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": parameter.name}
    if isinstance(parameter, Ordinal):
        return entry | {"type": "ordinal", "sequence": list(parameter.values), "default_value": parameter.values[0]}
    if isinstance(parameter, Categorical):
        values = list(parameter.values)
        return entry | {"type": "categorical", "choices": values, "weights": None, "default_value": values[0]}
    assert isinstance(parameter, Number)
    if isinstance(parameter.low, Expression) or isinstance(parameter.high, Expression):
        raise ConfigError(f"parameter {parameter.name}: ConfigSpace has no bounds that depend on other parameters")
    whole = isinstance(parameter, Integer)
    low, high = (int(b) if whole else float(b) for b in (parameter.low, parameter.high))
    middle = (low * high) ** 0.5 if parameter.log else (low + high) / 2
    default = int(middle) if whole else middle
    kind = "uniform_int" if whole else "uniform_float"
    return entry | {"type": kind, "lower": low, "upper": high, "default_value": default, "log": parameter.log}


def _written(tree: tuple[Any, ...], source: str) -> dict[str, Any]:
    """A condition without its child."""
    signs = {sign: kind for kind, sign in _OPERATORS.items()}
    if tree[0] == "operator" and tree[1] in ("&", "|"):
        parts = [_written(part, source) for part in tree[2:]]
        return {"type": "AND" if tree[1] == "&" else "OR", "conditions": parts}
    if tree[0] == "operator" and tree[2][0] == "name":
        _, operator, (_, parent), right = tree
        if operator == "%in%" and right[0] == "call":
            return {"parent": parent, "type": "IN", "values": [value for _, value in right[2:]]}
        if operator in signs and right[0] == "constant":
            return {"parent": parent, "type": signs[operator], "value": right[1]}
    raise ConfigError(f"condition '{source}': ConfigSpace compares one parameter with a constant")


def _forbidden(expression: Expression) -> dict[str, Any]:
    def clause(tree: tuple[Any, ...]) -> dict[str, Any]:
        if tree[0] == "operator" and tree[1] == "&":
            return {"type": "AND", "clauses": [clause(part) for part in tree[2:]]}
        if tree[0] == "operator" and tree[2][0] == "name":
            _, operator, (_, name), right = tree
            if operator == "==" and right[0] == "constant":
                return {"name": name, "type": "EQUALS", "value": right[1]}
            if operator == "%in%" and right[0] == "call":
                return {"name": name, "type": "IN", "values": [value for _, value in right[2:]]}
        raise ConfigError(f"forbidden '{expression.source}': ConfigSpace forbids equalities only")

    return clause(expression.tree)

"""From a plain mapping (YAML, command line) to a frozen dataclass, refusing whatever does not belong.

`build(cls, mapping)` checks names, types and, through each class's `__post_init__`, ranges. Every refusal is one
`ConfigError` line that names the full key, what was expected and what came. No string is ever evaluated and no
import path is ever followed: what a config can construct is exactly what its annotations name.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypeVar

from jaxsci.core.errors import ConfigError, did_you_mean

T = TypeVar("T")


class Choice:
    """Base of a family of configs told apart by `kind`: `class Linear(Emulator, kind="linear")`.

    A direct subclass opens a family; its own subclasses join it under their `kind`, or, without one, hold what members
    share. A field annotated with the family
    accepts any member: the mapping's `kind` entry selects which.
    """

    kind: ClassVar[str] = ""
    members: ClassVar[dict[str, type]] = {}

    def __init_subclass__(cls, kind: str = "", **rest: Any):
        super().__init_subclass__(**rest)
        if Choice in cls.__bases__:
            cls.members = {}
        elif kind:
            cls.kind = kind
            cls.members[kind] = cls


def build(cls: type[T], mapping: Mapping[str, Any], *, path: str = "") -> T:
    """Construct the dataclass `cls` (or the member of a `Choice` family) from `mapping`.

    `path` is the key prefix used in messages. Raises `ConfigError`.
    """
    if not isinstance(mapping, Mapping):
        raise ConfigError(f"{path or 'config'}: expected a group of keys, got {_show(mapping)}")
    mapping = dict(mapping)
    if issubclass(cls, Choice):
        cls = _member(cls, mapping, path)
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for name in mapping:
        if name not in fields:
            raise ConfigError(f"{_join(path, str(name))}: unknown key{did_you_mean(str(name), fields)}")
    values = {}
    for name, field in fields.items():
        key = _join(path, name)
        if name in mapping:
            values[name] = _convert(hints[name], mapping[name], key)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"{key}: missing; give {key}=<{_describe(hints[name])}>")
    try:
        return cls(**values)
    except ConfigError as error:
        raise ConfigError(_join(path, str(error))) from None


def to_mapping(config: Any) -> Any:
    """The inverse of `build`: nested plain dictionaries, lists and scalars, with the `kind` of each choice."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        kind = {"kind": config.kind} if isinstance(config, Choice) else {}
        return kind | {f.name: to_mapping(getattr(config, f.name)) for f in dataclasses.fields(config) if f.init}
    if isinstance(config, Mapping):
        return {key: to_mapping(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [to_mapping(value) for value in config]
    return config


# Range checks for `__post_init__`. The message starts with the field's name; `build` puts the path before it.


def require(condition: bool, field: str, expected: str, got: Any) -> None:
    """Raise `ConfigError` unless `condition` holds."""
    if not condition:
        raise ConfigError(f"{field}: expected {expected}, got {_show(got)}")


def between(config: Any, field: str, low: float, high: float) -> None:
    """Check `low <= config.field <= high`; `None` passes for optional fields."""
    value = getattr(config, field)
    require(value is None or low <= value <= high, field, f"a value between {low} and {high}", value)


def positive(config: Any, *fields: str) -> None:
    """Check that each named field is greater than zero; `None` passes for optional fields."""
    for field in fields:
        value = getattr(config, field)
        require(value is None or value > 0, field, "a value above 0", value)


def one_of(config: Any, field: str, allowed: Sequence[str]) -> None:
    """Check that `config.field` is one of `allowed`."""
    value = getattr(config, field)
    if value not in allowed:
        require(False, field, f"one of {', '.join(allowed)}", value)


def _member(family: type, mapping: dict[str, Any], path: str) -> type:
    members = family.members  # type: ignore[attr-defined]
    kind = mapping.pop("kind", family.kind or None)  # type: ignore[attr-defined]
    if kind not in members:
        known = ", ".join(sorted(members))
        came = "nothing" if kind is None else _show(kind) + did_you_mean(str(kind), members)
        raise ConfigError(f"{_join(path, 'kind')}: expected one of {known}, got {came}")
    return members[kind]


def _convert(hint: Any, value: Any, key: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, key, hint)
    if origin is Literal:
        if value not in arguments:
            close = did_you_mean(value, map(str, arguments)) if isinstance(value, str) else ""
            raise ConfigError(f"{key}: expected {_describe(hint)}, got {_show(value)}{close if '?' in close else ''}")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, key, hint)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{key}: expected {_describe(hint)}, got {_show(value)}")
        return {str(name): _convert(arguments[1], item, _join(key, str(name))) for name, item in value.items()}
    if isinstance(hint, type) and (dataclasses.is_dataclass(hint) or issubclass(hint, Choice)):
        return build(hint, value, path=key)
    return _convert_scalar(hint, value, key)


def _convert_union(arguments: tuple, value: Any, key: str, hint: Any) -> Any:
    if value is None:
        if type(None) in arguments:
            return None
        raise ConfigError(f"{key}: expected {_describe(hint)}, got nothing")
    options = [option for option in arguments if option is not type(None)]
    if len(options) == 1:
        return _convert(options[0], value, key)
    for option in options:
        try:
            return _convert(option, value, key)
        except ConfigError:
            continue
    raise ConfigError(f"{key}: expected {_describe(hint)}, got {_show(value)}")


def _convert_tuple(arguments: tuple, value: Any, key: str, hint: Any) -> tuple:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ConfigError(f"{key}: expected {_describe(hint)}, got {_show(value)}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_convert(arguments[0], item, f"{key}[{i}]") for i, item in enumerate(value))
    if len(value) != len(arguments):
        raise ConfigError(f"{key}: expected {len(arguments)} values, got {_show(value)}")
    return tuple(_convert(a, item, f"{key}[{i}]") for i, (a, item) in enumerate(zip(arguments, value, strict=True)))


def _convert_scalar(hint: Any, value: Any, key: str) -> Any:
    if hint is Any:
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ConfigError(f"{key}: expected a finite number, got {value}")
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is int and isinstance(value, float) and value.is_integer():  # 1e3 is a float to YAML
        return int(value)
    if hint in (bool, str) and type(value) is hint:
        return value
    raise ConfigError(f"{key}: expected {_describe(hint)}, got {_show(value)}")


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join("null" if option is type(None) else _describe(option) for option in arguments)
    if origin is Literal:
        return "one of " + ", ".join(str(option) for option in arguments)
    if origin is tuple:
        return "a list such as [a,b]"
    if origin is dict or (isinstance(hint, type) and (dataclasses.is_dataclass(hint) or issubclass(hint, Choice))):
        return "a group of keys"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(hint, str(hint))


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name

"""Conditions, forbidden combinations and dependent bounds: small expressions over parameters, as irace writes them.

    temp > 50 & (cool > 0.999 | algorithm %in% c("sa", "rts"))

Parsed into a tree and walked over columns of values; nothing is ever executed. Logic is three-valued as in R: an
inactive parameter is NA (NaN here), a comparison with it is NA, `NA & FALSE` is FALSE and `NA | TRUE` is TRUE.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jaxsci.core.errors import DataError, did_you_mean

Columns = Mapping[str, np.ndarray]
Node = tuple[Any, ...]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)L?"
    r"|(?P<name>[A-Za-z_.][A-Za-z0-9_.]*)"
    r"|\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'"
    r"|(?P<symbol>%in%|%%|%/%|==|!=|<=|>=|&&|\|\||\*\*|[-+*/^<>&|!(),]))"
)
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "floor": np.floor,
    "ceiling": np.ceil,
    "round": np.round,
    "min": np.minimum,
    "max": np.maximum,
}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "%in%")
_SYNONYMS = {"&&": "&", "||": "|", "**": "^", "and": "&", "or": "|", "in": "%in%", "not": "!"}
_POWER = {"|": 1, "&": 2, **dict.fromkeys(_COMPARISONS, 4), "+": 5, "-": 5, "*": 6, "/": 6, "%%": 7, "%/%": 7, "^": 9}
_NOT, _SIGN = 3, 8
_OBJECT = np.dtype(object)
LEVELS = 100
"""Of an expression: each is a call when it is read and when it is evaluated, and Python has a thousand."""


@dataclass(frozen=True)
class Expression:
    """A parsed expression. Called with columns, it gives an array: 1, 0 or NaN where it is logical."""

    source: str
    tree: Node = field(compare=False, repr=False)
    names: frozenset[str]

    def __call__(self, columns: Columns) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(_value(self.tree, columns))

    def holds(self, columns: Columns) -> np.ndarray:
        """Where the expression is true; NA counts as not."""
        return np.asarray(self(columns) == 1)


def parse(source: str, known: frozenset[str] | set[str] | None = None) -> Expression:
    """Read an expression. Raises `DataError` for what is not one, or uses names that are not `known`."""
    tokens = _tokens(source)
    parser = _Parser(source, tokens)
    try:
        tree = parser.expression(0)
        deep = _levels(tree) > LEVELS
    except RecursionError:
        deep = True
    if deep:
        raise DataError(f"expression '{source[:40]}...': nested more than {LEVELS} deep; make it shorter")
    if parser.peek() is not None:
        raise DataError(f"expression '{source}': did not expect '{parser.peek()[1]}'")  # type: ignore[index]
    names = frozenset(parser.names)
    if known is not None:
        for name in sorted(names - known):
            raise DataError(f"expression '{source}': unknown parameter '{name}'{did_you_mean(name, known)}")
    return Expression(source.strip(), tree, names)


def _levels(node: Node) -> int:
    return 1 + max((_levels(part) for part in node if isinstance(part, tuple)), default=0)


class _Parser:
    """Precedence climbing over a list of tokens."""

    def __init__(self, source: str, tokens: list[tuple[str, str]]):
        self.source, self.tokens, self.place = source, tokens, 0
        self.names: set[str] = set()

    def peek(self) -> tuple[str, str] | None:
        return self.tokens[self.place] if self.place < len(self.tokens) else None

    def take(self, symbol: str | None = None) -> tuple[str, str]:
        token = self.peek()
        if token is None or (symbol is not None and token != ("symbol", symbol)):
            came = "the end" if token is None else f"'{token[1]}'"
            raise DataError(f"expression '{self.source}': expected {symbol or 'a value'}, got {came}")
        self.place += 1
        return token

    def expression(self, power: int) -> Node:
        left = self.operand()
        while True:
            token = self.peek()
            if token is None or token[0] != "symbol" or _POWER.get(token[1], 0) <= power:
                return left
            operator = self.take()[1]
            # A power binds to the right, everything else to the left.
            right = self.expression(_POWER[operator] - (operator == "^"))
            left = ("operator", operator, left, right)

    def operand(self) -> Node:
        kind, text = self.take()
        if kind == "number":
            return ("constant", float(text))
        if kind == "text":
            return ("constant", text)
        if kind == "name":
            return self.named(text)
        if text == "(":
            inside = self.expression(0)
            self.take(")")
            return inside
        if text in ("!", "-", "+"):
            return ("unary", text, self.expression(_NOT if text == "!" else _SIGN))
        raise DataError(f"expression '{self.source}': did not expect '{text}'")

    def named(self, name: str) -> Node:
        if self.peek() != ("symbol", "("):
            if name in ("TRUE", "FALSE", "true", "false"):
                return ("constant", float(name.upper() == "TRUE"))
            self.names.add(name)
            return ("name", name)
        if name != "c" and name not in _FUNCTIONS:
            raise DataError(f"expression '{self.source}': unknown function '{name}'{did_you_mean(name, _FUNCTIONS)}")
        self.take("(")
        arguments = [self.expression(0)]
        while self.peek() == ("symbol", ","):
            self.take()
            arguments.append(self.expression(0))
        self.take(")")
        return ("call", name, *arguments)


def _tokens(source: str) -> list[tuple[str, str]]:
    tokens, place = [], 0
    while source[place:].strip():
        match = _TOKEN.match(source, place)
        if match is None:
            raise DataError(f"expression '{source}': cannot read '{source[place:].strip()[:20]}'")
        place, kind = match.end(), match.lastgroup or ""
        text = match.group(kind)
        if kind in ("double", "single"):
            tokens.append(("text", text))
        elif kind != "number" and text in _SYNONYMS:
            tokens.append(("symbol", _SYNONYMS[text]))
        else:
            tokens.append((kind, text))
    return tokens


def _value(node: Node, columns: Columns) -> Any:
    kind = node[0]
    if kind == "constant":
        return node[1]
    if kind == "name":
        return columns[node[1]]
    if kind == "unary":
        inner = _value(node[2], columns)
        return 1.0 - inner if node[1] == "!" else -inner if node[1] == "-" else inner
    if kind == "call":
        values = [_value(argument, columns) for argument in node[2:]]
        if node[1] == "c":
            return values
        result = _FUNCTIONS[node[1]](*values[:2])
        for value in values[2:]:
            result = _FUNCTIONS[node[1]](result, value)
        return result
    operator = node[1]
    left, right = _value(node[2], columns), _value(node[3], columns)
    if operator == "&":
        return np.where((left == 0) | (right == 0), 0.0, np.multiply(left, right))
    if operator == "|":
        return 1.0 - np.where((left == 1) | (right == 1), 0.0, (1.0 - left) * (1.0 - right))
    if operator in _COMPARISONS:
        return _compare(operator, left, right)
    return _arithmetic(operator, left, right)


def _arithmetic(operator: str, left: Any, right: Any) -> Any:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return np.divide(left, right)
        case "%%":
            return np.mod(left, right)
        case "%/%":
            return np.floor_divide(left, right)
        case _:
            return np.power(left, right)


def _compare(operator: str, left: Any, right: Any) -> np.ndarray:
    if operator == "%in%":
        options = right if isinstance(right, list) else [right]
        found = [_compare("==", left, option) for option in options]
        return np.where(_missing(left), np.nan, np.max(np.nan_to_num(np.stack(found)), axis=0))
    missing = _missing(left) | _missing(right)
    if _is_text(left) or _is_text(right):
        left, right = _as_text(left), _as_text(right)
    result = {
        "==": np.equal,
        "!=": np.not_equal,
        "<": np.less,
        "<=": np.less_equal,
        ">": np.greater,
        ">=": np.greater_equal,
    }[operator](left, right)
    return np.where(missing, np.nan, np.asarray(result, float))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) or getattr(value, "dtype", None) == _OBJECT


def _as_text(value: Any) -> np.ndarray:
    """Values as R's as.character shows them: 1, not 1.0."""
    flat = [v if isinstance(v, str) else "" if v is None else f"{v:.15g}" for v in np.atleast_1d(value).ravel()]
    return np.array(flat, dtype=str).reshape(np.shape(value))


def _missing(value: Any) -> np.ndarray:
    if getattr(value, "dtype", None) == _OBJECT:
        return np.array([v is None for v in value.ravel()], dtype=bool).reshape(value.shape)
    return np.asarray(np.isnan(value) if not isinstance(value, str) else False)

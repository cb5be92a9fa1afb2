"""irace's parameter files: read into a `Space` and written back.

    # name     switch      type   domain                     condition
    algorithm  "--alg "    c      (sa, rts)
    t0         "--t0 "     r,log  (0.001, 1)                 | algorithm == "sa"
    tenure     ""          i      (1, "size * 2")

    [forbidden]
    (alpha == 0) & (beta == 0)

    [global]
    digits = 4

Types are c (labels), o (ordered labels), r (real), i (whole number); `,log` for a logarithmic scale. Bounds in quotes
are expressions of other parameters.
"""

import re
from pathlib import Path

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.core.reading import read_text
from jaxsci.racing.expressions import Expression, parse
from jaxsci.racing.space import Bound, Categorical, Integer, Number, Ordinal, Parameter, Real, Space

DIGITS = 4
"""irace's own number of decimals."""

_LINE = re.compile(
    r"""^\s*(?P<name>[A-Za-z_.][A-Za-z0-9_.]*)\s+
    (?P<switch>"[^"]*"|'[^']*')\s+
    (?P<type>[cori])(?P<log>\s*,\s*log)?\s*
    \((?P<domain>(?:[^()"']|"[^"]*"|'[^']*'|\([^()]*\))*)\)\s*
    (?:\|\s*(?P<condition>.+?))?\s*$""",
    re.VERBOSE,
)
_ITEM = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([^,]+?))\s*(?:,|$)""")


def read(path: str | Path) -> Space:
    """The space of a parameter file. Raises `DataError` with the number of a line that cannot be read."""
    return from_text(read_text(path, "an irace parameter file"), str(path))


def from_text(text: str, source: str = "parameters", forbidden: tuple[str, ...] = ()) -> Space:
    """The space of the text of a parameter file, with `forbidden` expressions beside those in it."""
    parameters: list[Parameter] = []
    rules: list[tuple[str, str]] = [("forbidden", rule) for rule in forbidden]
    section, digits = "parameters", DIGITS
    lines = _logical_lines(text)
    names = {m.group("name") for _, line in lines if (m := _LINE.match(line))}
    for number, line in lines:
        where = f"{source}, line {number}"
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip().lower()
            if section not in ("parameters", "forbidden", "global"):
                raise DataError(f"{where}: unknown section [{section}]; known: [forbidden], [global]")
        elif section == "forbidden":
            rules.append((where, line))
        elif section == "global":
            key, _, value = (part.strip() for part in line.partition("="))
            if key != "digits" or not re.fullmatch("[0-9]{1,2}", value):
                raise DataError(f"{where}: expected 'digits = <whole number below 100>', got '{line}'")
            digits = int(value)
        else:
            parameters.append(_parameter(line, names, where))
    try:
        return Space(tuple(parameters), tuple(_parse(rule, names, where) for where, rule in rules), digits)
    except ConfigError as error:
        raise DataError(f"{source}: {error}") from None


def to_text(space: Space, *, sections: bool = True) -> str:
    """The parameter file of a space; `sections` adds [forbidden] and [global], which irace knows from version 4 on."""
    rows = [_written(parameter) for parameter in space.parameters]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join(part.ljust(w) for part, w in zip(row, [*widths, 0], strict=True)).rstrip() for row in rows]
    if sections and space.forbidden:
        lines += ["", "[forbidden]", *(expression.source for expression in space.forbidden)]
    if sections and space.digits is not None:
        lines += ["", "[global]", f"digits = {space.digits}"]
    return "\n".join(lines) + "\n"


def _logical_lines(text: str) -> list[tuple[int, str]]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = re.sub(r"""("[^"]*"|'[^']*')|#.*$""", lambda m: m.group(1) or "", line).strip()
        if bare:
            found.append((number, bare))
    return found


def _parameter(line: str, names: set[str], where: str) -> Parameter:
    match = _LINE.match(line)
    if match is None:
        raise DataError(f"{where}: expected 'name \"switch\" type (domain) [| condition]', got '{line}'")
    name, kind = match["name"], match["type"]
    items = [next(part for part in found if part is not None) for found in _items(match["domain"])]
    quoted = [found[2] is None for found in _items(match["domain"])]
    condition = match["condition"]
    common = {
        "name": name,
        "switch": match["switch"][1:-1],
        "condition": None if condition in (None, "TRUE") else _parse(condition, names, where),
    }
    if kind in "co":
        if match["log"]:
            raise DataError(f"{where}: a log scale needs numbers, {name} has labels")
        if not items:
            raise DataError(f"{where}: expected at least one value for {name}, got none")
        return _made(Categorical if kind == "c" else Ordinal, where, **common, values=tuple(items))
    if len(items) != 2:
        raise DataError(f"{where}: expected two bounds for {name}, got ({match['domain'].strip()})")
    low, high = (_bound(item, q, names, where) for item, q in zip(items, quoted, strict=True))
    return _made(Real if kind == "r" else Integer, where, **common, low=low, high=high, log=bool(match["log"]))


def _made(cls: type, where: str, **fields: object) -> Parameter:
    try:
        return cls(**fields)
    except ConfigError as error:
        raise DataError(f"{where}: {error}") from None


def _items(domain: str) -> list[tuple[str | None, str | None, str | None]]:
    return [(m[1], m[2], m[3]) for m in _ITEM.finditer(domain) if m[0].strip()]


def _bound(text: str, quoted: bool, names: set[str], where: str) -> Bound:
    try:
        return float(text)
    except ValueError:
        if not quoted and not re.search(r"[A-Za-z]", text):
            raise DataError(f"{where}: expected a number or an expression in quotes, got '{text}'") from None
        return _parse(text, names, where)


def _parse(text: str, names: set[str], where: str) -> Expression:
    try:
        return parse(text, names)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def _written(parameter: Parameter) -> tuple[str, str, str, str, str]:
    condition = f"| {parameter.condition.source}" if parameter.condition else ""
    if isinstance(parameter, Categorical):
        kind = "o" if isinstance(parameter, Ordinal) else "c"
        domain = ", ".join(v if re.fullmatch(r"[\w.+-]+", v) else f'"{v}"' for v in parameter.values)
    else:
        assert isinstance(parameter, Number)
        kind = ("i" if isinstance(parameter, Integer) else "r") + (",log" if parameter.log else "")
        bounds = (parameter.low, parameter.high)
        domain = ", ".join(f'"{b.source}"' if isinstance(b, Expression) else f"{b:.15g}" for b in bounds)
    return parameter.name, f'"{parameter.switch}"', kind, f"({domain})", condition

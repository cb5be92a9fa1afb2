"""Travelling salesman: TSPLIB95 files (Reinelt 1991) as distance matrices, with the optimum where a list tells it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from jaxsci.core.errors import DataError
from jaxsci.core.reading import read_text

MATRICES = ("FULL_MATRIX", "UPPER_ROW", "LOWER_ROW", "UPPER_DIAG_ROW", "LOWER_DIAG_ROW")
PLANAR = ("EUC_2D", "CEIL_2D", "ATT", "GEO")
MOST = 20_000  # cities; their distances are 3 GB
LARGEST = 1e12  # a tour of a million such distances is still a 64-bit integer
_RADIUS = 6378.388  # km; TSPLIB's earth
_PI = 3.141592  # as TSPLIB has it


@dataclass(frozen=True, eq=False)
class TspInstance:
    """`distance` holds whole numbers; `optimum` is `None` where not known."""

    name: str
    distance: Int[np.ndarray, "n n"]
    optimum: int | None

    @property
    def size(self) -> int:
        """Number of cities."""
        return len(self.distance)

    @property
    def reference(self) -> float:
        """What tours are measured against: the optimum, or else the nearest neighbour tour from the first city."""
        if self.optimum:
            return float(self.optimum)
        return float(max(length(self, nearest_neighbour(self.distance)), 1))

    def gap(self, cost: np.ndarray | int | float) -> np.ndarray:
        """Per cent above `reference`."""
        return np.asarray(100.0 * (np.asarray(cost, float) - self.reference) / self.reference)


def length(instance: TspInstance, tour: Int[np.ndarray, "... n"]) -> Int[np.ndarray, "..."]:
    """Exact length of closed tours (cities counted from 0)."""
    tour = np.asarray(tour)
    return np.asarray(instance.distance[tour, np.roll(tour, -1, axis=-1)].sum(-1))


def nearest_neighbour(distance: Int[np.ndarray, "n n"], start: int = 0) -> Int[np.ndarray, " n"]:
    """The greedy tour from `start`."""
    tour, free = [start], np.ones(len(distance), bool)
    free[start] = False
    while free.any():
        tour.append(int(np.argmin(np.where(free, distance[tour[-1]], np.iinfo(np.int64).max))))
        free[tour[-1]] = False
    return np.array(tour)


def load(path: str | Path) -> TspInstance:
    """Read one symmetric instance. Raises `DataError` with the line that is wrong."""
    path = Path(path)
    lines = read_text(path, "a TSPLIB file").splitlines()
    keys, sections = _sections(path, lines)
    try:
        n = int(keys["DIMENSION"])
        if not 1 <= n <= MOST:
            raise ValueError(n)
    except (KeyError, ValueError):
        came = keys.get("DIMENSION", "none")
        raise DataError(f"{path}: expected 'DIMENSION: <whole number from 1 to {MOST}>', got {came}") from None
    kind = keys.get("EDGE_WEIGHT_TYPE", "")
    if kind == "EXPLICIT":
        distance = _matrix(path, keys.get("EDGE_WEIGHT_FORMAT", ""), sections.get("EDGE_WEIGHT_SECTION", []), n)
    elif kind in PLANAR:
        tokens = sections.get("NODE_COORD_SECTION", [])
        rows = _numbers(path, tokens, 3 * n, "NODE_COORD_SECTION").reshape(n, 3)
        distance = distances(rows[:, 1:], kind)
    else:
        known = ", ".join((*PLANAR, "EXPLICIT"))
        raise DataError(f"{path}: expected EDGE_WEIGHT_TYPE among {known}, got '{kind}'")
    return TspInstance(path.stem, distance, _optima(path.parent).get(path.stem))


def load_folder(folder: str | Path) -> tuple[TspInstance, ...]:
    """Every `*.tsp` of a folder, by name. Raises `DataError` where there is none."""
    files = sorted(Path(folder).glob("*.tsp"))
    if not files:
        raise DataError(f"{folder}: expected a folder with TSPLIB files (*.tsp), found none")
    return tuple(load(file) for file in files)


def distances(xy: Float[np.ndarray, "n 2"], kind: str) -> Int[np.ndarray, "n n"]:
    """Whole-number distances of one of TSPLIB's kinds, zero on the diagonal."""
    if kind == "GEO":
        degrees = np.trunc(xy)
        radians = _PI * (degrees + 5.0 * (xy - degrees) / 3.0) / 180.0
        latitude, longitude = radians[:, 0], radians[:, 1]
        q1 = np.cos(longitude[:, None] - longitude[None])
        q2 = np.cos(latitude[:, None] - latitude[None])
        q3 = np.cos(latitude[:, None] + latitude[None])
        arc = np.arccos(np.clip(0.5 * ((1.0 + q1) * q2 - (1.0 - q1) * q3), -1.0, 1.0))
        found = np.trunc(_RADIUS * arc + 1.0)
    else:
        square = np.sum((xy[:, None] - xy[None]) ** 2, axis=-1)
        if kind == "ATT":
            r = np.sqrt(square / 10.0)
            found = np.floor(r + 0.5)
            found = np.where(found < r, found + 1.0, found)
        else:
            found = np.ceil(np.sqrt(square)) if kind == "CEIL_2D" else np.floor(np.sqrt(square) + 0.5)
    found = found.astype(np.int64)
    np.fill_diagonal(found, 0)
    return found


def _sections(path: Path, lines: list[str]) -> tuple[dict[str, str], dict[str, list[tuple[int, str]]]]:
    """`KEY : value` pairs, and the words of each section with their lines."""
    keys: dict[str, str] = {}
    sections: dict[str, list[tuple[int, str]]] = {}
    current: list[tuple[int, str]] | None = None
    for number, line in enumerate(lines, 1):
        text = line.strip()
        match = re.match(r"^([A-Z_0-9]+)\s*(?::\s*(.*))?$", text)
        if text == "EOF":
            break
        if match and (match[1].endswith("_SECTION") or match[2] is not None):
            current = None
            if match[1].endswith("_SECTION"):
                current = sections.setdefault(match[1], [])
            else:
                keys[match[1]] = match[2].strip()
        elif current is not None:
            current.extend((number, word) for word in text.split())
        elif text:
            raise DataError(f"{path}, line {number}: expected 'KEY: value' or a section, got '{text[:40]}'")
    return keys, sections


def _numbers(path: Path, tokens: Iterable[tuple[int, str]], count: int, section: str) -> Float[np.ndarray, " m"]:
    values, line = [], 0
    for line, word in tokens:  # noqa: B007 - the last line is told in the message below
        try:
            values.append(float(word))
        except ValueError:
            raise DataError(f"{path}, line {line}: expected a number, got '{word}'") from None
        if not abs(values[-1]) <= LARGEST:
            raise DataError(f"{path}, line {line}: expected a number up to {LARGEST:g}, got '{word}'")
    if len(values) != count:
        raise DataError(f"{path}, line {line}: expected {count} numbers in {section}, got {len(values)}")
    return np.array(values)


def _matrix(path: Path, form: str, tokens: list[tuple[int, str]], n: int) -> Int[np.ndarray, "n n"]:
    if form not in MATRICES:
        raise DataError(f"{path}: expected EDGE_WEIGHT_FORMAT among {', '.join(MATRICES)}, got '{form}'")
    if form == "FULL_MATRIX":
        return _numbers(path, tokens, n * n, form).reshape(n, n).astype(np.int64)
    offset = 0 if "DIAG" in form else 1
    values = _numbers(path, tokens, n * (n + 1) // 2 - offset * n, form)
    found = np.zeros((n, n), np.int64)
    found[np.triu_indices(n, offset) if form.startswith("UPPER") else np.tril_indices(n, -offset)] = values
    return found + found.T - np.diag(np.diag(found))


def _optima(folder: Path) -> dict[str, int]:
    """`name : optimum` lines of a `solutions.txt` beside the files; remarks after the number are skipped."""
    file = folder / "solutions.txt"
    if not file.is_file():
        return {}
    matches = (
        re.match(r"\s*(\S+)\s*:\s*(\d{1,18})\b", line) for line in read_text(file, "a list of optima").splitlines()
    )
    return {match[1]: int(match[2]) for match in matches if match}

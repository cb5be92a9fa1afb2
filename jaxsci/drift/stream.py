"""A file that grows: new points from a CSV or JSONL file, whole lines only, nothing lost.

CSV starts with a header; JSONL has an object a line. A line that is not finished yet stays unread. What cannot be used
is handed back with its reason: text where a number should be, infinities, times that repeat or go back.
"""

import csv
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from jaxsci.core.config import require
from jaxsci.core.errors import DataError, did_you_mean
from jaxsci.core.files import disk_errors
from jaxsci.core.reading import existing


@dataclass(frozen=True)
class StreamConfig:
    """`time` names the column of times (seconds, or anything that increases); null: there is none.

    `values` are the columns to watch; null: all the numeric ones of the first line. A missing value is an empty cell,
    null or NaN.
    """

    time: str | None = "time"
    values: tuple[str, ...] | None = None

    def __post_init__(self):
        require(self.values is None or len(self.values) > 0, "values", "one column or more", self.values)


class Point(NamedTuple):
    """One usable line: its time, its values, and which of them are there."""

    line: int
    """1-based number of the line in the file."""
    time: float
    values: Float[np.ndarray, " d"]
    known: Bool[np.ndarray, " d"]


class Rejected(NamedTuple):
    """A line that cannot be used, and why."""

    line: int
    reason: str
    text: str


class Tail:
    """Reads what has been added since the last call. `position` is all that has to be kept to go on later."""

    def __init__(self, path: str | Path, config: StreamConfig, position: dict | None = None):
        self.path, self.config = Path(path), config
        existing(path, "a stream", "path")
        start = {"offset": 0, "line": 0, "header": None, "columns": None, "last": None}
        self.position = start | (position or {})
        self.unfinished = 0
        """Bytes of a last line without its end, at the last call."""

    @property
    def columns(self) -> list[str]:
        """Watched columns; empty before the first line."""
        return self.position["columns"] or []

    def read(self, most: int = 1000) -> tuple[list[Point], list[Rejected]]:
        """At most `most` lines. Raises `DataError` where the file got shorter or its columns are not as configured."""
        with disk_errors("read", self.path):
            return self._read(most)

    def _read(self, most: int) -> tuple[list[Point], list[Rejected]]:
        size = self.path.stat().st_size
        if size < self.position["offset"]:
            raise DataError(f"{self.path}: shorter than what was read of it ({size} bytes); was it replaced?")
        points: list[Point] = []
        rejected: list[Rejected] = []
        with self.path.open("rb") as file:
            file.seek(self.position["offset"])
            for _ in range(most):
                raw = file.readline()
                if not raw.endswith(b"\n"):
                    self.unfinished = len(raw)
                    break
                self.position["offset"] += len(raw)
                self.position["line"] += 1
                self._take(raw.decode("utf-8", errors="replace").strip(), points, rejected)
        return points, rejected

    def _take(self, text: str, points: list[Point], rejected: list[Rejected]) -> None:
        line = self.position["line"]
        if not text:
            return
        try:
            record = self._record(text)
            if record is not None:
                points.append(self._point(line, record))
        except _Unusable as reason:
            rejected.append(Rejected(line, str(reason), text))

    def _record(self, text: str) -> dict | None:
        """The line by column; `None` for the header of a CSV file."""
        if self.path.suffix in (".jsonl", ".ndjson"):
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise _Unusable(f"not JSON ({error})") from None
            if not isinstance(record, dict):
                raise _Unusable("expected a JSON object")
        else:
            cells = next(csv.reader(io.StringIO(text)))
            header = self.position["header"]
            if header is None:
                self.position["header"] = cells
                return None
            if len(cells) != len(header):
                raise _Unusable(f"expected {len(header)} fields, got {len(cells)}")
            record = dict(zip(header, cells, strict=True))
        if self.position["columns"] is None:
            self.position["columns"] = self._choose(record)
        return record

    def _choose(self, record: dict) -> list[str]:
        named = [*([self.config.time] if self.config.time else []), *(self.config.values or ())]
        for name in named:
            if name not in record:
                raise DataError(f"{self.path}: no column '{name}'{did_you_mean(name, record)}")
        if self.config.values:
            return list(self.config.values)
        numeric = [name for name, cell in record.items() if name != self.config.time and _is_number(cell)]
        if not numeric:
            raise DataError(f"{self.path}: no numeric column in the first line; name them with stream.values=[...]")
        return numeric

    def _point(self, line: int, record: dict) -> Point:
        time = float(line)
        if self.config.time:
            time = _number(record.get(self.config.time), self.config.time)
            last = self.position["last"]
            if math.isnan(time):
                raise _Unusable(f"no {self.config.time}")
            if last is not None and time <= last:
                raise _Unusable(
                    f"{self.config.time} {'repeats' if time == last else 'goes back'}: {time:g} after {last:g}"
                )
        values = np.array([_number(record.get(name), name) for name in self.columns])
        self.position["last"] = time
        return Point(line, time, np.nan_to_num(values), ~np.isnan(values))


LARGEST = 1e150  # of a value: the squares of larger ones are infinite


class _Unusable(Exception):
    """Why a line cannot be used."""


def _is_number(cell: object) -> bool:
    try:
        return not isinstance(cell, bool) and math.isfinite(float(cell))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False


def _number(cell: object, name: str) -> float:
    """NaN for a missing value."""
    if cell is None or cell == "":
        return math.nan
    try:
        number = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise _Unusable(f"{name}: expected a number, got {cell!r}") from None
    if math.isinf(number):
        raise _Unusable(f"{name} is infinite")
    if abs(number) > LARGEST:
        raise _Unusable(f"{name} is beyond {LARGEST:g}")
    return number

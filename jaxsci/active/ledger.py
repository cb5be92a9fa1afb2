"""What was asked, what it cost, what it taught: one JSON line a request, whole on disk before the next is made."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic

import numpy as np

from jaxsci.active.protocol import R
from jaxsci.core.config import build, to_mapping
from jaxsci.core.errors import ConfigError, DataError
from jaxsci.core.files import disk_errors, write_atomic
from jaxsci.core.reading import read_text


@dataclass(frozen=True)
class Entry(Generic[R]):
    """One request and its outcome.

    - `request`, `cost`, `receipt`: as asked, as charged, and how to recall the answer.
    - `chosen_by`: the strategy, or "start" for the requests every campaign begins with.
    - `scores`: of the model fitted with this answer; empty until that is done.
    - `refused`: why the oracle gave no answer; `None` where it did.
    """

    request: R
    cost: float
    receipt: Mapping[str, Any]
    chosen_by: str
    scores: Mapping[str, float] = field(default_factory=dict)
    refused: str | None = None


class Ledger(Generic[R]):
    """The entries of one campaign, in the order of the requests.

    `kind` is the request's dataclass. With a `path`, every change is on disk, atomically, when the method returns,
    and an existing file is continued. Raises `DataError` for a file that is no ledger of such requests.
    """

    def __init__(self, kind: type[R], path: Path | None = None):
        self._kind, self._path = kind, path
        self._entries: list[Entry[R]] = _read(kind, path) if path is not None else []

    @property
    def entries(self) -> tuple[Entry[R], ...]:
        """Every request so far, in order."""
        return tuple(self._entries)

    @property
    def answered(self) -> tuple[Entry[R], ...]:
        """The entries that brought data."""
        return tuple(entry for entry in self._entries if entry.refused is None)

    def record(self, entry: Entry[R]) -> None:
        """Add an entry."""
        self._entries.append(entry)
        self._write()

    def score(self, scores: Mapping[str, float]) -> None:
        """Note how good the model is that knows the newest answer."""
        newest = max(i for i, entry in enumerate(self._entries) if entry.refused is None)
        self._entries[newest] = replace(self._entries[newest], scores=dict(scores))
        self._write()

    def cost(self) -> float:
        """Spent so far."""
        return float(sum(entry.cost for entry in self._entries))

    def counts(self) -> dict[str, int]:
        """Answers by group."""
        counted: dict[str, int] = {}
        for entry in self.answered:
            counted[entry.request.group] = counted.get(entry.request.group, 0) + 1
        return counted

    def course(self, score: str) -> tuple[np.ndarray, np.ndarray]:
        """Cost spent and score reached, after every request that was followed by a fit. Both of shape (fits,)."""
        spent = np.cumsum([entry.cost for entry in self._entries])
        kept = [i for i, entry in enumerate(self._entries) if score in entry.scores]
        return spent[kept], np.array([self._entries[i].scores[score] for i in kept])

    def _write(self) -> None:
        if self._path is not None:
            lines = [json.dumps(to_mapping(entry), allow_nan=False) for entry in self._entries]
            write_atomic(self._path, "\n".join(lines) + "\n")


def _read(kind: type[R], path: Path) -> list[Entry[R]]:
    with disk_errors("read", path):
        try:
            os.lstat(path)
        except FileNotFoundError:
            return []
    try:
        lines = [json.loads(line) for line in read_text(path, "a ledger").splitlines()]
        return [Entry(**{**line, "request": build(kind, line["request"])}) for line in lines]
    except (ValueError, TypeError, KeyError, RecursionError, ConfigError) as error:
        raise DataError(
            f"{path}: expected a ledger of {kind.__name__}s ({error}); remove it to start the campaign anew"
        ) from None

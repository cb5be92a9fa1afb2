"""Quadratic assignment: instance files, the exact cost of a permutation, and instances padded into arrays.

    C(p) = sum_ij A_ij B_{p_i p_j}        facility i at location p_i, flow A, distance B

Files are QAPLIB's (Burkard, Karisch, Rendl 1997): whitespace-separated whole numbers `n [best_known] A B`, line breaks
without meaning. Whether a best known value follows n is told by the number of tokens, 1 + 2 n^2 or 2 + 2 n^2.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from jaxsci.core.errors import DataError
from jaxsci.core.reading import read_text

LARGEST = 2**62  # costs are 64-bit integers

Matrix = Int[np.ndarray, "n n"]


@dataclass(frozen=True, eq=False)
class QapInstance:
    """`best_known` is the least known cost, `None` where nobody told."""

    name: str
    flow: Matrix
    distance: Matrix
    best_known: int | None

    @property
    def size(self) -> int:
        """Number of facilities."""
        return len(self.flow)

    @property
    def reference(self) -> float:
        """What costs are measured against: the best known value, or else the mean over all permutations."""
        if self.best_known:
            return float(self.best_known)
        return max(mean_cost(self), 1.0)

    def gap(self, cost: np.ndarray | int | float) -> np.ndarray:
        """Per cent above `reference`."""
        return np.asarray(100.0 * (np.asarray(cost, float) - self.reference) / self.reference)


class QapStack(NamedTuple):
    """Instances of one size class, padded with zeros to `width`. With `symmetric`, A and B both are, and costs are
    `scale` times as large where one of them had to be made so.
    """

    flow: Integer[np.ndarray, "instances width width"]
    distance: Integer[np.ndarray, "instances width width"]
    size: Int[np.ndarray, " instances"]
    greedy: Int[np.ndarray, "instances width"]
    scale: float


def cost(instance: QapInstance, permutation: Integer[np.ndarray, "... n"]) -> Int[np.ndarray, "..."]:
    """Exact, in 64-bit integers, for any number of permutations (counted from 0)."""
    p = np.asarray(permutation)
    moved = instance.distance[p[..., :, None], p[..., None, :]]
    return np.asarray(np.sum(instance.flow * moved, axis=(-2, -1)))


def mean_cost(instance: QapInstance) -> float:
    """The mean of the cost over all permutations."""
    a, b, n = instance.flow.astype(float), instance.distance.astype(float), instance.size
    diagonal = np.trace(a) * np.trace(b) / n
    rest = (a.sum() - np.trace(a)) * (b.sum() - np.trace(b)) / max(n * (n - 1), 1)
    return float(diagonal + rest)


def cost_range(instance: QapInstance) -> int:
    """No two permutations differ by more than this (rearrangement inequality)."""
    a, b = np.sort(instance.flow.ravel()), np.sort(instance.distance.ravel())
    return int(a @ b - a @ b[::-1])


def greedy_start(instance: QapInstance) -> Int[np.ndarray, " n"]:
    """The busiest facility at the most central location, and so on down."""
    busiest = np.argsort(-(instance.flow.sum(0) + instance.flow.sum(1)), kind="stable")
    central = np.argsort(instance.distance.sum(0) + instance.distance.sum(1), kind="stable")
    permutation = np.empty(instance.size, int)
    permutation[busiest] = central
    return permutation


def load(path: str | Path) -> QapInstance:
    """Read one file. Raises `DataError` with the line and word that are wrong."""
    path = Path(path)
    text = read_text(path, "a QAPLIB file")
    words = [(number, word) for number, line in enumerate(text.splitlines(), 1) for word in line.split()]
    values = []
    for line, word in words:
        try:
            values.append(int(word))
        except ValueError:
            raise DataError(f"{path}, line {line}: expected a whole number, got '{word}'") from None
        if abs(values[-1]) > LARGEST:
            raise DataError(f"{path}, line {line}: expected whole numbers up to {LARGEST}, got {word}")
    if not values or values[0] < 1:
        raise DataError(f"{path}, line 1: expected the size n first, got {values[0] if values else 'an empty file'}")
    n = values[0]
    header = len(values) - 2 * n * n
    if header not in (1, 2):
        short = len(values) < 1 + 2 * n * n
        where = words[-1][0] if short else words[min(2 + 2 * n * n, len(words) - 1)][0]
        raise DataError(
            f"{path}, line {where}: expected 2 x {n} x {n} numbers after the header, the file "
            f"{'ends after' if short else 'holds'} {len(values) - 1 - (not short)}"
        )
    body = np.array(values[header:], dtype=np.int64).reshape(2, n, n)
    if float(np.abs(body[0]).sum()) * float(np.abs(body[1]).max()) > LARGEST:
        raise DataError(f"{path}: expected costs up to {LARGEST}, flows times distances are larger; scale them down")
    known = values[1] if header == 2 and values[1] >= 0 else _listed(path)
    return QapInstance(path.stem, body[0], body[1], known)


def load_folder(folder: str | Path) -> tuple[QapInstance, ...]:
    """Every `*.dat` of a folder, by name. Raises `DataError` where there is none."""
    files = sorted(Path(folder).glob("*.dat"))
    if not files:
        raise DataError(f"{folder}: expected a folder with QAPLIB files (*.dat), found none")
    return tuple(load(file) for file in files)


def stack(instances: Sequence[QapInstance], width: int) -> tuple[QapStack, bool, bool]:
    """Padded arrays, whether all are symmetric, and whether 64-bit integers are needed."""
    symmetric = all(map(is_symmetric, instances))
    wide = any(4 * cost_range(i) >= 2**31 for i in instances)
    flow, distance = (np.zeros((len(instances), width, width), np.int64) for _ in range(2))
    greedy = np.tile(np.arange(width), (len(instances), 1))
    for place, instance in enumerate(instances):
        n = instance.size
        a, b = instance.flow, instance.distance
        if symmetric:  # C = sum A (B + B') / 2 where A is symmetric, and the other way round
            a, b = (a, b + b.T) if np.array_equal(a, a.T) else (a + a.T, b)
        flow[place, :n, :n], distance[place, :n, :n] = a, b
        greedy[place, :n] = greedy_start(instance)
    sizes = np.array([i.size for i in instances])
    dtype = np.int64 if wide else np.int32
    return (
        QapStack(flow.astype(dtype), distance.astype(dtype), sizes, greedy, 2.0 if symmetric else 1.0),
        symmetric,
        wide,
    )


def is_symmetric(instance: QapInstance) -> bool:
    """Whether one of the matrices is symmetric: the cost then is that of two symmetric ones."""
    return np.array_equal(instance.flow, instance.flow.T) or np.array_equal(instance.distance, instance.distance.T)


def _listed(path: Path) -> int | None:
    """The best known value from an `index.csv` beside the file, if it lists one."""
    index = path.parent / "index.csv"
    if not index.is_file():
        return None
    try:
        for row in csv.DictReader(io.StringIO(read_text(index, "a list of best known values"), newline="")):
            if row.get("name") == path.stem and (row.get("best_known") or "").isdecimal():
                return int(row["best_known"])
    except (csv.Error, ValueError) as error:
        raise DataError(f"{index}: expected a list of best known values ({error})") from None
    return None

"""Folders in the format of the Turing Change Point Dataset: series, five people's annotations, published scores."""

import csv
import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from jaxsci.core.errors import DataError
from jaxsci.core.reading import read_json, read_text


@dataclass(frozen=True)
class Series:
    """One series. `values` is (time, dimension) with 0 where `known` is false; `notes` name what was set aside."""

    name: str
    values: Float[np.ndarray, "t d"]
    known: Bool[np.ndarray, "t d"]
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return bool(self.known.all())

    def standardised(self) -> Float[np.ndarray, "t d"]:
        """Each dimension less its mean over its ddof-1 standard deviation; a constant one becomes zero."""
        return standardise(self.values, self.known)


@dataclass(frozen=True)
class Collection:
    """`annotations` by series and annotator; `published` by series and column; `locations` of the reference."""

    series: tuple[Series, ...]
    annotations: Mapping[str, Mapping[str, Sequence[int]]]
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    locations: Mapping[str, Sequence[int]] = field(default_factory=dict)


def load_collection(path: str | None) -> Collection:
    """Read a folder with `series/*.json` and `annotations.json`; `None` reads the small packaged one.

    `published_scores.csv` and `bocpd_reference_locations.json` are optional. Raises `DataError` naming the file.
    """
    if path is None:
        with resources.as_file(resources.files("jaxsci.drift") / "data" / "tcpd") as folder:
            return _load(folder)
    folder = Path(path)
    if not os.path.isdir(folder / "series"):
        raise DataError(f"data.path: expected a folder with series/*.json and annotations.json, got {path}")
    return _load(folder)


def standardise(values: Float[np.ndarray, "t d"], known: Bool[np.ndarray, "t d"]) -> Float[np.ndarray, "t d"]:
    """Each dimension to mean 0 and sample deviation 1 over its known values; unknown ones become 0, constant
    dimensions all 0.
    """
    count = known.sum(axis=0)
    mean = np.where(known, values, 0).sum(axis=0) / np.maximum(count, 1)
    variance = np.where(known, (values - mean) ** 2, 0).sum(axis=0) / np.maximum(count - 1, 1)
    # Rounding leaves a constant dimension with a spread of 1e-16 of its size.
    constant = np.sqrt(variance) <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
    return np.where(known, values - mean, 0.0) / np.where(constant, 1.0, np.sqrt(np.where(constant, 1.0, variance)))


def _load(folder: Path) -> Collection:
    files = sorted((folder / "series").glob("*.json"))
    if not files:
        raise DataError(f"{folder / 'series'}: expected *.json files, found none")
    series = tuple(_read_series(file) for file in files)
    annotations = _read_json(folder / "annotations.json")
    without = [one.name for one in series if not annotations.get(one.name)]
    if without:
        raise DataError(f"{folder / 'annotations.json'}: no annotations of series '{without[0]}'")
    try:
        marks = {one.name: {str(who): _places(found) for who, found in annotations[one.name].items()} for one in series}
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{folder / 'annotations.json'}: expected series: annotator: a list of places ({error})"
        ) from None
    return Collection(series, marks, _read_scores(folder / "published_scores.csv"), _read_locations(folder))


def _read_series(file: Path) -> Series:
    content = _read_json(file)
    try:
        name, length = str(content["name"]), int(content["n_obs"])
        index = np.asarray(content["time"]["index"], dtype=float)
        raw = [list(dimension["raw"]) for dimension in content["series"]]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{file}: expected name, n_obs, time.index and series[].raw, missing or wrong: {error}"
        ) from None
    if not raw or any(len(column) != length for column in raw) or index.shape != (length,):
        sizes = ", ".join(str(len(column)) for column in raw)
        raise DataError(f"{file}: expected {length} values (n_obs) in every dimension and time index, got {sizes}")
    steps = np.diff(index)
    if not (steps > 0).all():
        where = int(np.flatnonzero(~(steps > 0))[0]) + 1
        kind = "repeats" if steps[where - 1] == 0 else "is before"
        raise DataError(f"{file}: time.index must increase; entry {where} {kind} the one before; sort the series")
    try:
        values = np.array([[math.nan if v is None else float(v) for v in column] for column in raw]).T
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{file}: expected numbers or null in series[].raw ({error})") from None
    notes = []
    infinite = np.argwhere(np.isinf(values))
    if len(infinite):
        notes.append(f"{name}: {len(infinite)} infinite values, the first at index {infinite[0][0]}, taken as missing")
    known = np.isfinite(values)
    for d in range(values.shape[1]):
        if len(np.unique(values[known[:, d], d])) <= 1:
            which = f"dimension {d} is" if values.shape[1] > 1 else "the series is"
            notes.append(f"{name}: {which} constant")
    return Series(name, np.where(known, values, 0.0), known, tuple(notes))


def _read_scores(file: Path) -> dict[str, dict[str, float]]:
    if not os.path.lexists(file):
        return {}
    try:
        rows = list(csv.DictReader(io.StringIO(read_text(file, "a table of scores"), newline="")))
    except csv.Error as error:
        raise DataError(f"{file}: expected a table of scores ({error})") from None
    if not rows or "dataset" not in rows[0]:
        raise DataError(f"{file}: expected a header with 'dataset' and score columns")
    try:
        return {r["dataset"]: {k: float(v) for k, v in r.items() if k != "dataset" and v} for r in rows}
    except (TypeError, ValueError) as error:
        raise DataError(f"{file}: expected numbers or nothing ({error})") from None


def _read_locations(folder: Path) -> dict[str, list[int]]:
    """Reference segmentations; a series on which the reference failed has none."""
    file = folder / "bocpd_reference_locations.json"
    if not os.path.lexists(file):
        return {}
    entries = _read_json(file).get("series", {})
    try:
        return {name: _places(e["locations"]) for name, e in entries.items() if e.get("error") is None}
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{file}: expected series: locations: a list of places ({error})") from None


def _places(found: Any) -> list[int]:
    """Indices of a series. Raises `TypeError` or `ValueError` for anything else."""
    if not isinstance(found, list):
        raise TypeError(f"got {str(found)[:40]}")
    return [int(place) for place in found]


def _read_json(file: Path) -> dict[str, Any]:
    content = read_json(file, "a JSON object")
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected a JSON object")
    return content

"""Regression tables with their fixed test rows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from jaxsci.bayesnas.loaders.npz import read_npz
from jaxsci.core.errors import DataError, did_you_mean
from jaxsci.core.reading import require_array


@dataclass(frozen=True)
class Table:
    """A regression problem; each row of `test` lists the test rows of one split, the others are for training."""

    name: str
    x: Float[np.ndarray, "rows columns"]
    y: Float[np.ndarray, " rows"]
    test: Int[np.ndarray, "splits held_out"]

    def training_rows(self, split: int) -> Int[np.ndarray, " rest"]:
        """Rows that are not in the test of this split."""
        return np.setdiff1d(np.arange(len(self.y)), self.test[split])


def load_tables(path: str, names: tuple[str, ...] = ()) -> list[Table]:
    """The tables of an npz file with `NAME_x`, `NAME_y`, `NAME_test` for each; `names` chooses some (default: all).

    Raises `DataError` for a name that is not there, numbers that are not finite, or test rows out of range.
    """
    content = read_npz(Path(path))
    found = sorted(key.removesuffix("_x") for key in content if key.endswith("_x"))
    if not found:
        raise DataError(f"{path}: expected arrays NAME_x, NAME_y and NAME_test; found {', '.join(sorted(content))}")
    for name in names:
        if name not in found:
            raise DataError(f"data.sets: no '{name}' in {path}{did_you_mean(name, found)}")
    return [_table(path, name, content) for name in (names or found)]


def _table(path: str, name: str, content: dict[str, np.ndarray]) -> Table:
    missing = [f"{name}_{part}" for part in ("y", "test") if f"{name}_{part}" not in content]
    if missing:
        raise DataError(f"{path}: missing {', '.join(missing)} beside {name}_x")
    x, y, test = (content[f"{name}_{part}"] for part in ("x", "y", "test"))
    require_array(path, f"{name}_x", x, "iuf", 2)
    require_array(path, f"{name}_y", y, "iuf", 1)
    require_array(path, f"{name}_test", test, "iu", 2)
    if y.shape != x.shape[:1]:
        raise DataError(
            f"{path}: expected {name}_x (rows, columns), {name}_y (rows,) and {name}_test (splits, rows), "
            f"got {x.shape}, {y.shape}, {test.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError(f"{path}: {name} holds numbers that are not finite; fill or remove those rows")
    if test.size == 0 or test.min() < 0 or test.max() >= len(y):
        came = f"{test.min()} to {test.max()}" if test.size else "none"
        raise DataError(f"{path}: expected row numbers 0 to {len(y) - 1} in {name}_test, got {came}")
    if any(len(np.unique(rows)) == len(y) for rows in test):
        raise DataError(f"{path}: expected rows left for training, {name}_test names all {len(y)} of them")
    return Table(name, x.astype(np.float64), y.astype(np.float64), test.astype(np.int64))


@dataclass(frozen=True)
class Standardised:
    """A split with inputs and target at mean 0 and standard deviation 1 over its training rows.

    A constant column stays 0. `scale` and `shift` take a prediction back: y = scale * prediction + shift.
    """

    x_train: Float[np.ndarray, "train columns"]
    y_train: Float[np.ndarray, " train"]
    x_test: Float[np.ndarray, "test columns"]
    y_test: Float[np.ndarray, " test"]
    scale: float
    shift: float


def standardised(table: Table, split: int) -> Standardised:
    """Split number `split`: columns and target to mean 0 and deviation 1 by the training rows alone; constant columns
    stay as they are.
    """
    train, test = table.training_rows(split), table.test[split]
    mean, std = table.x[train].mean(0), table.x[train].std(0)
    std = np.where(std > 0, std, 1.0)
    shift, scale = float(table.y[train].mean()), float(table.y[train].std())
    scale = scale if scale > 0 else 1.0
    inputs = lambda rows: ((table.x[rows] - mean) / std).astype(np.float32)  # noqa: E731
    target = lambda rows: ((table.y[rows] - shift) / scale).astype(np.float32)  # noqa: E731
    return Standardised(inputs(train), target(train), inputs(test), target(test), scale, shift)

"""npz archives: named arrays, read without executing anything."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path

import numpy as np

from jaxsci.core import reading
from jaxsci.core.errors import DataError


def packaged(name: str) -> AbstractContextManager[Path]:
    """A file of `jaxsci/bayesnas/data` as a path."""
    return resources.as_file(resources.files("jaxsci.bayesnas") / "data" / name)


def read_npz(path: Path, needed: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Every array of the archive. Raises `DataError` where it cannot be read or lacks one of `needed`."""
    content = reading.read_npz(reading.existing(path, "an npz archive", "data.path"))
    missing = [name for name in needed if name not in content]
    if missing:
        raise DataError(f"{path}: missing {', '.join(missing)}; found {', '.join(sorted(content))}")
    return content

"""npz archives: named arrays, read without executing anything."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path

import numpy as np

from jaxsci.core.errors import DataError


def packaged(name: str) -> AbstractContextManager[Path]:
    """A file of `jaxsci/bayesnas/data` as a path."""
    return resources.as_file(resources.files("jaxsci.bayesnas") / "data" / name)


def read_npz(path: Path, needed: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Every array of the archive. Raises `DataError` where it cannot be read or lacks one of `needed`."""
    if not path.is_file():
        raise DataError(f"data.path: no such file: {path}")
    try:
        with np.load(path, allow_pickle=False) as archive:
            content = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib, ValueError and OSError all mean the same to the user
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: not a readable npz file ({reason})") from None
    missing = [name for name in needed if name not in content]
    if missing:
        raise DataError(f"{path}: missing {', '.join(missing)}; found {', '.join(sorted(content))}")
    return content

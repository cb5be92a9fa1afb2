"""The instances that come with the package."""

from importlib import resources
from pathlib import Path
from typing import Literal

from jaxsci.core.errors import DataError
from jaxsci.core.reading import read_text
from jaxsci.racing.targets import qap, tsp


def qap_instances(part: Literal["train", "test"], folder: str | None = None) -> tuple[qap.QapInstance, ...]:
    """Quadratic assignment instances of `folder`, or the package's own for training or test."""
    if folder is not None:
        if not Path(folder).is_dir():
            raise DataError(f"data.{part}: expected a folder with QAPLIB files, got {folder}")
        return qap.load_folder(folder)
    own = resources.files("jaxsci.racing").joinpath("data/qaplib", part)
    return qap.load_folder(str(own))


def tsp_instances(part: Literal["train", "test"], folder: str | None = None) -> tuple[tsp.TspInstance, ...]:
    """Travelling salesman instances of `folder`, or the package's own for training or test."""
    if folder is not None:
        if not Path(folder).is_dir():
            raise DataError(f"data.{part}: expected a folder with TSPLIB files, got {folder}")
        return tsp.load_folder(folder)
    own = resources.files("jaxsci.racing").joinpath("data/tsplib", part)
    return tsp.load_folder(str(own))


def lines(path: str) -> tuple[str, ...]:
    """An instance list: one a line, empty lines and what follows # left out. Raises `DataError` without any."""
    text = read_text(path, "a file with an instance a line")
    found = tuple(bare for line in text.splitlines() if (bare := line.split("#")[0].strip()))
    if not found:
        raise DataError(f"{path}: expected a file with an instance a line, got none")
    return found

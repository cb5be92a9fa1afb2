"""The instances that come with the package."""

from importlib import resources
from pathlib import Path
from typing import Literal

from jaxsci.core.errors import DataError
from jaxsci.racing.targets import qap


def qap_instances(part: Literal["train", "test"], folder: str | None = None) -> tuple[qap.QapInstance, ...]:
    """Quadratic assignment instances of `folder`, or the package's own for training or test."""
    if folder is not None:
        if not Path(folder).is_dir():
            raise DataError(f"data.{part}: expected a folder with QAPLIB files, got {folder}")
        return qap.load_folder(folder)
    own = resources.files("jaxsci.racing").joinpath("data/qaplib", part)
    return qap.load_folder(str(own))

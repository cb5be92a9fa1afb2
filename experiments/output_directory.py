"""The run directory around Hydra, which makes it before the experiment starts: refused early, gone again if unused."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jaxsci.core.files import disk_errors

SWEEP_RECORD = "multirun.yaml"  # Hydra writes it before the first job of a multirun starts


@contextmanager
def made(directory: Path) -> Iterator[None]:
    """`directory` exists inside; afterwards whatever was made here and holds nothing is taken away again.

    Raises `JaxsciError` where the disk refuses it.
    """
    missing = [folder for folder in (directory, *directory.parents) if not os.path.lexists(folder)]
    with disk_errors("create run directory", directory):
        directory.mkdir(parents=True, exist_ok=True)
        before = set(os.listdir(directory))
    try:
        yield
    finally:
        with suppress(FileNotFoundError):  # another process of the same run may have been here first
            if set(os.listdir(directory)) - before == {SWEEP_RECORD}:
                (directory / SWEEP_RECORD).unlink()
        for folder in missing:  # deepest first
            remove_if_empty(folder)


def remove_if_empty(directory: Path) -> None:
    with suppress(OSError):
        directory.rmdir()

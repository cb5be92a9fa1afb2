"""Files from elsewhere, read without executing anything: whatever is wrong with one becomes one line.

A broken archive fails in any layer below in any way, and a hostile one may claim to unpack to terabytes or nest a
million brackets. All of it means the same to whoever gave the file.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from jaxsci.core.errors import DataError

LARGEST_YAML = 200_000  # characters; the parser may take the square of that, and a run's config has a few thousand


def read_npz(path: str | Path) -> dict[str, np.ndarray]:
    """Every array of an npz archive.

    Raises `DataError` for a file that is missing, is no such archive, holds Python objects, or would not fit into the
    memory of this machine.
    """
    path = existing(path, "an npz archive")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            refuse_unpacking(sum(member.file_size for member in archive.zip.infolist()))
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib, numpy, ValueError and OSError all mean the same to the user
        raise DataError(f"{path}: not a readable npz file ({reason(error)})") from None


KINDS = {"f": "numbers with a fraction", "iuf": "numbers", "iu": "whole numbers", "U": "texts"}


def require_array(path: str | Path, name: str, array: np.ndarray, kinds: str, dimensions: int) -> None:
    """Raise `DataError` unless the array holds what its dtype's kind is among (`KINDS`), in so many dimensions."""
    if array.dtype.kind not in kinds or array.ndim != dimensions:
        raise DataError(
            f"{path}: expected '{name}' as {KINDS[kinds]} in {dimensions} dimension{'s' * (dimensions != 1)}, "
            f"got {array.dtype} {array.shape}"
        )


def read_json(path: str | Path, expected: str) -> Any:
    """The content of a JSON file; `expected` completes "expected ...".

    Raises `DataError` for a file that is missing, is no JSON, or nests too deeply.
    """
    try:
        return json.loads(read_text(path, expected))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected {expected} ({reason(error)})") from None


def read_yaml(path: str | Path, expected: str) -> Any:
    """The content of a YAML file: plain values, no tag builds an object. `expected` completes "expected ...".

    Raises `DataError` for a file that is missing, is no YAML, or nests too deeply.
    """
    text = read_text(path, expected)
    if len(text) > LARGEST_YAML:
        raise DataError(f"{path}: expected {expected}, of {LARGEST_YAML:,} characters at most, got {len(text):,}")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: expected {expected} ({reason(error)})") from None


def read_text(path: str | Path, expected: str, encoding: str = "utf-8") -> str:
    """The text of a file; `expected` completes "expected ...".

    Raises `DataError` for a file that is missing, may not be read, or is in another encoding.
    """
    try:
        return existing(path, expected).read_text(encoding=encoding)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected {expected} ({reason(error)})") from None


def existing(path: str | Path, expected: str, name: str = "") -> Path:
    """The path of a regular file: to open a pipe would be to wait for its other end.

    Raises `DataError` for anything else, saying what was `expected`, or the `name` of the key that gives the path.
    """
    path = Path(path)
    try:
        if path.is_file():
            return path
        why = "no such file" if not path.exists() else "no file, but something else"
    except OSError as error:  # such as a folder that may not be entered
        why = error.strerror or type(error).__name__
    raise DataError(f"{name}: {why}: {path}" if name else f"{path}: {why}; expected {expected}")


def refuse_unpacking(claimed: int) -> None:
    """Raise `ValueError` for an archive that claims to unpack to more bytes than this machine has memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if claimed > memory:
        raise ValueError(f"it claims to unpack to {claimed / 1e9:,.0f} GB, this machine has {memory / 1e9:,.0f} GB")


def reason(error: Exception) -> str:
    """The first line of what an error says, or its name where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]

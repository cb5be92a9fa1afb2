"""Files that are either whole or absent, and disk trouble told in one line."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from jaxsci.core.errors import JaxsciError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(action: str, path: Path) -> Iterator[None]:
    """Turn an `OSError` inside (disk full, no permission, no such directory) into a one-line `JaxsciError`.

    `action` completes the sentence "cannot ... <path>", for example `"write"`.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        advice = "free some space or " if error.errno in _FULL else ""
        raise JaxsciError(f"cannot {action} {path}: {reason}; {advice}choose another directory") from error


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` as `open_atomic` does. Text is written as UTF-8."""
    with open_atomic(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def open_atomic(path: Path) -> Iterator[BinaryIO]:
    """A file to write, of which readers, and kills at any moment, find the old version or the new one, both whole.

    The parent directory must exist, and no other process may write the same file. Raises `JaxsciError` when the disk
    refuses.
    """
    with disk_errors("write", path):
        # In the same directory, because a rename is atomic only within one file system.
        temporary = path.with_name(f".{path.name}.unfinished")
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

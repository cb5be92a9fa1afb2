"""One live run per directory."""

import errno
import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from jaxsci.core.errors import JaxsciError
from jaxsci.core.files import disk_errors

_UNSUPPORTED = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


class Lock:
    """A lock file held by the operating system on behalf of this process.

    The kernel lets go of it when the process ends, however it ends, so the lock of a dead run is simply taken
    over. The file holds the pid and start time of its owner, for the message a second run gets.
    """

    def __init__(self, path: Path):
        self._path = path
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock. Raises `JaxsciError` when another live run, here or elsewhere, holds it."""
        with disk_errors("lock", self._path):
            while self._handle is None:
                self._handle = self._attempt()
            os.ftruncate(self._handle, 0)
            started = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            os.pwrite(self._handle, json.dumps({"pid": os.getpid(), "started": started}).encode(), 0)

    def release(self) -> None:
        """Remove the file and let go; harmless when the lock is not held."""
        if self._handle is not None:
            self._path.unlink(missing_ok=True)  # while still held: nobody can lock a file about to vanish
            os.close(self._handle)
            self._handle = None

    def _attempt(self) -> int | None:
        """An open, locked handle; `None` if the file was removed between opening and locking it."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = self._owner()
            os.close(handle)
            raise JaxsciError(
                f"{self._path.parent} is in use by a live run ({owner}); wait for it to end or choose another directory"
            ) from None
        except OSError as error:
            # Some cluster file systems are mounted without locks. The lock guards against a slip; do without.
            if error.errno not in _UNSUPPORTED:
                os.close(handle)
                raise
        try:
            if os.path.samestat(os.fstat(handle), os.stat(self._path)):
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)
        return None

    def _owner(self) -> str:
        try:
            owner = json.loads(self._path.read_text())
            return f"pid {owner['pid']}, started {owner['started']}"
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return "owner unknown"

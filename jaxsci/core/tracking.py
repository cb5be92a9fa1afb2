"""Where logged numbers go: JSON lines and CSV always, TensorBoard and Weights & Biases where installed.

A killed run got further than its last checkpoint, so a resumed one takes some steps again. The first `log` of
each metric after a resume therefore drops, from the files, what that metric had at this step and later: no
step of a metric appears twice, and metrics of a phase already completed stay.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from jaxsci.core.errors import ConfigError, JaxsciError, did_you_mean
from jaxsci.core.files import disk_errors, write_atomic


class Tracker(Protocol):
    """Anything that takes numbers by step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record `metrics` at `step`; on return they survive a kill of the process."""
        ...

    def close(self) -> None:
        """Flush and let go; calling it twice is harmless."""
        ...


class JsonlTracker:
    """One line `{"step": 10, "loss": 0.5}` per call. Strict JSON: NaN and infinities are written as null.

    Without `resumed` the first call starts the file anew. Raises `JaxsciError` when the disk refuses.
    """

    def __init__(self, path: Path, *, resumed: bool = False):
        self._path = path
        self._resumed = resumed
        self._names: set[str] = set()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        new = set(metrics) - self._names
        if new:
            if self._resumed:
                kept = _before(read_jsonl(self._path), step, new)
                write_atomic(self._path, "".join(map(_json_line, kept)))
            elif not self._names:
                write_atomic(self._path, "")
            self._names |= new
        values = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        _append(self._path, _json_line({"step": step} | values))

    def close(self) -> None:
        pass  # every line was flushed when it was written


class CsvTracker:
    """One row per call under a `step` column and one column per metric, blank where a call did not give it.

    A metric first seen late adds its column; the file is then rewritten, atomically. Without `resumed` the
    first call starts the file anew. Raises `JaxsciError` when the disk refuses.
    """

    def __init__(self, path: Path, *, resumed: bool = False):
        self._path = path
        self._resumed = resumed
        self._names: set[str] = set()
        self._columns = ["step"]

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        new = set(metrics) - self._names
        if new:
            rows = _read_csv(self._path) if self._resumed or self._names else []
            if self._resumed:
                rows = _before(rows, step, new)
            # The columns in use come first, then those only an earlier process wrote, then the new ones.
            known = [name for row in rows for name in row]
            self._columns = list(dict.fromkeys([*self._columns, *known, *metrics]))
            header = {name: name for name in self._columns}
            write_atomic(self._path, self._rows([header, *rows]))
            self._names |= new
        _append(self._path, self._rows([{"step": step} | dict(metrics)]))

    def _rows(self, rows: Iterable[Mapping[str, Any]]) -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._columns, restval="", lineterminator="\n").writerows(rows)
        return text.getvalue()

    def close(self) -> None:
        pass  # every row was flushed when it was written


class TensorboardTracker:
    """Event files for TensorBoard, written by tensorboardX. Raises `JaxsciError` when that is not installed.

    Event files only grow: a resumed run draws the steps it takes again on top of themselves.
    """

    def __init__(self, directory: Path):
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise _missing("tensorboard", "tensorboardX") from None
        self._make_writer = SummaryWriter
        self._directory = directory
        self._writer: Any = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        with disk_errors("write TensorBoard events to", self._directory):
            if self._writer is None:
                self._writer = self._make_writer(str(self._directory))
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class WandbTracker:
    """A Weights & Biases run, offline unless the environment variable WANDB_MODE says otherwise.

    Nothing leaves the machine by default; `wandb sync` uploads an offline run later. A resumed run is a
    second wandb run of the same name. Raises `JaxsciError` when wandb is not installed.
    """

    def __init__(self, directory: Path):
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise _missing("wandb", "wandb") from None
        self._wandb: Any = wandb
        self._directory = directory
        self._run: Any = None

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        with disk_errors("write wandb files to", self._directory):
            if self._run is None:
                self._run = self._wandb.init(
                    project="jaxsci",
                    name=self._directory.resolve().name,
                    dir=str(self._directory),
                    mode=os.environ.get("WANDB_MODE", "offline"),
                    settings={"silent": True, "console": "off"},  # stdout and stderr are not its business
                )
                # Our own step, because wandb's must never go back and an experiment has several phases.
                self._run.define_metric("*", step_metric="step")
            self._run.log({"step": step} | dict(metrics))

    def close(self) -> None:
        if self._run is not None:
            self._run.finish()
            self._run = None


class Trackers:
    """Several trackers as one."""

    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = tuple(trackers)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        for tracker in self._trackers:
            tracker.log(step, metrics)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()


KINDS = ("jsonl", "csv", "tensorboard", "wandb")


def build_trackers(kinds: Sequence[str], directory: Path, *, resumed: bool = False) -> Trackers:
    """The trackers named in `kinds`, writing below `directory`. Creates no file before the first `log`.

    Raises `ConfigError` for an unknown kind and `JaxsciError` for one whose package is not installed.
    """
    return Trackers([_build(kind, directory, resumed) for kind in dict.fromkeys(kinds)])


def _build(kind: str, directory: Path, resumed: bool) -> Tracker:
    match kind:
        case "jsonl":
            return JsonlTracker(directory / "metrics.jsonl", resumed=resumed)
        case "csv":
            return CsvTracker(directory / "metrics.csv", resumed=resumed)
        case "tensorboard":
            return TensorboardTracker(directory / "tensorboard")
        case "wandb":
            return WandbTracker(directory)
    raise ConfigError(f"trackers: expected any of {', '.join(KINDS)}, got '{kind}'{did_you_mean(kind, KINDS)}")


def _missing(kind: str, package: str) -> JaxsciError:
    return JaxsciError(f"tracker '{kind}' needs the package {package}; install it with: pip install 'jaxsci[track]'")


def _append(path: Path, text: str) -> None:
    with disk_errors("write", path), path.open("a", encoding="utf-8", newline="") as file:
        file.write(text)


def _json_line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, allow_nan=False) + "\n"


def _before(rows: Iterable[Mapping[str, Any]], step: int, names: set[str]) -> list[Mapping[str, Any]]:
    """The rows that do not give a value to any of `names` at `step` or later."""
    return [row for row in rows if int(row["step"]) < step or not names & row.keys()]


def _whole_lines(path: Path) -> list[str]:
    """The lines of the file, less a last one that a kill cut short; none where there is no file."""
    with disk_errors("read", path):
        text = path.read_text(encoding="utf-8", errors="replace") if os.path.isfile(path) else ""
    return text.split("\n")[:-1]


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows as written; a line that a crash of the machine garbled is dropped."""
    rows = []
    for line in _whole_lines(path):
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            _json_line(row)  # what was garbled into NaN could not be written again
            rows.append(row)
    return [row for row in rows if isinstance(row, dict) and isinstance(row.get("step"), int)]


def _read_csv(path: Path) -> list[dict[str, str]]:
    """Rows without their blank cells; a row that a crash of the machine garbled is dropped."""
    rows = csv.DictReader(_whole_lines(path))
    return [{n: v for n, v in row.items() if n and v} for row in rows if (row.get("step") or "").isdecimal()]

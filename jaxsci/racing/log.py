"""The log of a tuning: every target run as one line of JSON, on disk before its result is used.

    {"header": {...}}                                     what was tuned, to recognise the log by
    {"configuration": 7, "values": {"algorithm": "sa"}}   before its first run
    {"run": 31, "configuration": 7, "instance": "nug30", "seed": 1234, "cost": 1.25, "seconds": null}

Recovery is replay: the algorithm is started again with the same seed, and whatever it asks for that the log knows is
answered from there. So nothing of the algorithm's state needs to be stored, and a killed tuning ends exactly as if it
had never been killed. A last line that a kill tore apart is cut off.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxsci.core.errors import CheckpointError
from jaxsci.core.files import disk_errors
from jaxsci.core.reading import existing
from jaxsci.racing.space import Configuration, Value
from jaxsci.racing.targets.protocol import REJECTED, Job, Outcome

Values = frozenset[tuple[str, Value]]
Key = tuple[Values, str, int]


class LoggedRun(NamedTuple):
    """One line of the log."""

    configuration: int
    instance: str
    seed: int
    outcome: Outcome


class RunLog:
    """Outcomes by configuration, instance and seed; appended to `path`, or kept in memory alone without one.

    `header` says what is tuned. Raises `CheckpointError` where the file belongs to another tuning or is damaged before
    its last line.
    """

    def __init__(self, path: Path | None, header: Mapping[str, Any]):
        self.path = path
        self.configurations: dict[int, Configuration] = {}
        self.runs: list[LoggedRun] = []
        self._known: dict[Key, Outcome] = {}
        self._values: dict[int, tuple[Configuration, Values]] = {}
        self._file = None
        if path is None:
            return
        with disk_errors("write", path):
            content = existing(path, "a run log").read_bytes() if os.path.lexists(path) else b""
            whole = content.rfind(b"\n") + 1
            self._recover(path, content[:whole], header)
            self._file = path.open("r+b" if path.exists() else "w+b")
            self._file.truncate(whole)
            self._file.seek(whole)
        if not whole:
            self._append([{"header": header}])

    def known(self, job: Job) -> Outcome | None:
        """The outcome of the job if it was run before."""
        return self._known.get(self._key(job.number, job.configuration, job.instance, job.seed))

    def record(self, jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> None:
        """Write runs to disk, all or (after a kill) the first few of them."""
        lines: list[dict[str, Any]] = []
        for job, outcome in zip(jobs, outcomes, strict=True):
            if job.number not in self.configurations:
                self.configurations[job.number] = job.configuration
                lines.append({"configuration": job.number, "values": dict(job.configuration)})
            self._note(LoggedRun(job.number, job.instance, job.seed, outcome))
            lines.append(_line(len(self.runs), job, outcome))
        self._append(lines)

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _note(self, run: LoggedRun) -> None:
        self.runs.append(run)
        key = self._key(run.configuration, self.configurations[run.configuration], run.instance, run.seed)
        self._known[key] = run.outcome

    def _key(self, number: int, configuration: Configuration, instance: str, seed: int) -> Key:
        """Values count, not the number; a configuration's are put together once."""
        kept = self._values.get(number)
        if kept is None or kept[0] is not configuration:
            kept = self._values[number] = configuration, frozenset(configuration.items())
        return kept[1], instance, seed

    def _recover(self, path: Path, content: bytes, header: Mapping[str, Any]) -> None:
        """Take over whole lines. Raises `CheckpointError` with the number of the first that is not an entry."""
        for number, line in enumerate(content.splitlines(), 1):
            try:
                self._read(json.loads(line), header)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                raise CheckpointError(
                    f"{path}, line {number}: expected a line of a run log, got {line[:60]!r}; "
                    "remove the file to start anew"
                ) from None

    def _read(self, entry: dict[str, Any], header: Mapping[str, Any]) -> None:
        if "header" in entry:
            for name, value in json.loads(json.dumps(header)).items():
                found = entry["header"].get(name)
                if found != value:
                    raise CheckpointError(
                        f"{self.path}: the log is of another tuning, its {name} is {_short(found)}, not "
                        f"{_short(value)}; continue with the settings it was started with or choose another file"
                    )
        elif "run" in entry:
            cost = REJECTED if entry["cost"] is None else float(entry["cost"])
            outcome = Outcome(cost, entry.get("seconds"), entry.get("message", ""))
            self._note(LoggedRun(int(entry["configuration"]), str(entry["instance"]), int(entry["seed"]), outcome))
        else:
            self.configurations[int(entry["configuration"])] = dict(entry["values"])

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        if self._file is None or self.path is None:
            return
        with disk_errors("write", self.path):
            self._file.write("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines).encode())
            self._file.flush()
            os.fsync(self._file.fileno())


def read_runs(path: Path) -> tuple[dict[int, Configuration], list[LoggedRun]]:
    """Configurations and runs of a log, whatever was tuned."""
    log = RunLog(None, {})
    with disk_errors("read", path):
        content = existing(path, "a run log").read_bytes()
    log._recover(path, content[: content.rfind(b"\n") + 1], {})
    return log.configurations, log.runs


def _line(number: int, job: Job, outcome: Outcome) -> dict[str, Any]:
    line = {"run": number, "configuration": job.number, "instance": job.instance, "seed": job.seed}
    line |= {"cost": None if outcome.cost == REJECTED else outcome.cost, "seconds": outcome.seconds}
    return line | ({"message": outcome.message} if outcome.message else {})


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."

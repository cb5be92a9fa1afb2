"""Experiments run as processes of their own: each with its own precision, devices and threads, several at once."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from experiments import command_line
from jaxsci.core.errors import DataError
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.summary import Summary, read_summary

POLL_SECONDS = 0.2
GRACE_SECONDS = 60  # for a run told to stop, which may have a checkpoint to write


@dataclass(frozen=True)
class ChildRun:
    """An experiment with its overrides, whose run directory is `directory`; what it prints goes to `log`."""

    experiment: str
    overrides: tuple[str, ...]
    directory: Path
    log: Path

    def finished(self) -> Summary | None:
        """Its summary, if it is there and comes from these overrides."""
        if self._saved_overrides() != [f"experiment={self.experiment}", *self.overrides]:
            return None
        try:
            return read_summary(self.directory / "summary.json")
        except DataError:
            return None

    def last_words(self) -> str:
        """The last line it printed: where it failed, the one that says why."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "nothing printed"

    def arguments(self) -> list[str]:
        """The command line that starts it, or goes on where it was stopped."""
        lines = [f"experiment={self.experiment}", *self.overrides]
        if self._saved_overrides() == lines:
            return [f"resume={self.directory}"]
        return [*lines, f"hydra.run.dir={command_line.quoted(self.directory)}"]

    def _saved_overrides(self) -> list[str] | None:
        try:
            saved = yaml.safe_load((self.directory / "overrides.yaml").read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError, UnicodeDecodeError):
            return None
        return [line for line in saved or [] if not line.startswith("hydra.run.dir=")]


def run_all(
    children: Mapping[str, ChildRun], *, workers: int, on_end: Callable[[str, float], None]
) -> dict[str, Summary | str]:
    """Run them, `workers` at a time and in order; each one's summary, or the line that says why there is none.

    A child that is finished already is not run again, one that was stopped goes on. `on_end` is told name and seconds
    of each. Raises `KeyboardInterrupt` after a signal, when all have been told to stop and have ended.
    """
    outcomes: dict[str, Summary | str] = {}
    waiting = dict(children)
    running: dict[str, tuple[subprocess.Popen, float]] = {}
    try:
        with Interrupt() as interrupt:
            while waiting or running:
                if interrupt.requested():
                    raise KeyboardInterrupt
                while waiting and len(running) < workers:
                    name, child = next(iter(waiting.items()))
                    del waiting[name]
                    summary = child.finished()
                    if summary is not None:
                        outcomes[name] = summary
                        on_end(name, 0.0)
                    else:
                        running[name] = (_start(child, workers), time.perf_counter())
                for name, (process, begin) in list(running.items()):
                    if process.poll() is not None:
                        del running[name]
                        outcomes[name] = children[name].finished() or children[name].last_words()
                        on_end(name, time.perf_counter() - begin)
                time.sleep(POLL_SECONDS)
    finally:
        _stop([process for process, _ in running.values()])
    return {name: outcomes[name] for name in children}


def _start(child: ChildRun, workers: int) -> subprocess.Popen:
    """Several share the cores evenly, and on a GPU none reserves all of its memory."""
    environment = dict(os.environ)
    if workers > 1:
        environment["NPROC"] = environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // workers))
        environment["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    child.log.parent.mkdir(parents=True, exist_ok=True)
    with child.log.open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "experiments.run", *child.arguments()]
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)


def _stop(processes: Sequence[subprocess.Popen]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

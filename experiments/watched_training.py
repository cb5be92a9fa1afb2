"""`experiment=watched source=training`: the step times of a training that runs meanwhile and is slowed down.

The training is a process of its own, started with any command line of `experiments.run`. From a point on it is stopped
and continued many times a second, as when other programs take its processor away.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from experiments.drift import DetectorConfig
from experiments.drift_tail import Watcher
from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import ConfigError, JaxsciError
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import progress
from jaxsci.core.rundir import Run
from jaxsci.drift.stream import Point, StreamConfig, Tail

ROOT = Path(__file__).resolve().parents[1]
COLUMN, RULE = "seconds_per_step", "slow_dispatches"  # what `fit` logs
PERIOD = 0.04  # seconds from one stop to the next; shorter than what is timed
PATIENCE = 60.0  # seconds for the training to save itself when it is told to end


@dataclass(frozen=True)
class TrainingConfig:
    """`arguments` is the command line of the training, which must log its step times (`health.slow_factor` not null).

    After `change` points it may run for the share `running` of the time only. Logarithms of step times, medians of
    three, are watched in units of their spread over the first `detector.warm_up` points, but of no less than
    `least_spread`: changes by a fraction of that are nobody's concern.
    """

    arguments: tuple[str, ...] = ("experiment=language_model",)
    change: int = 140
    running: float = 0.1
    least_spread: float = 0.2
    poll_seconds: float = 0.05
    detector: DetectorConfig = field(default_factory=lambda: DetectorConfig(warm_up=50, hold=2))

    def __post_init__(self) -> None:
        positive(self, "least_spread", "poll_seconds")
        between(self, "running", 0.01, 1.0)
        between(self, "change", self.detector.warm_up, 10**9)
        named = any(line.startswith("experiment=") for line in self.arguments)
        require(named, "training.arguments", "a command line with experiment=...", self.arguments)


class Watched(NamedTuple):
    """A training, point by point, and what was said of it."""

    step: Float[np.ndarray, " points"]
    seconds: Float[np.ndarray, " points"]
    """Per step."""
    mass: Float[np.ndarray, " points"]
    """Probability of a recent change."""
    rule: Float[np.ndarray, " points"]
    """Slow dispatches so far by the fixed rule of the training itself."""
    change: int
    """First point of the slowed training."""
    alarms: tuple[int, ...]
    """Points at which the detector raised one."""
    starts: tuple[int, ...]
    """Where it thinks each new regime began."""
    answer_seconds: float
    """From the first stop to the first alarm after it; infinite without one."""


def watch_training(config: TrainingConfig, run: Run) -> Watched:
    """Run the training to its end and watch it. Raises `JaxsciError` where it fails.

    Interrupted, it takes the training down with it; resumed, both begin anew, for a training that was stopped in
    between has no undisturbed step times.
    """
    directory = run.path("training").resolve()
    shutil.rmtree(directory, ignore_errors=True)  # of an interrupted run
    watcher = Watcher(config.detector.watch(1), config.detector.warm_up, config.least_spread)
    points: list[Point] = []
    times = StepTimes()
    change, slowed_at, answer = None, 0.0, np.inf
    with Interrupt() as interrupt, Training(config.arguments, directory) as training, progress(2, "training") as bar:
        tail = training.metrics(config.poll_seconds, interrupt)
        while tail is not None:
            if interrupt.requested():
                break
            ended = training.ended  # asked first: whatever was written before is read below
            new = tail.read()[0]
            if change is None and len(points) + len(new) >= config.change:
                training.slow_down(config.running)
                slowed_at = time.monotonic()
                while more := tail.read()[0]:
                    new += more
                change = len(points) + len(new)
                bar.update(stage=f"slowed down after {change} points")
            for point in new:
                known = len(watcher.kept["alarms"])
                watcher.take(times(point))
                points.append(point)
                if len(watcher.kept["alarms"]) > known and change is not None and len(points) > change:
                    answer = min(answer, time.monotonic() - slowed_at)
            if ended:
                break
            if not new:
                time.sleep(config.poll_seconds)
        if interrupt.requested():
            raise KeyboardInterrupt(f"interrupted, and the training with it; begin anew with resume={run.directory}")
        training.check()
        bar.update(stage=f"ended after {len(points)} points, {len(watcher.kept['alarms'])} alarms")
    if change is None or change >= len(points):
        raise ConfigError(f"training.change: expected fewer than the {len(points)} points that the training logged")
    mass = [mass for _, _, mass in watcher.recent]  # of the latest points only, where there were very many
    index = {point.line: number for number, point in enumerate(points)}
    return Watched(
        np.array([point.time for point in points]),
        np.array([point.values[0] for point in points]),
        np.pad(mass, (len(points) - len(mass), 0), constant_values=np.nan),
        np.array([point.values[1] for point in points]),
        change,
        tuple(index[alarm["line"]] for alarm in watcher.kept["alarms"]),
        tuple(alarm["start"] for alarm in watcher.kept["alarms"]),
        answer,
    )


class StepTimes:
    """The step time's logarithm alone, median of the last three: one slow dispatch (a save, a busy host) is no change.

    A missing or zero time is left out.
    """

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=3)

    def __call__(self, point: Point) -> Point:
        known = point.known[:1] & (point.values[:1] > 0)
        if known[0]:
            self._latest.append(float(np.log(point.values[0])))
        middle = np.median(self._latest) if self._latest else 0.0
        return point._replace(values=np.array([middle]), known=known)


class Training:
    """A process with a run of its own, which can be slowed down; leaving the `with` block ends it."""

    def __init__(self, arguments: tuple[str, ...], directory: Path):
        self._directory = directory
        self._said = tempfile.TemporaryFile(mode="w+", encoding="utf-8")  # noqa: SIM115  (closed on leaving)
        command = [sys.executable, "-m", "experiments.run", *arguments, f"hydra.run.dir={directory}"]
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path}
        self._process = subprocess.Popen(command, stdout=self._said, stderr=self._said, env=environment)
        self._throttle: threading.Thread | None = None
        self._done = threading.Event()

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def metrics(self, poll_seconds: float, interrupt: Interrupt) -> Tail | None:
        """The file it logs to, as soon as there is one; `None` where it ended or was interrupted before."""
        path = self._directory / "metrics.jsonl"
        while not (path.exists() and path.stat().st_size):
            if self.ended or interrupt.requested():
                return None
            time.sleep(poll_seconds)
        return Tail(path, StreamConfig(time="step", values=(COLUMN, RULE)))

    def slow_down(self, running: float) -> None:
        """From now on it runs for this share of the time."""

        def throttle() -> None:
            while not self._done.is_set() and not self.ended:
                self._process.send_signal(signal.SIGSTOP)
                time.sleep((1 - running) * PERIOD)
                self._process.send_signal(signal.SIGCONT)
                time.sleep(running * PERIOD)

        self._throttle = threading.Thread(target=throttle, daemon=True)
        self._throttle.start()

    def check(self) -> None:
        """Raises `JaxsciError`, with the last line it said, where the training failed."""
        if self._process.poll() not in (0, None):
            self._said.seek(0)
            said = self._said.read().strip().splitlines()
            raise JaxsciError(f"training.arguments: the training failed: {said[-1] if said else 'without a word'}")

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        if self._throttle is not None:
            self._throttle.join()
        if not self.ended:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._said.close()


def measured(found: Watched) -> dict[str, float]:
    """Delay in points (all that were left where there was no alarm), false alarms before the change, slowing."""
    before = [a for a in found.alarms if a < found.change]
    after = [a for a in found.alarms if a >= found.change]
    counted = np.diff(found.rule, prepend=found.rule[:1])
    rule = np.flatnonzero(counted > 0)
    rule_after = rule[rule >= found.change]
    left = len(found.step) - found.change
    metrics = {
        "points": float(len(found.step)),
        "change_point": float(found.change),
        "slowdown_factor": float(np.median(found.seconds[found.change :]) / np.median(found.seconds[: found.change])),
        "detection_delay": float(after[0] - found.change if after else left),
        "detected_fraction": float(bool(after)),
        "false_alarms_per_1000": 1000 * len(before) / found.change,
        "detection_delay_rule": float(rule_after[0] - found.change if len(rule_after) else left),
        "detected_fraction_rule": float(len(rule_after) > 0),
        "false_alarms_per_1000_rule": 1000 * float(np.sum(rule < found.change)) / found.change,
    }
    if after:
        start = found.starts[found.alarms.index(after[0])]
        metrics |= {"start_error": float(abs(start - found.change)), "answer_seconds": found.answer_seconds}
    return metrics

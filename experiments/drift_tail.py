"""`experiment=drift source=tail path=FILE`: alarms from a CSV or JSONL file as it grows, resumable at any moment."""

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.config import positive, require
from jaxsci.core.errors import DataError
from jaxsci.core.figures import BLUE, ORANGE, new_figure, style
from jaxsci.core.files import write_atomic
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary
from jaxsci.drift.alarm import Watch, WatchState
from jaxsci.drift.stream import Point, Rejected, StreamConfig, Tail

if TYPE_CHECKING:
    from experiments.drift import DetectorConfig

MAD, LEAST_SPREAD = 1.4826, 1e-9
DRAWN = 2000  # latest points kept for the picture


@dataclass(frozen=True)
class TailConfig:
    """`follow` waits for more at the end of the file, until interrupted or, where set, `idle_seconds` without growth.

    A checkpoint is written every `save_every` points and whenever reading stops.
    """

    follow: bool = False
    idle_seconds: float | None = None
    poll_seconds: float = 0.5
    save_every: int = 1000
    chunk: int = 200

    def __post_init__(self) -> None:
        positive(self, "poll_seconds", "save_every", "chunk")
        require(self.idle_seconds is None or self.idle_seconds >= 0, "idle_seconds", "0 or more", self.idle_seconds)


class Watcher:
    """The detector with what surrounds it: scaling by the first points, counts, lists of alarms and rejected lines.

    Until `warm_up` points have come they are only collected; then all of them are watched. `least_spread` bounds the
    scale from below, in the unit of the values.
    """

    def __init__(self, watch: Watch, warm_up: int, least_spread: float = 0.0):
        self.watch = watch.prepare()
        self.warm_up, self.least_spread = warm_up, least_spread
        self.state: WatchState = self.watch.init()
        self.waiting: list[Point] = []
        self.kept: dict[str, Any] = {"points": 0, "alarms": [], "rejected": 0, "scale": None, "notes": []}
        self.recent: list[tuple[float, list[float], float]] = []
        self._update = eqx.filter_jit(lambda watch, state, x, known: watch.update(state, x, known))

    def take(self, point: Point) -> None:
        if self.kept["scale"] is None:
            self.waiting.append(point)
            if len(self.waiting) >= self.warm_up:
                self.start()
            return
        centre, spread = (np.array(part) for part in self.kept["scale"])
        x = jnp.asarray((point.values - centre) / spread)
        self.state, verdict = self._update(self.watch, self.state, x, jnp.asarray(point.known))
        self.kept["points"] += 1
        mass = float(verdict.statistic)
        self.recent = [
            *self.recent[-DRAWN + 1 :],
            (point.time, np.where(point.known, point.values, np.nan).tolist(), mass),
        ]
        if bool(verdict.alarm):
            self.kept["alarms"].append(
                {"line": point.line, "time": point.time, "start": int(verdict.start), "mass": mass}
            )

    def start(self) -> None:
        """Scale by what has come so far and watch it."""
        values = np.array([p.values for p in self.waiting])
        known = np.array([p.known for p in self.waiting])
        columns = [values[known[:, d], d] if known[:, d].any() else np.zeros(1) for d in range(values.shape[1])]
        centre = [float(np.median(c)) for c in columns]
        spread = [
            MAD * float(np.median(np.abs(c - m))) or float(np.std(c)) for c, m in zip(columns, centre, strict=True)
        ]
        for d, size in enumerate(spread):
            spread[d] = max(size, self.least_spread)
            if spread[d] <= LEAST_SPREAD * max(1.0, abs(centre[d])):
                self.kept["notes"].append(f"column {d} is constant over the first {len(self.waiting)} points")
                spread[d] = max(abs(centre[d]), 1.0)
        self.kept["scale"] = [centre, spread]
        waiting, self.waiting = self.waiting, []
        for point in waiting:
            self.take(point)


def watch_file(
    path: str, stream: StreamConfig, config: TailConfig, detector: "DetectorConfig", run: Run
) -> tuple[Summary, Report]:
    """Read to the end of the file (or until interrupted), then report. Raises `KeyboardInterrupt` after saving."""
    checkpoints = Checkpoints(run.checkpoint_directory, keep=2)
    tail, watcher = _restore(path, stream, detector, checkpoints) if run.resumed else (Tail(path, stream), None)
    saved, idle_since, interrupted = (watcher.kept["points"] if watcher else 0), None, False
    begin = time.perf_counter()
    with checkpoints, Interrupt() as interrupt, progress(max(tail.path.stat().st_size, 1), "bytes") as bar:
        bar.update(tail.position["offset"])
        while True:
            before = tail.position["offset"]
            points, rejected = tail.read(config.chunk)
            if watcher is None and tail.columns:
                watcher = Watcher(detector.watch(len(tail.columns)), detector.warm_up)
            if watcher is not None:
                alarms = len(watcher.kept["alarms"])
                for point in points:
                    watcher.take(point)
                _record(run, watcher, rejected, alarms)
                if watcher.kept["points"] - saved >= config.save_every:
                    _save(checkpoints, watcher, tail)
                    saved = watcher.kept["points"]
                bar.update(tail.position["offset"] - before, alarms=float(len(watcher.kept["alarms"])))
            if interrupt.requested():
                interrupted = True
                break
            if tail.position["offset"] > before:
                idle_since = None
                continue
            idle_since = idle_since or time.monotonic()
            waited = time.monotonic() - idle_since
            if not config.follow or (config.idle_seconds is not None and waited >= config.idle_seconds):
                break
            time.sleep(config.poll_seconds)
        if watcher is not None and watcher.kept["points"] > 0:
            _save(checkpoints, watcher, tail)
    if interrupted:
        raise KeyboardInterrupt(
            f"interrupted after {watcher.kept['points'] if watcher else 0} points; continue with resume={run.directory}"
        )
    if watcher is None or not (watcher.kept["points"] or watcher.waiting):
        raise DataError(f"{path}: no usable line in it; expected a CSV header and rows, or JSON objects")
    if watcher.waiting:  # a short stream: better watched with a rough scale than not at all
        watcher.kept["notes"].append(f"only {len(watcher.waiting)} points came, fewer than warm_up={watcher.warm_up}")
        watcher.start()
    return _outcome(path, tail, watcher, detector, time.perf_counter() - begin, run)


def _restore(path: str, stream: StreamConfig, detector: "DetectorConfig", checkpoints: Checkpoints):
    """Where an earlier run stopped; a fresh start where it had saved nothing (the whole file is there to be read)."""
    extra = checkpoints.newest_extra()
    if extra is None:
        return Tail(path, stream), None
    watcher = Watcher(detector.watch(len(extra["position"]["columns"])), detector.warm_up)
    restored = checkpoints.restore_latest(watcher.state)
    if restored is None:
        return Tail(path, stream), None
    watcher.state, _, extra = restored
    watcher.kept = extra["kept"]
    return Tail(path, stream, extra["position"]), watcher


def _save(checkpoints: Checkpoints, watcher: Watcher, tail: Tail) -> None:
    checkpoints.save(watcher.kept["points"], watcher.state, {"kept": watcher.kept, "position": tail.position})


def _record(run: Run, watcher: Watcher, rejected: list[Rejected], alarms: int) -> None:
    """New alarms and rejected lines, on disk as soon as they are known."""
    if not run.main:
        return
    watcher.kept["rejected"] += len(rejected)
    if rejected:
        with run.path("rejected.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(one._asdict()) + "\n" for one in rejected)
    if len(watcher.kept["alarms"]) > alarms:
        lines = "".join(json.dumps(alarm) + "\n" for alarm in watcher.kept["alarms"])
        write_atomic(run.path("alarms.jsonl"), lines)
    for alarm in watcher.kept["alarms"][alarms:]:
        run.log({"alarm_line": alarm["line"], "start": alarm["start"], "mass": alarm["mass"]}, alarm["line"])


def _outcome(
    path: str, tail: Tail, watcher: Watcher, detector: "DetectorConfig", spent: float, run: Run
) -> tuple[Summary, Report]:
    kept = watcher.kept
    metrics = {
        "points": float(kept["points"]),
        "alarms": float(len(kept["alarms"])),
        "rejected": float(kept["rejected"]),
        "unfinished_bytes": float(tail.unfinished),
        "state_bytes": float(sum(leaf.nbytes for leaf in jax.tree.leaves(watcher.state))),
    }
    run.log(metrics, tail.position["line"])
    notes = [
        f"{path}: columns {', '.join(tail.columns)}; scaled by the first {detector.warm_up} points.",
        *kept["notes"],
    ]
    if kept["rejected"]:
        notes.append(f"{kept['rejected']} lines could not be used; they are in rejected.jsonl, each with its reason.")
    if tail.unfinished:
        notes.append(
            f"The file ends in the middle of a line ({tail.unfinished} bytes), which will be read once it is whole."
        )
    page = Report("A stream watched", f"When did {path} change?")
    page.figure(
        "stream", run.figure("stream", stream_figure(watcher, tail.columns)), "Latest points; lines are alarms."
    )
    columns = ("line", "time", "start", "mass")
    page.table("Alarms", columns, [tuple(a[c] for c in columns) for a in kept["alarms"]], caption="start: first point.")
    return Summary("drift", metrics, {}, {"watch": spent}, tuple(notes)), page


@style()
def stream_figure(watcher: Watcher, columns: list[str]) -> Figure:
    shown = columns[:4]
    figure, axes = new_figure(len(shown) + 1, 1, (9, 2.0 * (len(shown) + 1)))
    times = [t for t, _, _ in watcher.recent]
    for d, name in enumerate(shown):
        axes[d, 0].plot(times, [values[d] for _, values, _ in watcher.recent], ".", color=BLUE, markersize=2)
        axes[d, 0].set(ylabel=name)
    axes[-1, 0].plot(times, [mass for _, _, mass in watcher.recent], color=ORANGE, linewidth=1)
    axes[-1, 0].set(ylabel=f"P(r < {watcher.watch.window})", xlabel="time", ylim=(0, 1.02))
    for alarm in watcher.kept["alarms"]:
        if times and alarm["time"] >= times[0]:
            for axis in axes[:, 0]:
                axis.axvline(alarm["time"], color="0.4", linestyle="--", linewidth=1)
    return figure

"""A monitor: scores the runs of a workflow as their files appear, and writes alarms that name workers and reasons."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from experiments import workflow_ssl
from experiments.settings import Settings
from experiments.workflow_data import DataConfig
from jaxsci.core.config import between, positive
from jaxsci.core.errors import ConfigError
from jaxsci.core.figures import BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.files import write_atomic
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary
from jaxsci.workflows.scoring import ScoreConfig
from jaxsci.workflows.selfsupervised import SelfSupervisedConfig
from jaxsci.workflows.watch import Alarm, Folder, alarms, graph_of
from jaxsci.workflows.workflow import Workflow

HISTORY_SHARE = 0.7  # of the packaged runs, in time; the rest arrive as if they were new


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """The detector is trained, without labels, on all runs of `data`; then run files that appear in `path` are scored.

    Without `path`, the last 30 % of the runs of `data` stand for new ones. `alarm`: least score, a quantile of the
    training scores. The folder is looked at every `poll_seconds`; without a new file for `idle_seconds` the watch ends,
    null: only a signal ends it.
    """

    data: DataConfig = field(default_factory=DataConfig)
    path: str | None = None
    alarm: float = 0.9
    poll_seconds: float = 2.0
    idle_seconds: float | None = 60.0
    detector: SelfSupervisedConfig = field(default_factory=SelfSupervisedConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        between(self, "alarm", 0.0, 1.0)
        positive(self, "poll_seconds", "idle_seconds")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    workflow = config.data.load()
    if config.path is not None and not Path(config.path).is_dir():
        raise ConfigError(f"path: expected a folder into which run files fall, got {config.path!r}")
    order = np.argsort(workflow.start_epoch, kind="stable")
    history = order if config.path else order[: int(HISTORY_SHARE * len(order))]
    arrivals = None if config.path else workflow.take(order[len(history) :])
    begin = time.perf_counter()
    scorers, runs, graph = workflow_ssl.fit(workflow, [(history, history[:1])], config, run=run)
    seconds = {"training": time.perf_counter() - begin}
    found: list[Alarm] = []
    levels: list[tuple[str, float]] = []
    failures: list[tuple[str, str]] = []
    with Interrupt() as interrupt:
        for batch, failed in arriving(config, workflow, arrivals, interrupt):
            failures += failed
            if batch is not None:
                new, whole = alarms(scorers[0], batch, graph, runs, config.alarm)
                found += new
                levels += list(zip(batch.run, whole.tolist(), strict=True))
                run.log({"run_score": float(whole.max()), "alarms": len(new)}, len(levels))
            if run.main:
                write(run, found, failures, len(levels))
    metrics = {"runs": len(levels), "alarms": len(found), "unreadable_files": len(failures)}
    page = report(config, run, workflow, found, levels, failures)
    return Summary("workflow_watch", metrics, {}, seconds, ("Alarms are in alarms.jsonl and alarms.html.",)), page


def arriving(
    config: Config, workflow: Workflow, arrivals: Workflow | None, interrupt: Interrupt
) -> Iterator[tuple[Workflow | None, list[tuple[str, str]]]]:
    """New runs as they come, with the files given up; ends when idle for long enough or by a signal."""
    if arrivals is not None:
        yield arrivals, []
        return
    folder, graph = Folder(Path(str(config.path))), graph_of(workflow)
    last = time.monotonic()
    while not interrupt.requested():
        batches, failed = folder.look(graph)
        for batch in batches:
            yield batch, []
        if failed:
            yield None, failed
        if batches or failed:
            last = time.monotonic()
        elif config.idle_seconds is not None and time.monotonic() - last > config.idle_seconds:
            return
        time.sleep(config.poll_seconds)


def write(run: Run, found: list[Alarm], failures: list[tuple[str, str]], runs: int) -> None:
    """Both files anew, whole at any moment."""
    lines = [json.dumps(asdict(alarm)) for alarm in found]
    lines += [json.dumps({"file": name, "unreadable": reason}) for name, reason in failures]
    write_atomic(run.path("alarms.jsonl"), "".join(line + "\n" for line in lines))
    page = Report("Alarms", f"{len(found)} workers of {runs} runs stand out.")
    page.table("Latest first", COLUMNS, rows(found[::-1][:500]))
    if failures:
        page.table("Files that could not be read", ("file", "reason"), failures)
    write_atomic(run.path("alarms.html"), page.html(Summary("workflow_watch", {"runs": runs, "alarms": len(found)})))


COLUMNS = ("run", "worker", "score", "resembles", "features that differ most", "jobs")


def rows(found: list[Alarm]) -> list[tuple]:
    return [(a.run, a.worker, a.score, a.kind, ", ".join(a.features), len(a.jobs)) for a in found]


def report(config, run: Run, workflow: Workflow, found, levels, failures) -> Report:
    page = Report(
        f"Watching {workflow.name}",
        f"Which workers of {len(levels)} new runs stand out? Scores of {config.alarm:g} and above alarm.",
    )
    page.figure("scores", run.figure("scores", course(levels, config.alarm)), "Score of each run, in order of arrival.")
    page.table("Strongest alarms", COLUMNS, rows(sorted(found, key=lambda alarm: -alarm.score)[:30]))
    if failures:
        page.table("Files that could not be read", ("file", "reason"), failures)
    return page


@style()
def course(levels: list[tuple[str, float]], alarm: float) -> Figure:
    figure, axes = new_figure(1, 1, (9, 3.6))
    axis, values = axes[0, 0], np.array([level for _, level in levels])
    high = values >= alarm
    place = np.arange(len(values))
    axis.scatter(place[~high], values[~high], s=14, color=BLUE, label="below the alarm")
    axis.scatter(place[high], values[high], s=14, color=ORANGE, label="alarm")
    axis.axhline(alarm, color=GREY, linestyle=":")
    axis.set(xlabel="run", ylabel="run score (quantile)", ylim=(0, 1.05))
    axis.legend(loc="lower right", ncols=2)
    return figure

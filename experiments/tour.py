"""All ten systems in small, each a run of its own, with one report and a verdict for each."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from experiments import catalogue, tour_report
from experiments.child_runs import ChildRun, run_all
from experiments.settings import Settings
from jaxsci.core.config import between, require
from jaxsci.core.errors import did_you_mean
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary


@dataclass(frozen=True, kw_only=True)
class Stop:
    """One system: the experiment that shows it, with the overrides that make it small, and what it must reach.

    `metric` is held against `bar`, a number, or the metric `against` of the same run; `source` says what that is.
    `figure` is the picture of the run that the report shows; `finding` says below it what is to be seen.
    """

    system: str
    problem: str
    experiment: str
    overrides: tuple[str, ...] = ()
    metric: str
    better: Literal["lower", "higher"]
    bar: float | None = None
    against: str | None = None
    source: str
    figure: str
    finding: str

    def __post_init__(self) -> None:
        known = catalogue.names()
        near = did_you_mean(self.experiment, known)
        require(self.experiment in known, "experiment", f"one that is there{near}", self.experiment)
        require(
            (self.bar is None) != (self.against is None), "bar, against", "one of the two", (self.bar, self.against)
        )


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`only` names the stops to make, empty for all; `workers` of them run at the same time."""

    needs_backend: ClassVar[bool] = False  # its runs have their own, and would find an accelerator's memory taken

    stops: dict[str, Stop]
    only: tuple[str, ...] = ()
    workers: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        between(self, "workers", 1, 64)
        for name in self.only:
            require(name in self.stops, "only", f"names of stops{did_you_mean(name, self.stops)}", name)


class Visit(NamedTuple):
    """What a stop came to. `failure` is the line that says why there is no result."""

    stop: Stop
    child: ChildRun
    summary: Summary | None
    failure: str = ""

    @property
    def value(self) -> float | None:
        return None if self.summary is None else self.summary.metrics.get(self.stop.metric)

    @property
    def reference(self) -> Reference | None:
        bar = self.stop.bar
        if self.stop.against is not None and self.summary is not None:
            bar = self.summary.metrics.get(self.stop.against)
        return None if bar is None else Reference(bar, self.stop.source, self.stop.better)

    @property
    def verdict(self) -> bool:
        return self.value is not None and self.reference is not None and bool(self.reference.met(self.value))


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    chosen = {name: stop for name, stop in config.stops.items() if not config.only or name in config.only}
    folder = run.path("runs")
    children = {
        name: ChildRun(stop.experiment, stop.overrides, folder / name, folder / f"{name}.txt")
        for name, stop in chosen.items()
    }
    seconds: dict[str, float] = {}

    def ended(name: str, elapsed: float) -> None:
        seconds[name] = elapsed
        run.log({"seconds": elapsed}, len(seconds))
        bar.update(1, ended=name)

    try:
        with progress(len(chosen), "systems") as bar:
            outcomes = run_all(children, workers=config.workers, on_end=ended)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped; continue with resume={run.directory}") from None
    visits = {
        name: Visit(stop, children[name], got) if isinstance(got := outcomes[name], Summary)
        else Visit(stop, children[name], None, got)
        for name, stop in chosen.items()
    }  # fmt: skip
    return _summary(visits, seconds), tour_report.report(run, visits)


def _summary(visits: dict[str, Visit], seconds: dict[str, float]) -> Summary:
    metrics: dict[str, float] = {f"verdict_{name}": visit.verdict for name, visit in visits.items()}
    references, notes = {}, []
    for name, visit in visits.items():
        if visit.value is not None and visit.reference is not None:
            metrics[f"{name}_{visit.stop.metric}"] = visit.value
            references[f"{name}_{visit.stop.metric}"] = visit.reference
        elif visit.summary is None:
            notes.append(f"{name}: no result: {visit.failure}")
        else:
            notes.append(f"{name}: its summary has no {visit.stop.metric} or {visit.stop.against}")
    held = sum(visit.verdict for visit in visits.values())
    notes.append(f"{held} of {len(visits)} bars hold. Each run lies in runs/, with a report of its own.")
    return Summary("tour", metrics, references, seconds, tuple(notes))

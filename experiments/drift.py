"""Performance models that notice when the machine changed: detect, adapt, predict; or watch a growing file."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import drift_report as pages
from experiments import drift_tail
from experiments.settings import Settings
from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import ConfigError, DataError
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.drift.adaptation import CANDIDATES, AdaptationConfig, Adapter
from jaxsci.drift.alarm import Watch, watch_series
from jaxsci.drift.changepoint import Bocpd
from jaxsci.drift.guard import Guard
from jaxsci.drift.hazard import ConstantHazard
from jaxsci.drift.replay import Replay, oracle_regrets, replay_change
from jaxsci.drift.rounds import Rounds, into_rounds
from jaxsci.drift.segments import Independent, Level
from jaxsci.drift.stream import StreamConfig
from jaxsci.drift.tokio import FEATURES, TARGET, Jobs, load_jobs


@dataclass(frozen=True)
class DataConfig:
    """A TOKIO summary table; see `jaxsci.drift.tokio.load_jobs`."""

    path: str | None = None
    target: str = TARGET
    features: tuple[str, ...] | None = None
    processes: int | None = None
    file_system: str | None = None
    least: int = 40


@dataclass(frozen=True)
class DetectorConfig:
    """Robust levels, independent kinds, one change time. Values are in units of the warm-up's spread.

    `noise` is the prior mean of the variance; `degrees` those of Student-t noise, 1e6 is Gaussian.
    """

    warm_up: int = 30
    mean_run: float = 1000.0
    noise: float = 2.0
    degrees: float = 4.0
    window: int = 20
    threshold: float = 0.9
    hold: int = 3
    separation: int = 10
    capacity: int = 256

    def __post_init__(self) -> None:
        positive(self, "warm_up", "noise", "degrees", "window", "hold", "separation", "capacity")
        between(self, "threshold", 0.0, 1.0)
        between(self, "mean_run", 2, 1e9)

    def watch(self, dimensions: int) -> Watch:
        level = Level(intercept_precision=0.05, alpha=2.0, beta=2.0 * self.noise, degrees=self.degrees)
        detector = Bocpd(Independent(level, dimensions), ConstantHazard(self.mean_run), capacity=self.capacity)
        return Watch(detector, self.window, self.threshold, self.hold, self.separation)


@dataclass(frozen=True)
class GuardConfig:
    """Settings of `jaxsci.drift.guard.Guard`, the candidates it may listen to, and what speaks for them beforehand."""

    candidates: tuple[str, ...] = (
        "keep",
        "keep_median",
        "class_median",
        "levels",
        "recall",
        "adapt_moments",
        "retrain",
    )
    rate: float = 5.0
    kind_memory: float = 0.8
    memory: float = 0.97
    shrinkage: float = 3.0
    cap: float = 0.4
    prior: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.candidates, *self.prior):
            require(name in CANDIDATES, "candidates", f"some of {', '.join(CANDIDATES)}", name)
        require(len(self.candidates) > 0, "candidates", "one or more", self.candidates)
        positive(self, "rate", "cap")
        between(self, "kind_memory", 0.0, 1.0)
        between(self, "memory", 0.0, 1.0)

    def guard(self) -> Guard:
        prior = jnp.asarray([float(self.prior.get(name, 0.0)) for name in self.candidates])
        return Guard(self.rate, self.kind_memory, self.memory, self.shrinkage, self.cap, prior)


# Chosen on the jobs of 512 processes in the Cori file, which the figures for 4096 processes say nothing about.
FROZEN_PRIOR = {
    "class_median": 1.0,
    "levels": 1.0,
    "recall": -1.0,
    "keep": -3.0,
    "adapt_moments": -3.0,
    "retrain": -3.0,
}


def _frozen_guard() -> GuardConfig:
    return GuardConfig(rate=1.0, kind_memory=1.0, memory=1.0, prior=dict(FROZEN_PRIOR))


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`source=table` replays a year of `data`; `source=tail` watches the growing file at `path`.

    `dates` are changes to replay instead of those detected (days, YYYY-MM-DD, UTC); `labels` the numbers of labelled
    jobs after a change at which everything is frozen, and `horizon` the jobs then predicted, up to the next change
    found.
    """

    source: Literal["table", "tail"] = "table"
    path: str | None = None
    data: DataConfig = field(default_factory=DataConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    tail: drift_tail.TailConfig = field(default_factory=drift_tail.TailConfig)
    detector: DetectorConfig = field(default_factory=DetectorConfig)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    guard: GuardConfig = field(default_factory=GuardConfig)
    frozen_guard: GuardConfig = field(default_factory=_frozen_guard)
    dates: tuple[str, ...] | None = None
    labels: tuple[int, ...] = (16, 32, 64, 128)
    horizon: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "horizon")
        trusted = self.guard.candidates, self.frozen_guard.candidates
        require(trusted[0] == trusted[1], "frozen_guard.candidates", f"those of guard, {trusted[0]}", trusted[1])
        require(
            self.source == "table" or self.path is not None, "path", "the file to watch, with source=tail", self.path
        )
        require(
            self.source == "tail" or self.path is None, "path", "null with source=table (give data.path)", self.path
        )
        require(all(n in (4, 8, 16, 32, 64, 128) for n in self.labels), "labels", "some of 4, 8, ..., 128", self.labels)
        for date in self.dates or ():
            try:
                datetime.fromisoformat(date)
            except ValueError:
                raise ConfigError(f"dates: expected days such as 2017-08-10, got '{date}'") from None


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    if config.source == "tail":
        return drift_tail.watch_file(config.path or "", config.stream, config.tail, config.detector, run)
    d = config.data
    features = FEATURES if d.features is None else d.features
    selection = {"processes": d.processes, "file_system": d.file_system, "least": d.least}
    jobs = load_jobs(d.path, target=d.target, features=features, **selection)
    rounds = into_rounds(jobs, warm_up=config.detector.warm_up)
    begin = time.perf_counter()
    verdict, log_mass = jax.jit(watch_series)(
        config.detector.watch(len(jobs.kinds)), jnp.asarray(rounds.values), jnp.asarray(rounds.known)
    )
    alarms = np.flatnonzero(np.asarray(verdict.alarm))
    found = sorted({int(rounds.first_job[s]) for s in np.asarray(verdict.start)[alarms]})
    seconds = {"detect": time.perf_counter() - begin}
    begin = time.perf_counter()
    replays, skipped = _replay(config, run, jobs, found)
    seconds["replay"] = time.perf_counter() - begin
    if not replays:
        raise DataError(
            f"{d.path or 'the packaged sample'}: {len(found)} drifts found, none with enough jobs before and after it; "
            "give dates=[YYYY-MM-DD] to replay a day of your own"
        )
    summary = _summary(config, jobs, rounds, alarms, replays, skipped, seconds)
    delays = [int(a - s) for a, s in zip(alarms, np.asarray(verdict.start)[alarms], strict=True)]
    page = pages.report(run, jobs, rounds, np.asarray(log_mass), verdict, alarms, delays, replays, summary)
    return summary, page


def _replay(config: Config, run: Run, jobs: Jobs, found: list[int]) -> tuple[list[Replay], list[str]]:
    """Every change that has jobs to learn from and to be tested on; and sentences about the others."""
    adapter = Adapter(jobs, config.adaptation, largest=max(*config.labels, 128), seed=config.seed)
    guard, frozen_guard, changes = config.guard.guard(), config.frozen_guard.guard(), found
    if config.dates is not None:
        stamps = [datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() for day in config.dates]
        changes = [int(np.searchsorted(jobs.time, stamp)) for stamp in stamps]
    replays, skipped = [], []
    with progress(len(changes), "changes replayed") as bar:
        for number, change in enumerate(changes):
            following = [c for c in found if c > change and config.dates is None]
            last = min([change + max(config.labels) + config.horizon, len(jobs), *following])
            if change < 5 * len(jobs.kinds) or last - change < 60:
                skipped.append(
                    f"The change of {pages.day(jobs.time[min(change, len(jobs) - 1)])} is not replayed: {change} jobs "
                    f"before it, {last - change} until the next or the end."
                )
                bar.update()
                continue
            here = jobs.kind[change : change + max(config.labels)]
            absent = [jobs.kinds[k] for k in range(len(jobs.kinds)) if not (here == k).any()]
            if absent:
                skipped.append(f"No job after {pages.day(jobs.time[change])} to learn from: {', '.join(absent)}.")
            replay = replay_change(
                adapter,
                guard,
                frozen_guard,
                change,
                last,
                [c for c in found if c < change],
                trusted=config.guard.candidates,
                labels=config.labels,
                horizon=config.horizon,
            )
            replays.append(replay)
            run.log({f"error_{name}": value for name, value in replay.error.items()}, number)
            bar.update(regret=replay.regret)
    return replays, skipped


def _summary(
    config: Config,
    jobs: Jobs,
    rounds: Rounds,
    alarms: np.ndarray,
    replays: list[Replay],
    skipped: list[str],
    seconds: dict[str, float],
) -> Summary:
    frozen = [one for replay in replays for one in replay.frozen]

    def mean(name: str) -> float:
        """Over changes and label counts, of the median relative error with everything frozen."""
        return (
            float(np.mean([one.error[name] for one in frozen]))
            if frozen
            else float(np.mean([replay.error[name] for replay in replays]))
        )

    oracle = oracle_regrets(replays, seed=config.seed)
    metrics = {
        "drifts": float(len(alarms)),
        "median_error_static": mean("keep"),
        "median_error_adapted": mean("guard"),
        "median_error_class_median": mean("class_median"),
        "worst_regret_of_guard": max(replay.regret for replay in replays),
        "mean_regret_of_guard": float(np.mean([replay.regret for replay in replays])),
        "worst_regret_of_half_oracle": float(np.median(oracle.max(axis=1))),
        "mean_regret_of_half_oracle": float(oracle.mean()),
        "replayed": float(len(replays)),
        "interval_coverage_90": float(np.mean([replay.coverage for replay in replays])),
    }
    metrics |= {f"median_error_{name}": mean(name) for name in CANDIDATES if name not in ("keep", "class_median")}
    for name in (*CANDIDATES, "guard"):
        metrics[f"running_error_{name}"] = float(np.mean([replay.error[name] for replay in replays]))
    references = {
        "median_error_adapted": Reference(
            min(metrics["median_error_class_median"], metrics["median_error_static"] / 2),
            "class median of the same new jobs, and half of the static model's error",
            "lower",
        ),
        "worst_regret_of_guard": Reference(0.05, "goal: never 5 % worse than the best candidate", "lower"),
        "interval_coverage_90": Reference(0.9, "nominal"),
    }
    notes = [
        f"{len(jobs)} jobs of {jobs.group}, {len(jobs.kinds)} kinds, {len(rounds.time)} rounds.",
        f"median_error_*: relative error, median over up to {config.horizon} jobs after the labelled ones, mean over "
        f"changes and label counts {', '.join(map(str, config.labels))}; nothing sees a later label.",
        "running_error_* and regret: candidates refitted at 4, 8, ..., 128 labels, the guard told each value after it "
        "has predicted it, from the 16th job of a change to the next change.",
        "*_half_oracle: the same regret of whoever knows which candidate is best on a random half of these jobs, on "
        "the other half (median over splits of the worst, and mean): what chance alone does to it.",
        *jobs.notes,
        *skipped,
    ]
    return Summary("drift", metrics, references, seconds, tuple(notes))

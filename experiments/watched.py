"""A drift detector that watches a training's step times, or the innovations of a cycling assimilation."""

import time
from dataclasses import dataclass, field
from typing import Literal

from experiments import watched_innovations as cycling
from experiments import watched_report as pages
from experiments import watched_training as process
from experiments.settings import Settings
from experiments.watched_innovations import InnovationsConfig
from experiments.watched_training import TrainingConfig
from jaxsci.core.config import require
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`source` says which of the two is watched, with the settings of the same name."""

    source: Literal["innovations", "training"] = "innovations"
    innovations: InnovationsConfig = field(default_factory=InnovationsConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        needs = self.source == "innovations"
        require(not needs or self.precision == "float64", "precision", "float64 for innovations", self.precision)


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    return (_innovations if config.source == "innovations" else _training)(config, run)


def _innovations(config: Config, run: Run) -> tuple[Summary, Report]:
    settings = config.innovations
    seconds: dict[str, float] = {}
    with progress(2, "innovations") as steps:
        begin = time.perf_counter()
        calibration, calm, degraded = cycling.run_worlds(settings, config.seed)
        seconds["assimilate"] = time.perf_counter() - begin
        steps.update(stage=f"{settings.seeds} seeds x {2 + len(settings.scenarios)} worlds assimilated")
        begin = time.perf_counter()
        found = cycling.watch_worlds(settings, calibration, calm, degraded)
        seconds["watch"] = time.perf_counter() - begin
        metrics = cycling.measured(settings, found)
        steps.update(stage=f"watched: {metrics['detection_delay']:.1f} cycles to the alarm")
    for i, name in enumerate(settings.scenarios):
        run.log({"delay": metrics[f"detection_delay_{name}"], "detected": metrics[f"detected_fraction_{name}"]}, i)
    rules = [name for name in found.rules if name != "detector"]
    references = {
        "detection_delay": Reference(metrics["detection_delay_chi_square"], "fixed chi-square threshold", "lower"),
        "detected_fraction": Reference(metrics["detected_fraction_chi_square"], "fixed chi-square threshold", "higher"),
        "false_alarms_per_1000": Reference(settings.false_per_1000, "what every rule was set to"),
    }
    notes = (
        f"Every rule was set to {settings.false_per_1000:g} alarms per 1000 cycles on {settings.seeds} calm series, "
        "and its false alarms are counted on as many others.",
        f"A scenario without an alarm within {settings.horizon} cycles counts with {settings.horizon} in the delays.",
        f"Names ending in {', '.join('_' + rule for rule in rules)} belong to fixed thresholds: on the chi-square of a "
        f"cycle, on its mean over {settings.mean_of} cycles, on the larger of such means of both statistics.",
        "right_kind_fraction: how often the detector says mean where a bias came, variance where larger errors did.",
    )
    return Summary("watched", metrics, references, seconds, notes), pages.innovations_page(
        settings, run, found, metrics
    )


def _training(config: Config, run: Run) -> tuple[Summary, Report]:
    begin = time.perf_counter()
    found = process.watch_training(config.training, run)
    seconds = {"watch": time.perf_counter() - begin}
    metrics = process.measured(found)
    run.log(metrics, len(found.step))
    references = {
        "detection_delay": Reference(metrics["detection_delay_rule"], "a dispatch of 3 running medians", "lower"),
        "slowdown_factor": Reference(1 / config.training.running, "what the stops amount to"),
    }
    notes = (
        "Points are dispatches; the training is a process of its own that knows of no watcher.",
        f"It was allowed to run for {100 * config.training.running:g} % of the time from point {found.change} on.",
        "Names ending in _rule belong to the training's own fixed rule, health.slow_factor.",
        "Where nothing was noticed, the delay is all points that were left.",
    )
    return Summary("watched", metrics, references, seconds, notes), pages.training_page(config.training, run, found)

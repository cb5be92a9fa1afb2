"""The simulated testbed against recorded runs: makespans, effects of every anomaly, and its speed."""

import time
from dataclasses import dataclass, field, replace

import jax
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from experiments.settings import Settings
from experiments.workflow_data import DataConfig
from jaxsci.core.config import positive
from jaxsci.core.figures import BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.workflows.committee import CommitteeConfig
from jaxsci.workflows.effects import FEATURES, Effect, effects
from jaxsci.workflows.job_model import job_model, pool_of
from jaxsci.workflows.metrics import roc_auc
from jaxsci.workflows.requests import request_for
from jaxsci.workflows.simulated import SimulatedTestbed
from jaxsci.workflows.simulation import simulate
from jaxsci.workflows.splits import split_by_run
from jaxsci.workflows.testbed import Anomaly, TestbedConfig
from jaxsci.workflows.testbed_calibration import CONSTANTS, CalibrationConfig, calibrated
from jaxsci.workflows.transfer import fit_on_sources, transferred_scores
from jaxsci.workflows.workflow import Workflow, joined


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`runs` simulated of each class; `workers` of the pool, null for what the traces show; `timed` normal runs.

    `calibration`: how hard the constants of the simulator are fitted to 70 % of the runs, null to keep those that fit
    1000genome of Flow-Bench.
    """

    data: DataConfig = field(default_factory=DataConfig)
    runs: int = 30
    workers: int | None = None
    timed: int = 20
    calibration: CalibrationConfig | None = field(default_factory=CalibrationConfig)
    learner: CommitteeConfig = field(default_factory=CommitteeConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "runs", "workers", "timed")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    workflow = config.data.load()
    pool, test = split_by_run(workflow.runs, config.seed)
    known = workflow.take(pool)
    begin = time.perf_counter()
    testbed = fitted(known, config, run)
    seconds = {"calibration": time.perf_counter() - begin}
    oracle = SimulatedTestbed(known, n_runs=config.runs, config=testbed)
    normal = known.take(np.flatnonzero(known.run_class() == 0))
    recorded, simulated, answers = effects(workflow), {}, []
    with progress(len(recorded), "classes") as bar:
        for number, name in enumerate(recorded):
            request = request_for(workflow.name, name, n_runs=config.runs)
            data = oracle.submit(request, key=jax.random.fold_in(jax.random.key(config.seed), number)).data
            simulated[name] = effects(data, normal)[name]
            answers.append(data)
            run.log({"makespan": simulated[name].makespan, "makespan_recorded": recorded[name].makespan}, number)
            bar.update(1)
    speed = runs_per_second(known, testbed, config.timed, config.seed)
    key = jax.random.key(config.seed)
    committee = fit_on_sources([joined(answers)], config.learner, key=key)
    there = workflow.take(test)
    rows = ratios(recorded, simulated)
    lengths = {n: abs(simulated[n].makespan / recorded[n].makespan - 1.0) for n in recorded}
    metrics = {
        "makespan_error": lengths.get("normal", max(lengths.values())),
        "makespan_error_worst_class": max(lengths.values()),
        "worst_effect_error": max(error for *_, error in rows),
        "runs_per_second": speed,
        "auc_trained_on_simulation": roc_auc(transferred_scores(committee, there).ravel(), there.anomalous().ravel()),
    }
    metrics |= {f"makespan_error_{name}": error for name, error in lengths.items()}
    metrics |= {f"constant_{constant.name}": getattr(testbed, constant.name) for constant in CONSTANTS}
    references = {
        "makespan_error": Reference(0.10, "goal, normal runs", "lower"),
        "worst_effect_error": Reference(0.35, "goal, every class", "lower"),
        "runs_per_second": Reference(50.0, "goal, one core, 137 jobs", "higher"),
        "auc_trained_on_simulation": Reference(0.5, "chance; tested on recorded runs", "higher"),
    }
    told = f"fitted to {known.runs} of its {workflow.runs} runs" if config.calibration else "those of 1000genome"
    notes = (
        f"What jobs do: medians over {normal.runs} normal runs of {workflow.name}. Constants: {told}.",
        "Errors are against the medians over all recorded runs of a class.",
        "runs_per_second counts processor time of this process, median of five batches.",
    )
    page = report(run, workflow.name, config, recorded, simulated, rows)
    return Summary("benchmarks/testbed", metrics, references, seconds, notes), page


def fitted(known: Workflow, config: Config, run: Run) -> TestbedConfig:
    """The pool of the recorded runs, with constants fitted to them."""
    pool = pool_of(known)
    pool = replace(pool, workers=config.workers or pool.workers)
    if config.calibration is None:
        return pool
    with progress(config.calibration.sweeps * len(CONSTANTS), "calibration") as bar, Interrupt() as interrupt:

        def after(name: str, value: float, loss: float) -> None:
            bar.update(1, loss=loss)
            if interrupt.requested():
                raise KeyboardInterrupt

        return calibrated(known, pool, config.calibration, seed=config.seed, after=after)


def runs_per_second(known: Workflow, testbed: TestbedConfig, timed: int, seed: int) -> float:
    """Normal runs simulated in a second of processor time."""
    model = job_model(known, np.flatnonzero(known.run_class() == 0))
    speeds = []
    for batch in range(5):
        begin = time.process_time()
        for number in range(timed):
            simulate(model, Anomaly(), testbed, np.random.default_rng([seed, batch, number]))
        speeds.append(timed / max(time.process_time() - begin, 1e-9))
    return float(np.median(speeds))


def ratios(recorded: dict[str, Effect], simulated: dict[str, Effect]) -> list[tuple]:
    """Class, feature, whose jobs, recorded and simulated ratio, relative error."""
    rows = []
    for name, real in recorded.items():
        if name == "normal":
            continue
        for feature in FEATURES:
            for whose in ("anomalous", "beside"):
                truth, ours = getattr(real, whose)[feature], getattr(simulated[name], whose)[feature]
                if np.isfinite(truth) and np.isfinite(ours):
                    rows.append((name, feature, whose, truth, ours, abs(ours / truth - 1.0)))
    return rows


def report(run: Run, name: str, config: Config, recorded, simulated, rows) -> Report:
    page = Report(
        f"Simulated testbed: {name}",
        "Do simulated anomalies lengthen jobs and runs as the recorded ones do?",
    )
    page.figure(
        "effects",
        run.figure("effects", effect_figure(rows, recorded, simulated)),
        f"Left: median ratio to normal runs; right: median makespan. {config.runs} simulated runs a class.",
    )
    page.table("Effects", ("class", "feature", "jobs", "recorded", "simulated", "relative error"), rows)
    lengths = [(n, recorded[n].makespan, simulated[n].makespan) for n in recorded]
    page.table("Makespans (s)", ("class", "recorded", "simulated"), lengths)
    return page


@style()
def effect_figure(rows, recorded, simulated) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.6))
    left, right = axes[0]
    both = (("anomalous", "on degraded workers", ORANGE), ("beside", "normal-labelled, same runs", BLUE))
    for whose, label, colour in both:
        pairs = [(truth, ours) for _, _, w, truth, ours, _ in rows if w == whose]
        left.scatter(*zip(*pairs, strict=True), color=colour, label=label)
    highest = max(max(r[3], r[4]) for r in rows) * 1.2
    line = np.array([0.6, highest])
    left.plot(line, line, color=GREY, linestyle=":", label="equal")
    left.fill_between(line, line * 0.65, line * 1.35, color=GREY, alpha=0.15, label="within 35 %")
    left.set(xscale="log", yscale="log", xlabel="recorded: times longer", ylabel="simulated: times longer")
    marks = [tick for tick in (0.5, 1, 2, 5, 10, 20, 50) if tick < highest]
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(FixedLocator(marks))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_locator(NullLocator())
    left.legend()
    names = list(recorded)
    place = np.arange(len(names))
    right.bar(place - 0.2, [recorded[n].makespan for n in names], 0.4, color=GREY, label="recorded")
    right.bar(place + 0.2, [simulated[n].makespan for n in names], 0.4, color=BLUE, label="simulated")
    right.set(xticks=place, xticklabels=names, ylabel="median makespan (s)")
    right.legend()
    return figure

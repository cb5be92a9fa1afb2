"""Which experiment next: a detector of degraded workers that asks a testbed for the runs it learns most from."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.settings import Settings
from experiments.workflow_data import DataConfig
from jaxsci.active import Committee, Ledger, Oracle, Random, StoppingRule, Strategy, run_campaign
from jaxsci.core.config import between, positive
from jaxsci.core.figures import COLOURS, GREY, new_figure, style
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.workflows.committee import CommitteeConfig
from jaxsci.workflows.external import ExternalTestbed
from jaxsci.workflows.learner import WorkerLearner, full_data_auc
from jaxsci.workflows.metrics import interval
from jaxsci.workflows.replay import TraceReplay
from jaxsci.workflows.requests import ExperimentRequest, mean_seconds, request_for
from jaxsci.workflows.simulated import SimulatedTestbed
from jaxsci.workflows.splits import split_by_run
from jaxsci.workflows.watch import graph_of
from jaxsci.workflows.workflow import Workflow


@dataclass(frozen=True)
class ExternalConfig:
    """`folder` into which requests are written and beside which answers are looked for, by default `testbed` in the run
    directory; looked at every `poll_seconds`, for `timeout_seconds` at most. `n_workers` to degrade."""

    folder: str | None = None
    poll_seconds: float = 5.0
    timeout_seconds: float = 86400.0
    n_workers: int = 5

    def __post_init__(self) -> None:
        positive(self, "poll_seconds", "timeout_seconds", "n_workers")


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`oracle`: recorded runs given out once each, the simulated testbed calibrated to the pool's normal runs, or a
    testbed outside this process (`external`). `requests` of `runs_per_request` runs at most, the first `start` at
    random, by `strategy` and by chance, for `seeds` splits. `others` are further strategies to compare. `reach`: the
    share of the full-data AUC to get to.

    An external testbed is not asked twice: only `strategy` is run, on the first split, and nothing is compared. `data`
    then gives the graph, the classes, their cost and the test runs; see `ExternalConfig`."""

    data: DataConfig = field(default_factory=DataConfig)
    oracle: Literal["replay", "testbed", "external"] = "replay"
    external: ExternalConfig = field(default_factory=ExternalConfig)
    strategy: Strategy = field(default_factory=Committee)
    others: tuple[Strategy, ...] = ()
    learner: CommitteeConfig = field(default_factory=CommitteeConfig)
    requests: int = 24
    runs_per_request: int = 5
    start: int = 3
    seeds: int = 10
    reach: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "requests", "runs_per_request", "start", "seeds")
        between(self, "reach", 0.5, 1.0)


@dataclass(frozen=True)
class Course:
    """One campaign: seconds spent, runs made and AUC after every fit; the target, and requests by group."""

    seconds: np.ndarray
    runs: np.ndarray
    auc: np.ndarray
    target: float
    counts: Mapping[str, int]

    def reached(self, spent: np.ndarray) -> float | None:
        hit = np.flatnonzero(self.auc >= self.target)
        return float(spent[hit[0]]) if len(hit) else None


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    workflow = config.data.load()
    workflow.anomalous()
    strategies: dict[str, Strategy] = {label(config.strategy): config.strategy}
    if config.oracle != "external":
        strategies = {"random": Random()} | strategies | {label(other): other for other in config.others}
    seeds = config.seeds if config.oracle != "external" else 1
    begin = time.perf_counter()
    courses: dict[str, list[Course]] = {name: [] for name in strategies}
    with Interrupt() as interrupt, progress(seeds * len(strategies), "campaigns") as bar:
        for seed in range(seeds):
            pool, test = split_by_run(workflow.runs, config.seed + seed)
            key = jax.random.fold_in(jax.random.key(config.seed), seed)
            learner = WorkerLearner(workflow.take(test), config.learner)
            full = full_data_auc(workflow.take(pool), workflow.take(test), config.learner, key=key)
            for name, strategy in strategies.items():
                course = campaign(config, run, workflow, pool, learner, name, strategy, seed, full, interrupt)
                courses[name].append(course)
                bar.update(1, auc=float(course.auc[-1]))
            run.log({f"auc_{name}": courses[name][-1].auc[-1] for name in strategies} | {"auc_full": full}, seed)
    metrics = compare(courses, label(config.strategy))
    seconds = {"campaigns": time.perf_counter() - begin}
    references = {}
    if "random" in courses:
        said = "goal: 40 % fewer testbed-seconds than random"
        references["seconds_saved_fraction"] = Reference(0.4, said, "higher")
    summary = Summary("workflow_active", metrics, references, seconds, remarks(config, metrics))
    return summary, report(config, run, workflow, courses, metrics)


def label(strategy: Strategy) -> str:
    return strategy.kind + ("_per_second" if getattr(strategy, "per_cost", False) else "")


def campaign(
    config: Config,
    run: Run,
    workflow: Workflow,
    pool: np.ndarray,
    learner: WorkerLearner,
    name: str,
    strategy: Strategy,
    seed: int,
    full: float,
    interrupt: Interrupt,
) -> Course:
    """Run, or continue, the campaign of one strategy and seed; its ledger lies in the run directory."""
    oracle = oracle_for(config, run, workflow, pool, interrupt)
    menu = list(oracle.requests())
    drawn = np.random.default_rng([config.seed, seed]).integers(0, len(menu), config.start)
    folder = run.checkpoint_directory
    folder.mkdir(exist_ok=True)
    ledger = Ledger(ExperimentRequest, folder / f"ledger_{name}_{seed}.jsonl")
    done = run_campaign(
        oracle,
        learner,
        strategy,
        StoppingRule(requests=config.requests),
        ledger,
        key=jax.random.fold_in(jax.random.key(config.seed), seed),
        start=[menu[i] for i in drawn],
        interrupt=interrupt,
    )
    if done.interrupted:
        raise KeyboardInterrupt(f"interrupted; continue with resume={run.directory}")
    spent, auc = ledger.course("auc")
    made = np.cumsum([len(entry.receipt.get("rows", ())) or entry.request.n_runs for entry in ledger.entries])
    kept = [i for i, entry in enumerate(ledger.entries) if "auc" in entry.scores]
    return Course(spent, made[kept], auc, config.reach * full, ledger.counts())


def oracle_for(config: Config, run: Run, workflow: Workflow, pool: np.ndarray, interrupt: Interrupt) -> Oracle:
    """Who answers the requests."""
    known = workflow.take(pool)
    if config.oracle == "replay":
        return TraceReplay(workflow, pool, n_runs=config.runs_per_request)
    if config.oracle == "testbed":
        return SimulatedTestbed(known, n_runs=config.runs_per_request)
    external = config.external
    menu = {
        request_for(workflow.name, name, n_runs=config.runs_per_request, n_workers=external.n_workers): seconds
        for name, seconds in mean_seconds(known).items()
    }

    def sleep(seconds: float) -> None:
        time.sleep(seconds)
        if interrupt.requested():
            raise KeyboardInterrupt(f"interrupted; continue with resume={run.directory}")

    return ExternalTestbed(
        Path(external.folder) if external.folder else run.path("testbed"),
        graph_of(workflow),
        menu,
        timeout=external.timeout_seconds,
        poll=external.poll_seconds,
        sleep=sleep,
    )


def compare(courses: Mapping[str, Sequence[Course]], ours: str) -> dict[str, float]:
    """Shares saved against random, paired by seed.

    A campaign that never reaches the target counts with all it spent, which understates its need; `reached_share` says
    how many did.
    """
    metrics: dict[str, float] = {}
    for name, own in courses.items():
        for unit in ("seconds", "runs"):
            need = [_need(course, unit) for course in own]
            metrics[f"{unit}_to_target_{name}"], metrics[f"{unit}_to_target_{name}_interval"] = interval(need)
            if name != "random" and "random" in courses:
                base = [_need(course, unit) for course in courses["random"]]
                saved = [1.0 - a / b for a, b in zip(need, base, strict=True)]
                metrics[f"{unit}_saved_fraction_{name}"], metrics[f"{unit}_saved_fraction_{name}_interval"] = interval(
                    saved
                )
        metrics[f"reached_share_{name}"] = float(np.mean([c.reached(c.seconds) is not None for c in own]))
        metrics[f"auc_last_{name}"] = float(np.mean([course.auc[-1] for course in own]))
    metrics["auc_target"] = float(np.mean([course.target for course in courses[ours]]))
    for unit in ("seconds", "runs") if "random" in courses else ():
        metrics[f"{unit}_saved_fraction"] = metrics[f"{unit}_saved_fraction_{ours}"]
        metrics[f"{unit}_saved_fraction_interval"] = metrics[f"{unit}_saved_fraction_{ours}_interval"]
    return metrics


def _need(course: Course, unit: str) -> float:
    spent = getattr(course, unit)
    found = course.reached(spent)
    return float(spent[-1]) if found is None else found


def remarks(config: Config, metrics: Mapping[str, float]) -> tuple[str, ...]:
    ours = label(config.strategy)
    reaching = (
        f"Reaching the target means: the test AUC after a fit is at least {config.reach:g} of that with the whole "
        f"pool. {100 * metrics[f'reached_share_{ours}']:.0f} % of the campaigns of {ours} did"
    )
    disjoint = "Test runs are disjoint from all that requests can bring; scaling is fitted to the answers alone."
    if "seconds_saved_fraction" not in metrics:
        return (reaching + ".", disjoint)
    saved, half = metrics["seconds_saved_fraction"], metrics["seconds_saved_fraction_interval"]
    amount = f"{100 * saved:.0f} % of what random needs, +- {100 * half:.0f} (95 %, paired)"
    if metrics[f"reached_share_{ours}"] < 1.0:
        verdict = f"{ours} does not always get there, so that its saving is not shown: {amount}, all spent counted."
    elif saved - half > 0:
        verdict = f"{ours} saves testbed time: {amount}."
    else:
        verdict = f"{ours} does not save testbed time that these seeds could show: {amount}."
    return (verdict, f"{reaching}, {100 * metrics['reached_share_random']:.0f} % of those of random.", disjoint)


def report(config: Config, run: Run, workflow: Workflow, courses, metrics) -> Report:
    page = Report(
        f"Asking for the right experiment: {workflow.name}",
        f"How many testbed-seconds does a detector of degraded workers need, if it may choose the next experiment? "
        f"{len(next(iter(courses.values())))} splits, oracle: {config.oracle}.",
    )
    page.figure(
        "course",
        run.figure("course", learning_curves(courses)),
        "Test AUC against testbed time, mean over seeds; the dotted line is the target.",
    )
    rows = [
        (
            name,
            metrics[f"seconds_to_target_{name}"] / 3600,
            metrics[f"runs_to_target_{name}"],
            metrics.get(f"seconds_saved_fraction_{name}"),
            metrics.get(f"seconds_saved_fraction_{name}_interval"),
            metrics[f"reached_share_{name}"],
        )
        for name in courses
    ]
    columns = (
        "strategy",
        "hours to target",
        "runs to target",
        "share of seconds saved",
        "95 % ±",
        "campaigns that got there",
    )
    page.table("Strategies", columns, rows)
    groups = sorted({group for own in courses.values() for course in own for group in course.counts})
    asked = [
        (name, *(float(np.mean([course.counts.get(group, 0) for course in own])) for group in groups))
        for name, own in courses.items()
    ]
    page.table("Requests by class, mean over seeds", ("strategy", *groups), asked)
    return page


@style()
def learning_curves(courses: Mapping[str, Sequence[Course]]) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.4))
    for axis, unit, scale in ((axes[0, 0], "seconds", 3600.0), (axes[0, 1], "runs", 1.0)):
        for (name, own), colour in zip(courses.items(), COLOURS, strict=False):
            longest = min(getattr(course, unit)[-1] for course in own)
            grid = np.linspace(max(getattr(course, unit)[0] for course in own), longest, 60)
            values = np.array([np.interp(grid, getattr(course, unit), course.auc) for course in own])
            middle, half = values.mean(axis=0), values.std(axis=0) / np.sqrt(len(values))
            axis.plot(grid / scale, middle, color=colour, label=name.replace("_", " "))
            axis.fill_between(grid / scale, middle - half, middle + half, color=colour, alpha=0.15)
        target = np.mean([course.target for own in courses.values() for course in own])
        axis.axhline(target, color=GREY, linestyle=":", label="target")
        axis.set(xlabel="testbed time (h)" if unit == "seconds" else "runs", ylabel="test AUC, jobs")
    axes[0, 1].legend(loc="lower right")
    return figure

"""How many target runs per second: one vmapped race against the same solver called run by run from a process pool."""

import multiprocessing
import os
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from matplotlib.figure import Figure

from experiments.settings import Settings
from jaxsci.core.config import between, positive
from jaxsci.core.errors import JaxsciError
from jaxsci.core.figures import BLUE, ORANGE, new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.racing import baselines, packaged
from jaxsci.racing.targets.protocol import Job
from jaxsci.racing.targets.sa_qap import QapTarget, qap_space


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """An F-race of `candidates` on up to `blocks` blocks each, of `steps` swaps a run, `repeats` times; the pool of
    `workers` processes (null: one a core) gets `pool_runs` of the same runs. `data` is a folder of QAPLIB files, null
    the package's.
    """

    data: str | None = None
    candidates: int = 256
    blocks: int = 10
    steps: int = 5000
    pool_runs: int = 100
    workers: int | None = None
    repeats: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "steps", "pool_runs", "workers")
        between(self, "candidates", 2, 100_000)
        between(self, "blocks", 5, 10_000)
        between(self, "repeats", 1, 1000)


class Recorded:
    """A target that keeps the jobs it was asked for and the time they took."""

    def __init__(self, target: QapTarget):
        self.target, self.jobs, self.costs, self.seconds = target, [], [], 0.0

    @property
    def instances(self):
        return self.target.instances

    def __call__(self, jobs):
        begin = time.perf_counter()
        outcomes = self.target(jobs)
        self.seconds += time.perf_counter() - begin
        self.jobs += jobs
        self.costs += [outcome.cost for outcome in outcomes]
        return outcomes


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    target = QapTarget(packaged.qap_instances("train", config.data), steps=config.steps)
    options = baselines.RandomSearch(config.candidates * config.blocks, blocks=config.blocks)
    workers = config.workers or os.cpu_count() or 1
    begin = time.perf_counter()
    first = Recorded(target)
    baselines.random_search(qap_space(), first, options, seed=config.seed)
    warm = time.perf_counter() - begin
    ours, whole, theirs = [], [], []
    context = multiprocessing.get_context("spawn")
    stride = max(len(first.jobs) // config.pool_runs, 1)
    chosen = list(range(0, len(first.jobs), stride))[: config.pool_runs]
    jobs = [first.jobs[i] for i in chosen]
    begin = time.perf_counter()
    with ProcessPoolExecutor(workers, context, _begin, (config.data, config.steps)) as pool:
        expected = list(pool.map(_single, jobs))  # compiles, in every worker
        pool_start = time.perf_counter() - begin
        if expected != [first.costs[i] for i in chosen]:
            raise JaxsciError("the same runs cost differently in a batch and alone; please report this")
        with progress(config.repeats, "races and pools") as bar:
            for repeat in range(config.repeats):
                again = Recorded(target)
                begin = time.perf_counter()
                baselines.random_search(qap_space(), again, options, seed=config.seed)
                whole.append(len(again.jobs) / (time.perf_counter() - begin))
                ours.append(len(again.jobs) / again.seconds)
                begin = time.perf_counter()
                list(pool.map(_single, jobs))
                theirs.append(len(jobs) / (time.perf_counter() - begin))
                run.log({"race": whole[-1], "race_target_only": ours[-1], "pool": theirs[-1]}, repeat)
                bar.update(1)
    metrics = {
        "runs_per_second_ratio": statistics.median(a / b for a, b in zip(whole, theirs, strict=True)),
        "runs_per_second_race": statistics.median(whole),
        "runs_per_second_race_target_only": statistics.median(ours),
        "runs_per_second_pool": statistics.median(theirs),
        "ratio_least": min(a / b for a, b in zip(whole, theirs, strict=True)),
        "ratio_most": max(a / b for a, b in zip(whole, theirs, strict=True)),
        "workers": workers,
        "compile_seconds_race": max(warm - len(first.jobs) / statistics.median(whole), 0.0),
        "start_and_compile_seconds_pool": pool_start,
    }
    references = {"runs_per_second_ratio": Reference(10.0, "asked of one vmapped race on the same cores", "higher")}
    notes = (
        f"The race is of {config.candidates} configurations, {len(first.jobs)} runs, sampling and tests included; the "
        f"pool calls the same compiled solver for {len(jobs)} runs of that race, one at a time in each of {workers} "
        "processes, and returns the same costs bit for bit.",
        f"Medians of {config.repeats} rounds, race and pool in turn. Compilation and the start of processes are apart.",
    )
    summary = Summary("benchmarks/racing_speed", metrics, references, {}, notes)
    page = Report(
        "One vmapped race and a pool of processes",
        f"How many runs of annealing and tabu search, of {config.steps} swaps each, are done per second?",
    )
    page.figure("rates", run.figure("rates", draw(whole, theirs)), "Every round, logarithmic scale.")
    return summary, page


_TARGET: QapTarget | None = None


def _begin(data: str | None, steps: int) -> None:
    """In each worker, once."""
    global _TARGET
    _TARGET = QapTarget(packaged.qap_instances("train", data), steps=steps, lanes=1)


def _single(job: Job) -> float:
    assert _TARGET is not None
    return _TARGET([job])[0].cost


@style()
def draw(ours: list[float], theirs: list[float]) -> Figure:
    figure, axes = new_figure(1, 1, (7, 3.6))
    axis = axes[0, 0]
    for place, (values, colour) in enumerate(((theirs, ORANGE), (ours, BLUE))):
        axis.scatter(values, [place] * len(values), color=colour, s=30)
        axis.plot([statistics.median(values)] * 2, [place - 0.25, place + 0.25], color=colour)
        axis.text(statistics.median(values), place + 0.3, f"{statistics.median(values):,.0f}", ha="center")
    axis.set_yticks([0, 1], ["process pool", "vmapped race"])
    axis.set(xscale="log", xlabel="target runs per second", ylim=(-0.6, 1.7))
    return figure

"""Tune an algorithm by racing: iterated F-race, MADS, random search or successive halving on any target."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments import racing_report as pages
from experiments.racing_targets import Data, TargetConfig, Tuned, families
from experiments.settings import Settings
from jaxsci.core.config import between, positive, require
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.racing import baselines, importance, iterated, mads
from jaxsci.racing.ledger import Blocks, Ledger
from jaxsci.racing.log import RunLog
from jaxsci.racing.race import Rules
from jaxsci.racing.space import Configuration
from jaxsci.racing.targets.protocol import Job
from jaxsci.racing.tuning import Tuning, header

Method = Literal["irace", "ifrace2010", "mads", "random", "halving"]


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`budget` counts target runs; with `max_time`, seconds of target time, it is null. `pool`: how many times as many
    candidates a model of the log chooses from, 1 for plain irace. `initial`: configurations to begin with.
    `deterministic`: each instance once, without a seed. `ablation` runs are spent afterwards on the way from the
    default to the best.
    """

    target: TargetConfig
    data: Data = field(default_factory=Data)
    tuner: Method = "irace"
    budget: int | None = 1000
    max_time: float | None = None
    rules: Rules = field(default_factory=Rules)
    pool: int = 10
    initial: tuple[Any, ...] = ()
    deterministic: bool = False
    test_seeds: int = 10
    ablation: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "budget", "max_time")
        both = f"budget {self.budget} and max_time {self.max_time}"
        require((self.budget is None) != (self.max_time is None), "budget", "either budget or max_time", both)
        iterates = self.tuner in ("irace", "ifrace2010")
        require(iterates or self.max_time is None, "max_time", f"null with tuner={self.tuner}", self.max_time)
        between(self, "pool", 1, 1000)
        between(self, "test_seeds", 1, 1000)
        between(self, "ablation", 0, 10**6)


class Tested(NamedTuple):
    """Mean costs on test instances: of the incumbents along the curve, of the best and of the default."""

    curve: tuple[tuple[int, float], ...]
    best: float
    default: float | None


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    tuned = config.target.build(config.data)
    options, tune = _method(config)
    log = RunLog(run.path("runs.jsonl"), header(tuned.space, options, config.seed, tuned.train.instances))
    known, begin = len(log.runs), time.perf_counter()
    try:
        whole, what = (config.budget, "target runs") if config.budget else (config.max_time or 1.0, "target seconds")
        with progress(round(whole), what) as bar, Interrupt() as interrupt:

            def watch(used: int, budget: int) -> None:
                done = max(watch.shown, round(whole * used / budget))
                bar.update(done - watch.shown)
                watch.shown = done
                if interrupt.requested():
                    raise KeyboardInterrupt(f"stopped after {used} runs; continue with resume={run.directory}")

            watch.shown = 0
            initial = config.initial
            tuning = tune(tuned.space, tuned.train, options, seed=config.seed, log=log, watch=watch, initial=initial)
    finally:
        log.close()
    seconds = {"tuning": time.perf_counter() - begin}
    for place, point in enumerate(tuning.curve):
        run.log({"used": point.used, "incumbent": point.number}, place)
    begin = time.perf_counter()
    tested = _tested(config, tuned, tuning)
    path = _ablation(config, tuned, tuning)
    seconds["testing"] = time.perf_counter() - begin
    shares = importance.importance(tuned.space, tuning.ledger, seed=config.seed)
    summary = _summary(config, tuned, tuning, tested, shares, known, seconds)
    return summary, pages.report(run, config, tuned, tuning, tested, shares, path)


def _method(config: Config) -> tuple[Any, Callable[..., Tuning]]:
    """Options and function of the method."""
    deterministic, budget = config.deterministic, config.budget or 0
    match config.tuner:
        case "irace":
            options = iterated.Iterated(
                config.budget,
                rules=config.rules,
                pool=config.pool,
                deterministic=deterministic,
                max_time=config.max_time,
            )
            return options, iterated.tune
        case "ifrace2010":
            options = iterated.Iterated(
                config.budget,
                rule="ifrace2010",
                rules=config.rules,
                pool=1,
                design="uniform",
                deterministic=deterministic,
                max_time=config.max_time,
            )
            return options, iterated.tune
        case "mads":
            return mads.Mads(budget, deterministic=deterministic), mads.tune
        case "random":
            return baselines.RandomSearch(budget, deterministic=deterministic), baselines.random_search
        case "halving":
            return baselines.Halving(budget, deterministic=deterministic), baselines.successive_halving


def _tested(config: Config, tuned: Tuned, tuning: Tuning) -> Tested:
    """All of them on the same blocks, which the tuning has not seen."""
    rng = np.random.default_rng([config.seed, 11])
    seeds = [int(s) for s in rng.integers(1, 2**31 - 1, 1 if config.deterministic else config.test_seeds)]
    seen: dict[int, float] = {}

    def mean(number: int, configuration: Configuration) -> float:
        if number not in seen:
            jobs = [Job(number, configuration, name, seed) for name in tuned.test.instances for seed in seeds]
            costs = np.array([outcome.cost for outcome in tuned.test(jobs)])
            seen[number] = float(costs[np.isfinite(costs)].mean()) if np.isfinite(costs).any() else float("nan")
        return seen[number]

    known = tuning.ledger.configurations
    curve = tuple((point.used, mean(point.number, known[point.number])) for point in tuning.curve)
    default = None if tuned.default is None else mean(0, tuned.default)
    return Tested(curve, mean(tuning.number, tuning.best), default)


def _ablation(config: Config, tuned: Tuned, tuning: Tuning) -> list[importance.Ablation]:
    if tuned.default is None or not config.ablation:
        return []
    blocks = Blocks(tuple(tuned.train.instances), config.seed + 1, config.deterministic)
    ledger = Ledger(tuned.train, blocks, config.ablation, RunLog(None, {}))
    count = len(blocks.instances)
    return importance.ablation(tuned.space, ledger, tuned.default, tuning.best, range(count))


def _summary(
    config: Config,
    tuned: Tuned,
    tuning: Tuning,
    tested: Tested,
    shares: dict[str, float],
    known: int,
    seconds: dict[str, float],
) -> Summary:
    ledger = tuning.ledger
    own = [cost for (number, _), cost in ledger.costs.items() if number == tuning.number and np.isfinite(cost)]
    metrics = {
        "cost_test": tested.best,
        "cost_train": float(np.mean(own)),
        "runs_used": ledger.used,
        "runs_left": ledger.left,
        "runs_replayed": min(known, ledger.replayed),
        "configurations": len(ledger.configurations),
        "races": len(tuning.races),
        "rejected_runs": sum(not np.isfinite(cost) for cost in ledger.costs.values()),
        "runs_per_second": (ledger.used - ledger.replayed) / max(seconds["tuning"], 1e-9),
    }
    references = {}
    if tested.default is not None:
        metrics["cost_test_default"] = tested.default
        references["cost_test"] = Reference(tested.default, "the default configuration, same test blocks", "lower")
    metrics |= {f"importance_{name}": share for name, share in shares.items()}
    notes = (
        f"Costs: {tuned.unit}. Training instances: {families(tuned.train.instances)}; test instances: "
        f"{families(tuned.test.instances)}.",
        f"{tuning.result[0].upper()}{tuning.result[1:]}.",
        "The training cost is over the blocks of the race, which favours what was selected on them.",
        "The test level of a race is nominal: it is applied after every block.",
        *(
            (
                f"Only {len(tuned.train.instances)} training instances: the first test repeats them with other seeds, "
                "which says little about new instances.",
            )
            if len(tuned.train.instances) < config.rules.first
            else ()
        ),
    )
    return Summary("racing", metrics, references, seconds, notes)

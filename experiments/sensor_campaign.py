"""Which station to buy next: an active loop that learns from its purchases how good each region's stations are."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import sensor_campaign_report as pages
from experiments import weather
from experiments.sensor_stations import (
    Beliefs,
    Market,
    Region,
    StationLearner,
    StationOracle,
    StationRequest,
    market,
    sensitivities,
)
from jaxsci.active import Ledger, Random, StoppingRule, Strategy, run_campaign
from jaxsci.active.acquisition import ExpectedGain
from jaxsci.assimilation.daily import Analyser
from jaxsci.core.config import between, positive, require
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.emulators import ReducedField
from jaxsci.workflows.metrics import interval


class Arm(NamedTuple):
    """A way of choosing: by what rule, and believing what of the instruments not yet bought."""

    strategy: Strategy
    beliefs: Beliefs


ARMS = {
    "random": Arm(Random(), "assumed"),
    "greedy": Arm(ExpectedGain(per_cost=False), "assumed"),
    "greedy_per_cost": Arm(ExpectedGain(), "assumed"),
    "active": Arm(ExpectedGain(), "estimated"),
    "informed": Arm(ExpectedGain(), "true"),
}
OURS = "active"


@dataclass(frozen=True, kw_only=True)
class Config(weather.WeatherConfig):
    """Stations are bought one by one until `budget` is spent, the first `start` of them at random, for `seeds` markets.

    `regions` have their prices, points outside them cost `elsewhere`. Everyone is told that instruments err by
    `noise_std`; in each market every region's truly err by that times a factor between `noise_factors`, drawn
    logarithmically uniform. `prior_days` days of records weigh as much as what was told. The target is the mean error
    of `reference_stations` random stations.

    The validation days calibrate the errors, the test days are analysed and scored.
    """

    regions: dict[str, Region] = field(default_factory=dict)
    elsewhere: float = 1.0
    budget: float = 40.0
    start: int = 2
    seeds: int = 10
    reference_stations: int = 12
    noise_factors: tuple[float, float] = (0.5, 4.0)
    prior_days: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "elsewhere", "budget", "seeds", "prior_days")
        between(self, "start", 1, 1000)
        between(self, "reference_stations", self.start, 1000)
        low, high = self.noise_factors
        require(0 < low <= high, "noise_factors", "two values above 0, the lower first", self.noise_factors)
        emulator = self.emulator
        require(self.precision == "float64", "precision", "float64 in this experiment", self.precision)
        require(emulator.choose == "linear", "emulator.choose", "linear in this experiment", emulator.choose)
        require(emulator.ensemble == "none", "emulator.ensemble", "none in this experiment", emulator.ensemble)
        require(not self.data.companions, "data.companions", "none in this experiment", self.data.companions)

    @property
    def most(self) -> int:
        """The most stations that the budget can buy, the last of them perhaps beyond it."""
        cheapest = min([self.elsewhere, *(region.cost for region in self.regions.values())])
        return int(np.ceil(self.budget / cheapest)) + 1


class Course(NamedTuple):
    """One campaign: money spent and error after every fit, and what was bought."""

    spent: np.ndarray
    error: np.ndarray
    stations: tuple[int, ...]
    noise: np.ndarray
    """Estimated error of each region's instruments at the end."""

    def to_reach(self, target: float) -> float | None:
        hit = np.flatnonzero(self.error <= target)
        return float(self.spent[hit[0]]) if len(hit) else None


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    seconds: dict[str, float] = {}
    reduced = weather.load(config, config.most)
    emulators = weather.train(config, reduced, run, seconds)
    analyser = weather.analyser(config, config.most, reduced, emulators)
    begin = time.perf_counter()
    courses: dict[str, list[Course]] = {name: [] for name in ARMS}
    markets: list[Market] = []
    with Interrupt() as interrupt, progress(config.seeds * len(ARMS), "campaigns") as bar:
        for seed in range(config.seeds):
            markets.append(draw_market(config, reduced, seed))
            learner = learner_for(config, reduced, analyser, markets[-1])
            for name in ARMS:
                courses[name].append(campaign(config, run, reduced, markets[-1], learner, name, seed, interrupt))
                bar.update(1, arm=name, rmse=float(courses[name][-1].error[-1]))
            run.log({f"rmse_{name}": own[-1].error[-1] for name, own in courses.items()}, seed)
    seconds["campaigns"] = time.perf_counter() - begin
    target = reference_error(config, courses["random"])
    metrics = compare(courses, target) | noise_errors(config, markets, courses[OURS])
    summary = Summary("sensor_campaign", metrics, references(metrics), seconds, remarks(config, metrics))
    return summary, pages.report(config, run, reduced, markets, courses, target, metrics)


def draw_market(config: Config, reduced: ReducedField, seed: int) -> Market:
    """The prices, and the instruments of this seed."""
    low, high = np.log(config.noise_factors)
    factors = np.exp(np.random.default_rng([config.seed, seed]).uniform(low, high, len(config.regions) + 1))
    return market(config.regions, config.elsewhere, reduced, config.noise_std * factors)


def learner_for(config: Config, reduced: ReducedField, analyser: Analyser, sold: Market) -> StationLearner:
    sensitivity, target = sensitivities(analyser, config.window)
    calibration = reduced.split.validation.stop - reduced.split.validation.start
    return StationLearner(
        analyser,
        jnp.asarray(reduced.anomalies[reduced.split.test]),
        jnp.asarray(reduced.weights),
        sensitivity,
        target,
        jnp.asarray(sold.region),
        jnp.asarray(config.noise_std),
        jnp.asarray(sold.noise),
        config.prior_days,
        calibration,
        config.most,
        weather.BURN_IN_DAYS // analyser.protocol.days_per_window,
    )


def campaign(
    config: Config,
    run: Run,
    reduced: ReducedField,
    sold: Market,
    learner: StationLearner,
    name: str,
    seed: int,
    interrupt: Interrupt,
) -> Course:
    """Run, or continue, the campaign of one arm and seed; its ledger lies in the run directory."""
    key = jax.random.fold_in(jax.random.key(config.seed), seed)
    truth = np.asarray(reduced.anomalies[reduced.split.validation.start :])
    oracle = StationOracle(sold, truth, key=jax.random.fold_in(key, 0))
    first = np.random.default_rng([config.seed, seed, 1]).permutation(len(sold.cost))[: config.start]
    folder = run.checkpoint_directory
    folder.mkdir(exist_ok=True)
    ledger = Ledger(StationRequest, folder / f"ledger_{name}_{seed}.jsonl")
    arm = ARMS[name]
    done = run_campaign(
        oracle,
        replace(learner, beliefs=arm.beliefs),
        arm.strategy,
        StoppingRule(requests=None, cost=config.budget),
        ledger,
        key=jax.random.fold_in(key, 1),
        start=[oracle.request(int(point)) for point in first],
        interrupt=interrupt,
    )
    if done.interrupted:
        raise KeyboardInterrupt(f"interrupted; continue with resume={run.directory}")
    spent, error = ledger.course("rmse_m")
    bought = tuple(entry.request.station for entry in ledger.answered)
    return Course(spent, error, bought, np.asarray(done.model.noise))


def reference_error(config: Config, random: Sequence[Course]) -> float:
    """Mean error of `reference_stations` random stations, or of as many as the budget bought."""
    last = config.reference_stations - config.start
    return float(np.mean([course.error[min(last, len(course.error) - 1)] for course in random]))


def compare(courses: Mapping[str, Sequence[Course]], target: float) -> dict[str, float]:
    """Money to reach the target, and the share saved, paired by seed.

    A campaign that never gets there counts with all it spent, which understates its need; `reached_share` says how many
    did.
    """
    metrics: dict[str, float] = {"target_rmse_m": target}
    need = {name: [_need(course, target) for course in own] for name, own in courses.items()}
    for name, own in courses.items():
        metrics[f"cost_to_target_{name}"], metrics[f"cost_to_target_{name}_interval"] = interval(need[name])
        metrics[f"reached_share_{name}"] = float(np.mean([c.to_reach(target) is not None for c in own]))
        metrics[f"rmse_m_{name}"] = float(np.mean([course.error[-1] for course in own]))
        metrics[f"stations_{name}"] = float(np.mean([len(course.stations) for course in own]))
        if name != "random":
            saved = interval(_saved(need[name], need["random"]))
            metrics[f"cost_saved_fraction_{name}"], metrics[f"cost_saved_fraction_{name}_interval"] = saved
    metrics["cost_saved_fraction"] = metrics[f"cost_saved_fraction_{OURS}"]
    metrics["cost_saved_fraction_interval"] = metrics[f"cost_saved_fraction_{OURS}_interval"]
    by_learning = interval(_saved(need[OURS], need["greedy_per_cost"]))
    metrics["cost_saved_by_learning"], metrics["cost_saved_by_learning_interval"] = by_learning
    lower = [a.error[-1] - b.error[-1] for a, b in zip(courses["greedy_per_cost"], courses[OURS], strict=True)]
    metrics["rmse_gain_by_learning_m"], metrics["rmse_gain_by_learning_m_interval"] = interval(lower)
    return metrics


def _need(course: Course, target: float) -> float:
    found = course.to_reach(target)
    return float(course.spent[-1]) if found is None else found


def _saved(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [1.0 - a / b for a, b in zip(ours, theirs, strict=True)]


def noise_errors(config: Config, markets: Sequence[Market], own: Sequence[Course]) -> dict[str, float]:
    """Mean absolute error of the logarithm of the instruments' errors, over the regions bought in; told and learned."""
    told, learned = [], []
    for sold, course in zip(markets, own, strict=True):
        seen = np.unique(sold.region[list(course.stations)])
        told.append(np.mean(np.abs(np.log(config.noise_std / sold.noise[seen]))))
        learned.append(np.mean(np.abs(np.log(course.noise[seen] / sold.noise[seen]))))
    return {"noise_log_error_told": float(np.mean(told)), "noise_log_error_learned": float(np.mean(learned))}


def references(metrics: Mapping[str, float]) -> dict[str, Reference]:
    return {
        "cost_to_target_active": Reference(metrics["cost_to_target_random"], "random stations", "lower"),
        "rmse_m_active": Reference(metrics["rmse_m_random"], "random stations for the same money", "lower"),
        "cost_saved_fraction": Reference(metrics["cost_saved_fraction_informed"], "knowing the true errors"),
        "noise_log_error_learned": Reference(metrics["noise_log_error_told"], "what everyone was told", "lower"),
    }


def remarks(config: Config, metrics: Mapping[str, Any]) -> tuple[str, ...]:
    def said(name: str, over: str) -> str:
        saved, half = metrics[name], metrics[f"{name}_interval"]
        verdict = "saves money" if saved > half else "shows no saving" if saved > -half else "costs more"
        return f"active {verdict} over {over}: {100 * saved:.0f} % +- {100 * half:.0f} (95 %, paired by seed)."

    return (
        said("cost_saved_fraction", "random stations"),
        said("cost_saved_by_learning", "the same rule without learning (greedy_per_cost)"),
        f"The target, {metrics['target_rmse_m']:.1f} m, is the mean error of {config.reference_stations} random "
        f"stations; {100 * metrics['reached_share_active']:.0f} % of the active campaigns got there, "
        f"{100 * metrics['reached_share_random']:.0f} % of the random ones.",
        "All arms estimate errors from their records alike and differ in purchases; informed knows the true errors.",
        "Analyses and scores are of the test days, which no choice depends on.",
    )

"""The classification study: seeds one after the other, paired comparison, summary."""

import math
import time

import jax
import numpy as np
from scipy import stats

from experiments import bayesnas_data
from experiments import bayesnas_report as pages
from experiments.bayesnas_arms import SeedStudy
from experiments.bayesnas_config import Config
from experiments.bayesnas_evaluation import ARMS, NAMES, Results, SeedScores, evaluate
from experiments.bayesnas_modes import fastest_mode
from experiments.stages import Stages
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary

STAGES_PER_SEED = 5
WITHOUT_WEIGHTS = ("none", "skip", "skip_connect", "centre", "avg_pool_3x3", "max_pool_3x3")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    images = bayesnas_data.load(config)
    parameter_free = tuple(i for i, op in enumerate(config.space.ops) if op in WITHOUT_WEIGHTS)
    begin = time.perf_counter()
    found: list[SeedScores] = []
    first: tuple[bayesnas_data.Problem, Results] | None = None
    config.weights.check_steps(config.ensemble.steps)
    with Interrupt() as interrupt, progress(config.seeds * STAGES_PER_SEED, "stages") as bar:
        stages = Stages(run, interrupt)
        mode, timings = config.ensemble.mode, {}
        for seed in range(config.seeds):
            problem = bayesnas_data.problem(config, images, seed)
            if mode == "auto":
                mode, timings = fastest_mode(config, problem)
            study = SeedStudy(config, problem, stages, bar, run.checkpoint_directory, seed, mode)
            results = study.run()
            key = jax.random.fold_in(study.key, 20)
            found.append(evaluate(problem, results, config.ensemble.architectures, parameter_free, key))
            first = first or (problem, results)
            joint, alone = (found[-1].arms[arm].clean[NAMES.index("nll")] for arm in ("joint", "single"))
            run.log({"nll_joint": joint, "nll_single": alone, "entropy": found[-1].search["entropy"]}, seed)
    assert first is not None
    seconds = {"study": time.perf_counter() - begin}
    summary = _summary(config, found, study.pool, mode, timings, seconds)
    return summary, pages.report(config, run, images, first, found, summary)


def column(found: list[SeedScores], arm: str, score: str, which: str = "clean") -> np.ndarray:
    """One score of one arm over the seeds; `by_set` is averaged over the corrupted sets first."""
    values = [getattr(one.arms[arm], which) for one in found]
    number = NAMES.index(score)
    return np.array([v[:, number].mean() if which == "by_set" else v[number] for v in values])


def paired(found: list[SeedScores], other: str) -> tuple[float, float]:
    """Mean difference in NLL, joint less `other`, and the two-sided p-value of a paired t test.

    Pairs are seeds; with a single seed they are test examples (then only `deep_ensemble`).
    """
    gap = column(found, "joint", "nll") - column(found, other, "nll") if len(found) > 1 else found[0].nll_gap
    spread = np.std(gap)
    p = float(np.asarray(stats.ttest_1samp(gap, 0.0))[1]) if spread > 0 else 1.0
    return float(np.mean(gap)), p if math.isfinite(p) else 1.0


def _summary(config: Config, found: list[SeedScores], pool: int, mode: str, timings: dict, seconds: dict) -> Summary:
    metrics: dict[str, float] = {}
    for arm in ARMS:
        for score in ("accuracy", "nll", "brier", "ece", "adaptive_ece", "classwise_ece", "gap"):
            metrics[f"{score}_{arm}"] = float(column(found, arm, score).mean())
        for score in ("accuracy", "nll", "brier", "ece", "adaptive_ece"):
            metrics[f"{score}_corrupted_{arm}"] = float(column(found, arm, score, "by_set").mean())
        for score in ("nll", "ece"):
            metrics[f"{score}_calibrated_{arm}"] = float(column(found, arm, score, "calibrated").mean())
        floors = np.mean([one.arms[arm].floor for one in found], axis=0)
        metrics |= {f"ece_floor_{arm}": float(floors[0]), f"adaptive_ece_floor_{arm}": float(floors[1])}
        metrics[f"temperature_{arm}"] = float(np.mean([one.arms[arm].temperature for one in found]))
        metrics[f"nll_standard_error_{arm}"] = _standard_error(column(found, arm, "nll"))
        metrics[f"ece_standard_error_{arm}"] = _standard_error(column(found, arm, "ece"))
    others = (
        ("deep_ensemble", "deep_ensemble_chain", "random_architectures", "nes")
        if len(found) > 1
        else ("deep_ensemble",)
    )
    for other in others:
        difference, p = paired(found, other)
        metrics |= {
            f"nll_difference_joint_vs_{other}": difference,
            f"p_value_nll_joint_vs_{other}": p,
        }
    for name in found[0].split:
        metrics[f"uncertainty_{name}"] = float(np.mean([one.split[name] for one in found]))
    for kind, by_score in found[0].detection.items():
        for score in by_score:
            metrics[f"auroc_{kind}_{score}"] = float(np.mean([one.detection[kind][score] for one in found]))
    metrics["nll_stacked_joint"] = float(np.mean([one.stacked for one in found]))
    for arm in found[0].intervals:
        for score in ("nll", "ece"):
            low, high = np.mean([one.intervals[arm][:, NAMES.index(score)] for one in found], axis=0)
            metrics |= {f"{score}_low_{arm}": float(low), f"{score}_high_{arm}": float(high)}
    metrics["deep_ensemble_equivalent_joint"] = float(np.mean([one.equivalent for one in found]))
    for name in found[0].search:
        metrics[f"search_{name}"] = float(np.mean([one.search[name] for one in found]))
    metrics |= {f"seconds_per_step_{name}": value for name, value in timings.items()}
    metrics |= {"seeds": len(found), "pool": pool}
    return Summary("bayesnas", metrics, _references(metrics), seconds, _notes(config, metrics, len(found), pool, mode))


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0


def _references(metrics: dict[str, float]) -> dict[str, Reference]:
    return {
        "ece_joint": Reference(0.58 * metrics["ece_single"], "42 % below the single network", "lower"),
        "nll_joint": Reference(0.80 * metrics["nll_single"], "20 % below the single network", "lower"),
        "ece_corrupted_joint": Reference(
            0.70 * metrics["ece_corrupted_single"], "30 % below the single network, mean over corruptions", "lower"
        ),
        "nll_difference_joint_vs_deep_ensemble": Reference(0.0, "the deep ensemble of the same training cost", "lower"),
        "accuracy_joint": Reference(metrics["accuracy_deep_ensemble"], "the deep ensemble", "higher"),
        "ece_floor_joint": Reference(metrics["ece_joint"], "the joint's ECE: what is left above the floor"),
    }


def _notes(config: Config, metrics: dict[str, float], seeds: int, pool: int, mode: str) -> tuple[str, ...]:
    ensemble = config.ensemble
    chains = ensemble.architectures * ensemble.restarts
    difference, p = (metrics[f"{what}_joint_vs_deep_ensemble"] for what in ("nll_difference", "p_value_nll"))
    if p >= 0.05:
        verdict = f"the difference in NLL to the deep ensemble, {difference:+.4f}, is within chance (p = {p:.2g})"
    elif difference < 0:
        verdict = f"the joint's NLL is lower than the deep ensemble's by {-difference:.4f} (p = {p:.2g})"
    else:
        verdict = (
            f"joint sampling adds nothing over the deep ensemble: its NLL is higher by {difference:.4f} (p = {p:.2g})"
        )
    pairs = f"{seeds} seeds" if seeds > 1 else "test examples of one seed"
    notes = [
        f"Paired t test over {pairs}: {verdict}.",
        f"Every arm trains {chains} networks for {ensemble.steps} steps after one search; random_architectures and nes "
        f"need no search and train {pool} instead. single and chain are one network or chain of that cost, as means.",
        "deep_ensemble pools one network per restart; deep_ensemble_chain, joint and nes also pool as many samples "
        f"per chain as the weight method gives ({config.weights.samples}).",
        "Probabilities are pooled, never logits, and scored as they are; *_calibrated scores have one temperature per "
        "arm, fitted after pooling on the calibration part, which corruptions and test images never enter.",
        f"Weight method {config.weights.kind}{_temperature(config)}; search {config.search.objective}, "
        f"{config.search.distribution}, divergence weight {config.search.divergence:g}; entropy left "
        f"{metrics['search_entropy']:.2f} of {config.space.decisions * math.log(len(config.space.ops)):.2f} nats, "
        f"{100 * metrics['search_skip_mass']:.0f} % of the probability on operations without weights.",
        "*_low_ and *_high_ are 95 % bootstrap intervals over a seed's test examples, as means; stacked: the joint's "
        "samples weighed by held-out likelihood instead of equally.",
        f"Members run by '{mode}'.",
    ]
    if config.data.kind == "cifar10":
        notes.append("Corruptions are CIFAR-10-C-regen: the published generator's parameters, not its files; no frost.")
    return tuple(notes)


def _temperature(config: Config) -> str:
    found = getattr(config.weights, "temperature", None)
    return "" if found is None else f" at temperature {found:g}"

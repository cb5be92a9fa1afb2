"""Which jobs of a workflow are anomalous and how, learned from labelled runs; beside gradient-boosted trees."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from experiments.peers import installed
from experiments.settings import Settings
from experiments.workflow_data import DataConfig, evaluate
from experiments.workflow_figures import bars, reliability, roc_curves
from experiments.workflow_ssl import Split, averaged
from experiments.workflow_training import training
from experiments.workflow_trees import tree_scores
from jaxsci.core.config import positive
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.workflows.baselines import z_worker_scores
from jaxsci.workflows.batch import runs_of
from jaxsci.workflows.calibration import (
    expected_calibration_error,
    fit_temperature,
    log_odds_of_anomaly,
    tempered,
)
from jaxsci.workflows.features import FINE_SCALE, fit_scaling
from jaxsci.workflows.graph import dag
from jaxsci.workflows.metrics import interval
from jaxsci.workflows.splits import split_by_run, split_by_time
from jaxsci.workflows.supervised import SupervisedConfig, facts_of, fit_detectors, probabilities
from jaxsci.workflows.workflow import Workflow

CALIBRATION_SHARE = 0.15  # of the training runs, held out of training for the temperature


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`seeds` splits by run, with an ensemble each, all trained at once. `trees`: how many of the seeds the trees are
    fitted for (they need scikit-learn, extra `bench`)."""

    data: DataConfig = field(default_factory=DataConfig)
    seeds: int = 5
    detector: SupervisedConfig = field(default_factory=SupervisedConfig)
    trees: int = 5
    time_blocked: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "seeds")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    workflow = config.data.load()
    labels = workflow.labels()
    splits = [split_by_run(workflow.runs, config.seed + s) for s in range(config.seeds)]
    if config.time_blocked:
        splits.append(split_by_time(workflow.start_epoch))
    begin = time.perf_counter()
    ensembles = ensemble_probabilities(workflow, splits, config, run)
    seconds = {"training": time.perf_counter() - begin}
    found, scores, errors = [], [], []
    for number, ((known, test), members) in enumerate(zip(splits, ensembles, strict=True)):
        held_out = known[-max(1, int(CALIBRATION_SHARE * len(known))) :]
        on_worker = workflow.on_worker()
        mean = members.mean(axis=0)
        temperature = fit_temperature(mean[held_out][on_worker[held_out]], labels[held_out][on_worker[held_out]])
        calm = tempered(mean, temperature)
        score = log_odds_of_anomaly(mean)
        scores.append(score)
        one = evaluate(score[test], workflow.take(test))
        here = on_worker[test]
        one["accuracy"] = float((mean[test].argmax(-1) == labels[test])[here].mean())
        one["calibration_error"] = expected_calibration_error(calm[test][here], labels[test][here])
        one["calibration_error_untempered"] = expected_calibration_error(mean[test][here], labels[test][here])
        found.append(one)
        errors.append((calm[test][here], labels[test][here]))
        run.log({"auc_node": one["auc_node"], "temperature": temperature}, number)
    blocked = found.pop() if config.time_blocked else {}
    metrics = averaged(found)
    metrics |= {f"{name}_time_blocked": blocked[name] for name in ("auc_node", "auc_within_run") if name in blocked}
    base = [evaluate(z_worker_scores(workflow, t)[v], workflow.take(v)) for t, v in splits[: config.seeds]]
    metrics["auc_baseline_z_worker"] = interval([b["auc_node"] for b in base])[0]
    metrics["majority_accuracy_workers"] = float((workflow.y == 0)[workflow.on_worker()].mean())
    references, curves = {}, {"graph network": (scores[0][splits[0][1]], workflow.anomalous()[splits[0][1]])}
    begin = time.perf_counter()
    trees = peer(workflow, splits[: config.seeds][: config.trees])
    if trees:
        areas = [evaluate(s[v], workflow.take(v))["auc_node"] for s, (_, v) in zip(trees, splits, strict=False)]
        metrics["auc_trees_worker"], metrics["auc_trees_worker_interval"] = interval(areas)
        gains = [one["auc_node"] - area for one, area in zip(found, areas, strict=False)]
        metrics["gain_over_trees"], metrics["gain_over_trees_interval"] = interval(gains)
        said = "gradient-boosted trees with worker pooling, same splits"
        references["auc_node"] = Reference(metrics["auc_trees_worker"], said, "higher")
        curves["trees + worker"] = (trees[0][splits[0][1]], workflow.anomalous()[splits[0][1]])
        seconds["trees"] = time.perf_counter() - begin
    metrics = {name: value for name, value in metrics.items() if np.isfinite(value)}
    page = report(config, run, workflow, curves, metrics, errors[0])
    remarks = (
        f"{config.seeds} random splits by run; {config.detector.members} members each; intervals are 95 % over seeds.",
        "The temperature is fitted to training runs that the networks did not see.",
    )
    return Summary("workflow_supervised", metrics, references, seconds, remarks), page


def ensemble_probabilities(workflow: Workflow, splits: Sequence[Split], config: Config, run: Run) -> list[np.ndarray]:
    """Class probabilities (members, runs, nodes, classes) of each split's ensemble, all trained in one program."""
    runs, graph = runs_of(workflow), dag(len(workflow.nodes), workflow.edges)
    members, columns = config.detector.members, np.asarray(runs.columns)
    fitted = [known[: len(known) - max(1, int(CALIBRATION_SHARE * len(known)))] for known, _ in splits]
    own = [facts_of(fit_scaling(columns, known, FINE_SCALE)) for known, _ in splits]
    facts = jax.tree.map(lambda *parts: jnp.repeat(jnp.stack(parts), members, axis=0), *own)
    rows = jnp.repeat(jnp.stack(fitted), members, axis=0)
    epochs = config.detector.learning.epochs_for(len(workflow.nodes))
    with training(run, epochs, "detectors") as (after_epoch, checkpoints):
        models = fit_detectors(
            runs,
            workflow.labels(),
            len(workflow.classes),
            graph,
            facts,
            rows,
            config.detector,
            key=jax.random.key(config.seed),
            after_epoch=after_epoch,
            checkpoints=checkpoints,
        )
    found = np.clip(np.asarray(probabilities(models, facts, runs, graph), np.float64), 1e-12, 1.0)
    return [found[s * members : (s + 1) * members] for s in range(len(splits))]


def peer(workflow: Workflow, splits: Sequence[Split]) -> list[np.ndarray]:
    """Scores of the trees for each split; none where scikit-learn is absent."""
    if not installed("sklearn"):
        return []
    found = []
    with progress(len(splits), "trees") as bar:
        for known, _ in splits:
            found.append(tree_scores(workflow, known))
            bar.update(1)
    return found


def report(config: Config, run: Run, workflow: Workflow, curves, metrics, predicted) -> Report:
    page = Report(
        f"Workflow anomalies from labelled runs: {workflow.name}",
        f"How well are degraded workers told from others, and how well does the detector know what it does not know? "
        f"{workflow.runs} runs of {len(workflow.nodes)} jobs, {config.seeds} splits.",
    )
    page.figure("roc", run.figure("roc", roc_curves(curves)), "Test jobs of the first split.")
    classes = {
        name.removeprefix("auc_class_"): (value, metrics.get(f"{name}_interval", 0.0))
        for name, value in metrics.items()
        if name.startswith("auc_class_") and not name.endswith("_interval")
    }
    values, spread = [v for v, _ in classes.values()], [s for _, s in classes.values()]
    page.figure("classes", run.figure("classes", bars(list(classes), values, spread, "AUC against normal runs")))
    page.figure(
        "reliability",
        run.figure("reliability", reliability(*predicted)),
        "Share of right answers against confidence, test jobs on workers, first split, after tempering.",
    )
    return page

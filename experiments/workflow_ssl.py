"""Which jobs, workers and runs of a workflow are anomalous, learned without a single label."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from experiments.settings import Settings
from experiments.workflow_data import PUBLISHED_TABLE, PUBLISHED_TWO_VIEW, PUBLISHED_UNLABELLED, DataConfig, evaluate
from experiments.workflow_figures import attribution, bars, roc_curves
from experiments.workflow_training import training
from jaxsci.core.config import positive
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.workflows.baselines import z_worker_scores
from jaxsci.workflows.batch import Runs, runs_of
from jaxsci.workflows.density import job_kinds
from jaxsci.workflows.features import FINE_SCALE, TELEMETRY, fit_scaling
from jaxsci.workflows.graph import Dag, dag
from jaxsci.workflows.metrics import interval
from jaxsci.workflows.scoring import ScoreConfig, Scorer, fit_scorer, read
from jaxsci.workflows.selfsupervised import SelfSupervisedConfig, Trusting, fit_two_view, trusted_jobs
from jaxsci.workflows.splits import split_by_run, split_by_time
from jaxsci.workflows.supervised import facts_of
from jaxsci.workflows.workflow import Workflow

MAIN = "two views"
Split = tuple[np.ndarray, np.ndarray]


class Detection(Protocol):
    """What `fit` reads of a config."""

    @property
    def seed(self) -> int: ...
    @property
    def detector(self) -> SelfSupervisedConfig: ...
    @property
    def score(self) -> ScoreConfig: ...


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`seeds` splits by run with `members` networks each, whose scores are averaged; all are trained at once.

    `ablation` trains again without each term of the loss, one network a split.
    """

    data: DataConfig = field(default_factory=DataConfig)
    seeds: int = 5
    members: int = 3
    detector: SelfSupervisedConfig = field(default_factory=SelfSupervisedConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    ablation: bool = True
    time_blocked: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "seeds", "members")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    workflow = config.data.load()
    workflow.anomalous()  # refuses data without labels before hours are spent on it
    splits = [split_by_run(workflow.runs, config.seed + s) for s in range(config.seeds)]
    if config.time_blocked:
        splits.append(split_by_time(workflow.start_epoch))
    begin = time.perf_counter()
    ensembles, runs, graph = fit_ensembles(workflow, splits, config, run=run)
    seconds = {"training": time.perf_counter() - begin}
    found, scores = results(ensembles, workflow, runs, graph, splits)
    base = [evaluate(z_worker_scores(workflow, t)[v], workflow.take(v)) for t, v in splits]
    blocked = found.pop() if config.time_blocked else {}
    paired = [f["auc_node"] - b["auc_node"] for f, b in zip(found, base, strict=False)]
    metrics = averaged(found)
    metrics["auc_baseline_z_worker"] = interval([b["auc_node"] for b in base[: config.seeds]])[0]
    metrics["gain_over_baseline"], metrics["gain_over_baseline_interval"] = interval(paired)
    metrics["majority_accuracy"] = float(1.0 - workflow.anomalous().mean())
    metrics |= {f"{name}_time_blocked": blocked[name] for name in ("auc_node", "auc_within_run") if name in blocked}
    for number, one in enumerate(found):
        run.log({"auc_node": one["auc_node"], "auc_baseline": base[number]["auc_node"]}, number)
    tested = splits[: config.seeds]
    alone = [ensemble[0] for ensemble in ensembles[: config.seeds]]
    single, _ = results([[scorer] for scorer in alone], workflow, runs, graph, tested)
    parts = {"one network": interval([one["auc_node"] for one in single])}
    parts |= score_parts(alone, workflow, runs, graph, tested)
    begin = time.perf_counter()
    if config.ablation:
        for term in ("generative", "contrastive", "discriminative"):
            less = replace(config, detector=replace(config.detector, **{term: 0.0}))
            if sum(getattr(less.detector, t) for t in ("generative", "contrastive", "discriminative")) > 0:
                others, _, _ = fit(workflow, tested, less, run=run, label=f"without {term}")
                without, _ = results([[other] for other in others], workflow, runs, graph, tested)
                parts[f"trained without the {term} term"] = interval([one["auc_node"] for one in without])
        seconds["ablation"] = time.perf_counter() - begin
    for name, (mean, _) in parts.items():
        metrics["auc_" + name.replace(" ", "_")] = mean
    metrics = {name: value for name, value in metrics.items() if np.isfinite(value)}
    summary = Summary("workflow_ssl", metrics, references(workflow, metrics), seconds, notes(workflow, config))
    page = report(config, run, workflow, ensembles[0][0], runs, graph, splits, scores, metrics, parts)
    return summary, page


def fit_ensembles(
    workflow: Workflow, splits: Sequence[Split], config: Config, *, run: Run
) -> tuple[list[list[Scorer]], Runs, Dag]:
    """`members` scorers a split."""
    members = config.members
    scorers, runs, graph = fit(workflow, [split for split in splits for _ in range(members)], config, run=run)
    return [scorers[first : first + members] for first in range(0, len(scorers), members)], runs, graph


def fit(
    workflow: Workflow, splits: Sequence[Split], config: Detection, *, run: Run, label: str = MAIN
) -> tuple[list[Scorer], Runs, Dag]:
    """One scorer a split, all trained in one program, which an interrupted run continues."""
    runs, graph = runs_of(workflow), dag(len(workflow.nodes), workflow.edges)
    columns, on_worker = np.asarray(runs.columns), np.asarray(runs.on_worker)
    own = []
    for known, _ in splits:
        trust = trusted_jobs(z_worker_scores(workflow, known), on_worker, known, config.detector.trusted)
        own.append(Trusting(facts_of(fit_scaling(columns, known, FINE_SCALE)), jnp.asarray(trust)))
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *own)
    rows = jnp.stack([known for known, _ in splits])
    epochs = config.detector.learning.epochs_for(len(workflow.nodes))
    with training(run, epochs, label, log=label == MAIN) as (after_epoch, checkpoints):
        models = fit_two_view(
            runs,
            graph,
            stacked,
            rows,
            config.detector,
            key=jax.random.key(config.seed),
            after_epoch=after_epoch,
            checkpoints=checkpoints,
        )
    kind = job_kinds(workflow.job_type, workflow.transformation)
    scorers = []
    for member, (known, _) in enumerate(splits):
        model = jax.tree.map(lambda leaf, m=member: leaf[m] if eqx.is_array(leaf) else leaf, models)
        scorers.append(fit_scorer(model, own[member], runs, graph, kind, known, config.score))
    return scorers, runs, graph


def results(ensembles: Sequence[Sequence[Scorer]], workflow: Workflow, runs: Runs, graph: Dag, splits: Sequence[Split]):
    """What `evaluate` says of each split's test runs, and the scores of all runs, means over the split's scorers."""
    scores = [np.mean([scorer.scores(runs, graph) for scorer in ensemble], axis=0) for ensemble in ensembles]
    return [evaluate(s[test], workflow.take(test)) for s, (_, test) in zip(scores, splits, strict=True)], scores


def averaged(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean over seeds of each number, and the half-width of its 95 % interval."""
    metrics = {}
    for name in found[0]:
        mean, half = interval([one[name] for one in found if name in one])
        metrics |= {name: mean, f"{name}_interval": half}
    return metrics


def score_parts(scorers, workflow, runs, graph, splits) -> dict[str, tuple[float, float]]:
    """AUC of each term of the score by itself, one scorer a split."""
    areas: dict[str, list[float]] = {}
    for scorer, (_, test) in zip(scorers, splits, strict=True):
        terms = scorer.terms(read(scorer.model, scorer.own, runs, graph), runs)
        for name, values in terms.items():
            values = np.where(np.asarray(runs.on_worker) > 0, values, values.min() - 1.0)
            areas.setdefault(f"{name} alone", []).append(evaluate(values[test], workflow.take(test))["auc_node"])
    return {name: interval(values) for name, values in areas.items()}


def references(workflow: Workflow, metrics: Mapping[str, float]) -> dict[str, Reference]:
    said = "rms log z and worker mean, same runs, same splits"
    known = {"auc_node": Reference(metrics["auc_baseline_z_worker"], said, "higher")}
    if workflow.name in PUBLISHED_UNLABELLED:
        source = "best published without labels, arXiv:2306.09930"
        known["auc_compute"] = Reference(PUBLISHED_UNLABELLED[workflow.name], source, "higher")
    return known


def notes(workflow: Workflow, config: Config) -> tuple[str, ...]:
    said = [
        f"{config.seeds} random splits by run, 70 % for training, {config.members} networks each, whose scores are "
        "averaged; intervals are 95 % over seeds. No label is used in "
        "training, in scaling, or in choosing what is trusted.",
        "Jobs at the submit site run on no worker and have score 0; auc_compute leaves them out.",
        f"A guess of 'all normal' would be right for {100 * (1 - workflow.anomalous().mean()):.1f} % of the jobs.",
    ]
    if workflow.name in PUBLISHED_UNLABELLED:
        said.append("Published areas come from hard labels at contamination 0.1 and are scored in sample.")
    return tuple(said)


def report(config, run, workflow, scorer, runs, graph, splits, scores, metrics, parts) -> Report:
    page = Report(
        f"Workflow anomalies without labels: {workflow.name}",
        f"Which of {workflow.runs} runs of {len(workflow.nodes)} jobs suffered from degraded workers, and which "
        f"workers were they? Learned from telemetry alone; {config.seeds} splits.",
    )
    test = splits[0][1]
    truth = workflow.anomalous()[test]
    base = z_worker_scores(workflow, splits[0][0])[test]
    curves = {"two views": (scores[0][test], truth), "rms log z + worker": (base, truth)}
    page.figure("roc", run.figure("roc", roc_curves(curves)), "Test jobs of the first split.")
    classes = {name.removeprefix("auc_class_"): value for name, value in metrics.items() if "auc_class" in name}
    errors = {name: classes.pop(name) for name in list(classes) if name.endswith("_interval")}
    spread = [errors.get(f"{name}_interval", 0.0) for name in classes]
    picture = bars(list(classes), list(classes.values()), spread, "AUC against normal runs")
    page.figure("classes", run.figure("classes", picture), "By kind of anomaly, mean over splits with 95 % interval.")
    reading = read(scorer.model, scorer.own, runs, graph)
    picture = attribution(reading, scores[0], workflow, test, TELEMETRY)
    page.figure(
        "attribution",
        run.figure("attribution", picture),
        "The workers with the highest scores among the test runs, and the features in which their jobs differ from "
        "what the network decodes (mean over jobs, units of the robust scale, logarithmic).",
    )
    rows = [("all networks, all terms", metrics["auc_node"], metrics["auc_node_interval"])]
    rows += [(name, mean, half) for name, (mean, half) in parts.items()]
    page.table("What each term contributes, to one network", ("score or training", "AUC", "95 % ±"), rows)
    table = [("rms log z + worker mean", "this run", metrics["auc_baseline_z_worker"], "score")]
    table.append(("two views", "this run", metrics["auc_node"], "score"))
    column = {"1000genome": 0, "montage": 1}.get(workflow.name)
    if column is not None:
        table.append(("two-view GraphSAGE", "arXiv:2310.01247, code", PUBLISHED_TWO_VIEW[workflow.name], "in sample"))
        table += [(n, "arXiv:2306.09930", v[column], "hard labels") for n, v in PUBLISHED_TABLE.items()]
    page.table("Methods without labels", ("method", "from", "AUC", "kind"), table)
    return page

"""Degraded workers of a workflow that no training has seen: taught on some workflows, asked about another."""

import time
from dataclasses import dataclass, field

import jax
import numpy as np

from experiments.settings import Settings
from experiments.workflow_data import DataConfig, evaluate
from experiments.workflow_figures import bars, roc_curves
from experiments.workflow_ssl import averaged
from jaxsci.core.config import positive
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.workflows.baselines import z_worker_scores
from jaxsci.workflows.committee import CommitteeConfig
from jaxsci.workflows.flowbench import load_workflow
from jaxsci.workflows.simulated import SimulatedTestbed
from jaxsci.workflows.transfer import fit_on_sources, transferred_scores
from jaxsci.workflows.workflow import Workflow, joined


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`train`: npz files or CSV folders to learn from. `test`: the one to be asked about, null for the packaged one.

    Without `train`, the source is a simulation of the test workflow from its normal runs: what a facility can do that
    has no labelled workflow yet. `seeds`: committees.
    """

    train: tuple[str, ...] = ()
    test: str | None = None
    seeds: int = 3
    learner: CommitteeConfig = field(default_factory=lambda: CommitteeConfig(width=48, steps=600))

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "seeds")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    target = load_workflow(config.test)
    target.anomalous()
    begin = time.perf_counter()
    sources = [DataConfig(path).load() for path in config.train] or simulated_sources(target, config.seed)
    found, last = [], np.zeros(0)
    with progress(config.seeds, "committees") as bar:
        for seed in range(config.seeds):
            key = jax.random.fold_in(jax.random.key(config.seed), seed)
            last = transferred_scores(fit_on_sources(sources, config.learner, key=key), target)
            found.append(evaluate(last, target))
            run.log({"auc_node": found[-1]["auc_node"]}, seed)
            bar.update(1, auc=found[-1]["auc_node"])
    metrics = averaged(found)
    base = z_worker_scores(target, np.arange(target.runs))
    metrics["auc_baseline_z_worker"] = evaluate(base, target)["auc_node"]
    references = {"auc_node": Reference(0.90, "goal, mean over targets", "higher")}
    notes = (
        "No label of the target is used; its runs, unlabelled, give the scaling.",
        f"Sources: {', '.join(source.name for source in sources)}" + ("." if config.train else " (simulated)."),
    )
    summary = Summary("workflow_transfer", metrics, references, {"training": time.perf_counter() - begin}, notes)
    page = Report(
        f"Zero-shot: {target.name}",
        f"How well are degraded workers of {target.name} found by a detector that never saw this workflow?",
    )
    truth = target.anomalous()
    page.figure(
        "roc", run.figure("roc", roc_curves({"transferred": (last, truth), "rms log z + worker": (base, truth)}))
    )
    classes = {
        name.removeprefix("auc_class_"): (value, metrics[f"{name}_interval"])
        for name, value in metrics.items()
        if name.startswith("auc_class_") and not name.endswith("_interval")
    }
    picture = bars(list(classes), [v for v, _ in classes.values()], [s for _, s in classes.values()], "AUC")
    page.figure("classes", run.figure("classes", picture), "By kind of anomaly, against normal runs.")
    return summary, page


def simulated_sources(target: Workflow, seed: int) -> list[Workflow]:
    """The target's classes, simulated from its normal runs."""
    oracle = SimulatedTestbed(target, n_runs=40)
    keys = jax.random.split(jax.random.key(seed), len(oracle.requests()))
    return [joined([oracle.submit(r, key=k).data for r, k in zip(oracle.requests(), keys, strict=True)])]

"""Which workflow an experiment is about, and the numbers every experiment on workflows reports."""

from dataclasses import dataclass

import numpy as np

from jaxsci.workflows.flowbench import load_workflow
from jaxsci.workflows.metrics import average_precision, by_worker, per_class_auc, recall_at_k, roc_auc, within_run_auc
from jaxsci.workflows.scoring import run_scores
from jaxsci.workflows.workflow import Workflow

# Best AUC printed by Flow-Bench's authors for methods without labels (hard labels): arXiv:2306.09930.
PUBLISHED_UNLABELLED = {"1000genome": 0.610, "montage": 0.570}
# The authors' own two-view model (arXiv:2310.01247), committed with its code.
PUBLISHED_TWO_VIEW = {"1000genome": 0.652, "montage": 0.523}
# Every method in Flow-Bench's table, AUC on (1000 Genome, Montage); None: out of memory or time.
PUBLISHED_TABLE = {
    "MLPAE": (0.545, 0.518),
    "SCAN": (0.491, 0.500),
    "GCNAE": (0.610, 0.519),
    "CBLOF": (0.489, 0.517),
    "HBOS": (0.513, 0.570),
    "IF": (0.504, 0.497),
    "KNN": (0.558, 0.566),
    "LOF": (0.509, 0.492),
    "OCSVM": (0.510, 0.464),
    "PCA": (0.500, 0.500),
    "GMM": (0.486, 0.502),
    "KDE": (0.514, None),
}


@dataclass(frozen=True)
class DataConfig:
    """`path`: an npz file or a folder of Flow-Bench CSVs, null for the packaged EHT SMILI workflow. `graph`: the
    `*.dag.json` of a CSV folder, where it lies elsewhere."""

    path: str | None = None
    graph: str | None = None

    def load(self) -> Workflow:
        return load_workflow(self.path, graph=self.graph)


def evaluate(scores: np.ndarray, workflow: Workflow) -> dict[str, float]:
    """Areas of `scores` (runs, nodes) against the labels: job, within run, compute jobs, worker, run, class.

    What labels of one kind cannot define is left out.
    """
    truth = workflow.anomalous()
    compute = workflow.compute_jobs()
    on_worker = workflow.on_worker()
    whole = run_scores(np.where(on_worker, scores, scores.min()), workflow.host)
    found = {
        "auc_node": roc_auc(scores.ravel(), truth.ravel()),
        "ap_node": average_precision(scores.ravel(), truth.ravel()),
        "recall_at_k_node": recall_at_k(scores.ravel(), truth.ravel()),
        "auc_within_run": within_run_auc(scores, truth),
        "auc_compute": roc_auc(scores[:, compute].ravel(), truth[:, compute].ravel()),
        "auc_worker": roc_auc(by_worker(scores, workflow.host, on_worker), by_worker(truth, workflow.host, on_worker)),
        "auc_run": roc_auc(whole, np.asarray(truth.any(axis=1))),
    }
    if workflow.y is not None:
        areas = per_class_auc(scores, workflow.y, workflow.classes)
        found |= {f"auc_class_{name}": area for name, area in areas.items()}
    return {name: value for name, value in found.items() if np.isfinite(value)}

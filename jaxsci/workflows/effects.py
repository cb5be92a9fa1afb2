"""What an anomaly does, in numbers: how many times longer, on degraded workers and beside them, than in normal runs.

ratio = exp(median log((x + 0.5) / (median over normal runs of the same job + 0.5)))     over jobs on workers

Where a machine's disk makes some jobs wait and others not, half of each, a median jumps from one kind to the other with
a single job. A trimmed mean in its place, as `middle`, is what a calibration can follow.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jaxsci.workflows.workflow import Workflow

FEATURES = ("runtime", "stage_in_delay")


@dataclass(frozen=True)
class Effect:
    """Ratios by feature on anomalous and on normal-labelled jobs of the class's runs; makespan in seconds, median."""

    anomalous: dict[str, float]
    beside: dict[str, float]
    makespan: float


def makespans(workflow: Workflow) -> np.ndarray:
    """Last `execute_end` less first `ready`, by run."""
    ends, ready = workflow.feature("execute_end"), workflow.feature("ready")
    return (np.nanmax(ends, axis=1) - np.nanmin(ready, axis=1)).astype(np.float64)


def effects(
    workflow: Workflow, normal: Workflow | None = None, *, middle: Callable[[np.ndarray], np.floating] = np.median
) -> dict[str, Effect]:
    """By class. `normal` gives the runs to compare with, by default the workflow's own without anomalies."""
    kind = workflow.run_class()
    base = normal if normal is not None else workflow.take(np.flatnonzero(kind == 0))
    compute = workflow.compute_jobs()
    usual = {name: np.median(np.nan_to_num(base.feature(name)), axis=0) for name in FEATURES}
    length = makespans(workflow)
    found = {}
    for k in np.unique(kind):
        here = kind == k
        bad = workflow.anomalous()[here] & compute
        found[workflow.classes[k]] = Effect(
            {n: _ratio(workflow.feature(n)[here], usual[n], bad, middle) for n in FEATURES},
            {n: _ratio(workflow.feature(n)[here], usual[n], ~bad & compute, middle) for n in FEATURES},
            float(np.exp(middle(np.log(length[here])))),
        )
    return found


def _ratio(x: np.ndarray, usual: np.ndarray, chosen: np.ndarray, middle: Callable[[np.ndarray], np.floating]) -> float:
    logs = np.log((np.nan_to_num(x) + 0.5) / (usual + 0.5))[chosen]
    return float(np.exp(middle(logs))) if len(logs) else float("nan")

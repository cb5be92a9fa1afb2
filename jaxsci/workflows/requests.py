"""What a testbed of workflows can be asked for."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxsci.active import Request
from jaxsci.core.config import require
from jaxsci.workflows.workflow import NORMAL, Workflow

UNIT = "testbed-seconds"


@dataclass(frozen=True)
class ExperimentRequest(Request):
    """`n_runs` executions of `workflow` with `n_workers` of its workers degraded by `anomaly` at `level`.

    The anomalies of Poseidon-X (arXiv:2306.09930): `cpu` takes `level` of four cores away, `hdd` limits writing to
    `level` MB/s and reading to twice that, `loss` drops `level` percent of the packets, `normal` leaves all alone.
    `n_workers` is None where the oracle decides.
    """

    workflow: str
    anomaly: str
    level: float = 0.0
    n_workers: int | None = None
    n_runs: int = 5

    def __post_init__(self):
        require(self.n_runs > 0, "n_runs", "1 run or more", self.n_runs)
        require(self.n_workers is None or self.n_workers > 0, "n_workers", "1 worker or more, or null", self.n_workers)

    @property
    def group(self) -> str:
        """The class as Flow-Bench writes it: `normal`, `cpu_2`, `hdd_10`, `loss_0.1`."""
        return NORMAL if self.anomaly == NORMAL else f"{self.anomaly}_{self.level:g}"


def request_for(workflow: str, name: str, *, n_runs: int, n_workers: int | None = None) -> ExperimentRequest:
    """The request whose group is `name`."""
    if name == NORMAL:
        return ExperimentRequest(workflow, NORMAL, n_runs=n_runs)
    kind, _, level = name.partition("_")
    try:
        return ExperimentRequest(workflow, kind, float(level), n_workers, n_runs)
    except ValueError:
        require(False, "anomaly", "a class such as cpu_2, hdd_10, loss_0.1 or normal", name)
        raise


def run_seconds(workflow: Workflow) -> np.ndarray:
    """Testbed-seconds of every run: from its first `ready` to its last stamp."""
    ends = [workflow.feature(name) for name in ("post_script_end", "execute_end")]
    return np.nanmax(np.stack(ends), axis=(0, 2)).astype(np.float64)


def mean_seconds(workflow: Workflow) -> Mapping[str, float]:
    """Mean testbed-seconds of a run, by class."""
    seconds, kind = run_seconds(workflow), workflow.run_class()
    return {workflow.classes[k]: float(seconds[kind == k].mean()) for k in np.unique(kind)}

"""A worker in a run as one vector, whatever the workflow: what its jobs did, beside its machine and its run.

Standardised features squashed to sign(c) log(1 + |c|); over the jobs of the worker their mean, which opposite
deviations cancel, and their mean size, which they do not; over the machine and over all jobs on workers the mean.
No entry knows which workflow, job or host it came from, so what is learned on some can be asked about another.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxsci.workflows.features import TELEMETRY, Scaling, telemetry
from jaxsci.workflows.pooling import machine_index
from jaxsci.workflows.workflow import Workflow

WIDTH = 5 * len(TELEMETRY) + 1


@dataclass(frozen=True)
class WorkerTable:
    """W workers of all runs. `owner` (runs, nodes) is each job's row, -1 at the submit site; `y` the worker's class."""

    x: Float[np.ndarray, "workers width"]
    y: Int[np.ndarray, "workers"]
    run: Int[np.ndarray, "workers"]
    owner: Int[np.ndarray, "runs nodes"]

    def to_jobs(self, values: Float[np.ndarray, "workers"], elsewhere: float) -> Float[np.ndarray, "runs nodes"]:
        """Each job gets its worker's value; jobs at the submit site get `elsewhere`."""
        return np.append(values, elsewhere)[self.owner]


def worker_table(workflow: Workflow, scaling: Scaling) -> WorkerTable:
    """Every worker that was given a job. Unlabelled runs have class 0 throughout."""
    columns, observed = telemetry(workflow)
    c = scaling.apply(columns) * observed
    squashed = np.sign(c) * np.log1p(np.abs(c))
    on_worker = workflow.on_worker()
    run_of = np.broadcast_to(np.arange(workflow.runs)[:, None], on_worker.shape)
    worker = _numbered(run_of * (len(workflow.hosts) + 1) + workflow.host, on_worker)
    machine = _numbered(run_of * (len(workflow.hosts) + 1) + machine_index(workflow), on_worker)
    flat = squashed[on_worker]
    own = worker[on_worker]
    count = np.bincount(own)
    mean, size = _mean(flat, own), _mean(np.abs(flat), own)
    of_machine, of_run = _mean(flat, machine[on_worker]), _mean(flat, run_of[on_worker])
    first = np.unique(own, return_index=True)[1]
    run = run_of[on_worker][first]
    beside = of_machine[machine[on_worker][first]]
    whole = of_run[run]
    x = np.concatenate([mean, size, mean - whole, beside, whole, np.log(count)[:, None]], axis=1)
    y = np.zeros(len(first), np.int64) if workflow.y is None else workflow.y[on_worker][first]
    return WorkerTable(x.astype(np.float32), y, run, worker)


def _numbered(owner: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    numbered = np.full(owner.shape, -1, np.int64)
    numbered[chosen] = np.unique(owner[chosen], return_inverse=True)[1]
    return numbered


def _mean(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    order = np.argsort(group, kind="stable")
    present, start, count = np.unique(group[order], return_index=True, return_counts=True)
    means = np.zeros((int(group.max()) + 1, values.shape[1]), np.float32)
    means[present] = np.add.reduceat(values[order], start, axis=0) / count[:, None]
    return means

"""Runs of a workflow as the arrays networks are trained on."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsci.workflows.features import telemetry
from jaxsci.workflows.pooling import group_count, machine_index, worker_index
from jaxsci.workflows.workflow import Workflow


class Runs(eqx.Module):
    """What a network may see of R runs.

    - `columns`: telemetry, missing entries 0; `observed`: which were not.
    - `worker`, `machine`: number of the job's host and physical machine within its run.
    - `on_worker`: 1 for jobs that ran on a worker, 0 at the submit site.
    """

    columns: Float[Array, "runs nodes features"]
    observed: Bool[Array, "runs nodes features"]
    worker: Int[Array, "runs nodes"]
    machine: Int[Array, "runs nodes"]
    on_worker: Float[Array, "runs nodes"]
    workers: int = eqx.field(static=True)
    machines: int = eqx.field(static=True)

    def __len__(self) -> int:
        return len(self.columns)

    def take(self, rows: Int[Array, "some"] | Int[np.ndarray, "some"]) -> "Runs":
        """These runs, in this order."""
        return Runs(
            self.columns[rows],
            self.observed[rows],
            self.worker[rows],
            self.machine[rows],
            self.on_worker[rows],
            self.workers,
            self.machines,
        )


def runs_of(workflow: Workflow, *, workers: int | None = None, machines: int | None = None) -> Runs:
    """All runs of `workflow`. `workers` and `machines` bound the hosts and physical machines of a run."""
    columns, observed = telemetry(workflow)
    worker, machine = worker_index(workflow), machine_index(workflow)
    return Runs(
        jnp.asarray(columns),
        jnp.asarray(observed),
        jnp.asarray(worker, jnp.int32),
        jnp.asarray(machine, jnp.int32),
        jnp.asarray(workflow.on_worker(), jnp.float32),
        max(workers or 0, group_count(worker)),
        max(machines or 0, group_count(machine)),
    )

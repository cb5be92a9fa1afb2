"""A workflow never seen in training, judged by a committee taught on others.

Worker vectors know no workflow, and each workflow is standardised by its own runs, which needs none of its labels.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxsci.workflows.committee import CommitteeConfig, Member, committee_probabilities, fit_committee
from jaxsci.workflows.features import FINE_SCALE, fit_scaling, telemetry
from jaxsci.workflows.worker_features import WorkerTable, worker_table
from jaxsci.workflows.workflow import Workflow

NORMAL, CPU, DISK = 0, 1, 2  # levels differ between workflows in what they do; kinds carry over
WORKERS_PER_SOURCE = 4000


def own_table(workflow: Workflow) -> WorkerTable:
    """Workers standardised by the workflow's own runs, labels unused."""
    scaling = fit_scaling(telemetry(workflow)[0], np.arange(workflow.runs), FINE_SCALE)
    return worker_table(workflow, scaling)


def kinds(workflow: Workflow, table: WorkerTable) -> np.ndarray:
    """Class of each worker reduced to normal, cpu, and whatever concerns disk or network."""
    of_class = np.array([NORMAL if n == "normal" else CPU if n.startswith("cpu") else DISK for n in workflow.classes])
    return of_class[table.y]


def fit_on_sources(sources: Sequence[Workflow], config: CommitteeConfig, *, key: PRNGKeyArray) -> Member:
    """One committee on workers of all `sources`, as many of each."""
    x, y, run, offset = [], [], [], 0
    for number, source in enumerate(sources):
        table = own_table(source)
        order = np.asarray(jax.random.permutation(jax.random.fold_in(key, number), len(table.y)))[:WORKERS_PER_SOURCE]
        x.append(table.x[order])
        y.append(kinds(source, table)[order])
        run.append(table.run[order] + offset)
        offset += source.runs
    return fit_committee(
        np.concatenate(x), np.concatenate(y), np.concatenate(run), 3, config, key=jax.random.fold_in(key, len(sources))
    )


def transferred_scores(committee: Member, target: Workflow) -> Float[np.ndarray, "runs nodes"]:
    """Probability that each job's worker is degraded; -1 at the submit site."""
    table = own_table(target)
    p = committee_probabilities(committee, table.x).mean(axis=0)
    return table.to_jobs(1.0 - p[:, NORMAL].astype(np.float64), -1.0)

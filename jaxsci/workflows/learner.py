"""The learner of the active loop: a committee on worker vectors, judged on test runs no request can bring."""

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.active import Prospect
from jaxsci.workflows.committee import (
    CommitteeConfig,
    Member,
    committee_probabilities,
    fit_committee,
    initial_committee,
)
from jaxsci.workflows.features import FINE_SCALE, Scaling, fit_scaling, telemetry
from jaxsci.workflows.metrics import roc_auc
from jaxsci.workflows.requests import ExperimentRequest
from jaxsci.workflows.worker_features import WorkerTable, worker_table
from jaxsci.workflows.workflow import Workflow, joined


class Fitted(eqx.Module):
    """The committee and the scaling of the runs it knows."""

    committee: Member
    centre: Float[Array, "nodes features"]
    scale: Float[Array, "nodes features"]

    def scaling(self) -> Scaling:
        return Scaling(np.asarray(self.centre), np.asarray(self.scale))


class WorkerLearner:
    """Retrains from scratch on all answers.

    `test` are the runs by which it is scored: job-level AUC (`auc`) and accuracy over workers.
    """

    def __init__(self, test: Workflow, config: CommitteeConfig):
        self.test, self.config = test, config

    def initial(self, *, key: PRNGKeyArray) -> Fitted:
        nodes, features = len(self.test.nodes), telemetry(self.test.take(np.arange(1)))[0].shape[-1]
        committee = initial_committee(self.config, len(self.test.classes), key=key)
        return Fitted(committee, jnp.zeros((nodes, features)), jnp.ones((nodes, features)))

    def fit(self, model: Fitted, data: Sequence[Workflow], *, key: PRNGKeyArray) -> Fitted:
        known = joined(data, self.test.classes)
        scaling = fit_scaling(telemetry(known)[0], np.arange(known.runs), FINE_SCALE)
        table = worker_table(known, scaling)
        committee = fit_committee(table.x, table.y, table.run, len(known.classes), self.config, key=key)
        return Fitted(committee, jnp.asarray(scaling.centre, jnp.float32), jnp.asarray(scaling.scale, jnp.float32))

    def prospects(
        self, model: Fitted, data: Sequence[Workflow], requests: Sequence[ExperimentRequest]
    ) -> Sequence[Prospect]:
        """Predictions on the answers that such requests brought before, by members that were not all shown them."""
        known = joined(data, self.test.classes)
        table = worker_table(known, model.scaling())
        p = committee_probabilities(model.committee, table.x)
        kind = np.array([known.classes[k] for k in known.run_class()])[table.run]
        return [self._prospect(request, table, p, kind) for request in requests]

    def _prospect(self, request: ExperimentRequest, table: WorkerTable, p: np.ndarray, kind: np.ndarray) -> Prospect:
        like = kind == request.group
        if not like.any():
            return Prospect(None)
        workers = like.sum() / len(np.unique(table.run[like]))
        truth = p.mean(axis=0)[like, table.y[like]]
        loss = -np.log(np.maximum(truth, 1e-6)).mean()
        return Prospect(p[:, like], float(workers * request.n_runs), float(loss))

    def scores(self, model: Fitted) -> Mapping[str, float]:
        table = worker_table(self.test, model.scaling())
        p = committee_probabilities(model.committee, table.x).mean(axis=0)
        jobs = table.to_jobs(1.0 - p[:, 0], -1.0)
        return {
            "auc": roc_auc(jobs.ravel(), self.test.anomalous().ravel()),
            "accuracy": float((p.argmax(-1) == table.y).mean()),
        }


def full_data_auc(pool: Workflow, test: Workflow, config: CommitteeConfig, *, key: PRNGKeyArray) -> float:
    """What the learner reaches with every run of the pool."""
    learner = WorkerLearner(test, config)
    return learner.scores(learner.fit(learner.initial(key=key), [pool], key=jax.random.fold_in(key, 1)))["auc"]

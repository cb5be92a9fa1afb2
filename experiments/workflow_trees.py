"""The peer: scikit-learn's gradient-boosted trees on single jobs, their log-odds pooled over workers."""

import numpy as np

from experiments.peers import package
from jaxsci.workflows.features import phi, standardised, telemetry
from jaxsci.workflows.workflow import Workflow

ROUNDS = 200


def tree_scores(workflow: Workflow, known: np.ndarray) -> np.ndarray:
    """`S(r, w) = b + sum_i (L_i - b) / sqrt(n_w)` for every job of worker w: L_i the log-odds of `HistGradientBoosting`
    on the standardised and the plain features and the transformation, b the log-odds of the base rate."""

    c, _ = standardised(workflow, known)
    columns, _ = telemetry(workflow)
    names = sorted(set(workflow.transformation))
    one_hot = np.array([[name == t for name in names] for t in workflow.transformation], np.float32)
    tabular = np.concatenate([c, phi(columns), np.broadcast_to(one_hot, (*c.shape[:2], len(names)))], axis=-1)
    truth = workflow.anomalous()
    trees = package("sklearn.ensemble").HistGradientBoostingClassifier(max_iter=ROUNDS, random_state=0)
    trees.fit(tabular[known].reshape(-1, tabular.shape[-1]), truth[known].ravel())
    p = np.clip(trees.predict_proba(tabular.reshape(-1, tabular.shape[-1]))[:, 1], 1e-4, 1 - 1e-4)
    evidence = (np.log(p) - np.log1p(-p)).reshape(truth.shape)
    rate = truth[known].mean()
    bias = float(np.log(rate) - np.log1p(-rate))
    span = int(workflow.host.max()) + 2
    owner = (np.arange(workflow.runs)[:, None] * span + workflow.host + 1).ravel()
    total = np.bincount(owner, (evidence - bias).ravel(), minlength=workflow.runs * span)
    count = np.bincount(owner, minlength=workflow.runs * span)
    return (bias + total[owner] / np.sqrt(count[owner])).reshape(truth.shape)

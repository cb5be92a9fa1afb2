"""What needs no learning: distance from the median job, alone and averaged over the jobs of a worker."""

import numpy as np
from jaxtyping import Float, Int

from jaxsci.workflows.features import standardised
from jaxsci.workflows.workflow import Workflow


def rms_log_z(c: Float[np.ndarray, "runs nodes features"]) -> Float[np.ndarray, "runs nodes"]:
    """Root of the mean square of `log(1 + |c|)`, standardised features c: one wild feature cannot rule."""
    return np.sqrt(np.mean(np.square(np.log1p(np.abs(c))), axis=-1))


def worker_mean(
    scores: Float[np.ndarray, "runs nodes"], host: Int[np.ndarray, "runs nodes"]
) -> Float[np.ndarray, "runs nodes"]:
    """Each job's score replaced by the mean over all jobs on its host in its run."""
    span = int(host.max()) + 2
    owner = (np.arange(len(host))[:, None] * span + host + 1).ravel()
    total = np.bincount(owner, scores.ravel(), minlength=len(host) * span)
    count = np.bincount(owner, minlength=len(host) * span)
    return (total[owner] / count[owner]).reshape(scores.shape)


def z_worker_scores(workflow: Workflow, fit_on: Int[np.ndarray, "some"]) -> Float[np.ndarray, "runs nodes"]:
    """The baseline to beat: `rms log z`, averaged over workers, without labels."""
    c, _ = standardised(workflow, fit_on)
    return worker_mean(rms_log_z(c), workflow.host)

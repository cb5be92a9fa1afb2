"""Scores against labels: areas, not accuracies, because a third of the jobs may be anomalous or a fifth."""

import warnings
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped


def _checked(scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"]) -> None:
    if len(np.unique(scores[:1000])) <= 2 and len(scores) > 10:
        warnings.warn("scores take two values only: areas of hard labels understate what a score can do", stacklevel=3)


def roc_auc(scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"]) -> float:
    """Chance that a positive scores above a negative, ties counted half. NaN without both kinds."""
    count = int(positive.sum())
    if count in (0, len(positive)):
        return float("nan")
    _checked(scores, positive)
    _, inverse, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(sizes) - (sizes - 1) / 2  # mid-rank of each distinct score
    return float((rank[inverse][positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))


def average_precision(scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"]) -> float:
    """Area under precision over recall, as a sum over distinct thresholds. NaN without positives."""
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of each run of equal scores
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float(np.sum(precision * np.diff(recall, prepend=0.0)))


def recall_at_k(scores: Float[np.ndarray, "n"], positive: Bool[np.ndarray, "n"]) -> float:
    """Share of the k highest scores that are positive, k the number of positives: precision and recall in one."""
    count = int(positive.sum())
    if not count:
        return float("nan")
    return float(positive[np.argsort(-scores, kind="stable")[:count]].mean())


def within_run_auc(scores: Float[np.ndarray, "runs nodes"], positive: Bool[np.ndarray, "runs nodes"]) -> float:
    """Mean over runs of the AUC among the jobs of that run, where it has both kinds: blind to what runs share."""
    areas = [roc_auc(s, p) for s, p in zip(scores, positive, strict=True) if 0 < p.sum() < p.size]
    return float(np.mean(areas)) if areas else float("nan")


def per_class_auc(
    scores: Float[np.ndarray, "runs nodes"], y: Int[np.ndarray, "runs nodes"], classes: Sequence[str]
) -> dict[str, float]:
    """By class, the AUC over the runs of that class and the runs without anomalies."""
    kind = y.max(axis=1)
    areas = {}
    for index, name in enumerate(classes):
        chosen = (kind == index) | (kind == 0)
        if index and (kind == index).any():
            areas[name] = roc_auc(scores[chosen].ravel(), y[chosen].ravel() > 0)
    return areas


def by_worker(
    values: Shaped[np.ndarray, "runs nodes"],
    host: Int[np.ndarray, "runs nodes"],
    on_worker: Bool[np.ndarray, "runs nodes"],
) -> Shaped[np.ndarray, "workers"]:
    """One value for every worker of every run, of values that are the same for all jobs of a worker."""
    span = int(host.max()) + 1
    owner = np.arange(len(host))[:, None] * span + host
    _, first = np.unique(owner[on_worker], return_index=True)
    return values[on_worker][first]


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half-width of its 95 % interval over seeds (Student's t)."""
    from scipy.stats import t

    kept = np.asarray(values, float)
    kept = kept[np.isfinite(kept)]
    if len(kept) == 0:
        return float("nan"), float("nan")
    if len(kept) == 1:
        return float(kept[0]), 0.0
    return float(kept.mean()), float(t.ppf(0.975, len(kept) - 1) * kept.std(ddof=1) / np.sqrt(len(kept)))

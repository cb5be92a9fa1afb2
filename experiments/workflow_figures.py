"""The pictures of the experiments on workflows."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from jaxsci.core.figures import BLUE, COLOURS, DIFFERENCE_MAP, GREY, new_figure, style
from jaxsci.workflows.metrics import roc_auc
from jaxsci.workflows.scoring import Reading
from jaxsci.workflows.workflow import Workflow


@style()
def roc_curves(curves: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """By name, scores and truth of the same shape."""
    figure, axes = new_figure(1, 1, (6.2, 4.8))
    axis = axes[0, 0]
    for (name, (scores, truth)), colour in zip(curves.items(), COLOURS, strict=False):
        scores, truth = scores.ravel(), truth.ravel()
        order = np.argsort(-scores, kind="stable")
        hit = np.concatenate([[0], np.cumsum(truth[order]) / truth.sum()])
        false = np.concatenate([[0], np.cumsum(~truth[order]) / (~truth).sum()])
        axis.plot(false, hit, color=colour, label=f"{name}: {roc_auc(scores, truth):.3f}")
    axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance: 0.500")
    axis.set(xlabel="normal jobs that alarm", ylabel="anomalous jobs found", xlim=(0, 1), ylim=(0, 1.01))
    axis.legend(title="area under the curve", loc="lower right")
    return figure


@style()
def bars(names: Sequence[str], values: Sequence[float], errors: Sequence[float], label: str) -> Figure:
    """Horizontal bars with error bars, an area of 0.5 marked as chance."""
    figure, axes = new_figure(1, 1, (6.8, 0.5 * len(names) + 1.4))
    axis = axes[0, 0]
    place = np.arange(len(names))[::-1]
    axis.barh(place, values, xerr=errors, color=BLUE, height=0.6, error_kw={"ecolor": GREY, "capsize": 3})
    for y, value in zip(place, values, strict=True):
        axis.text(0.01, y, f"{value:.3f}", va="center", color="white", fontsize=10)
    axis.axvline(0.5, color=GREY, linestyle=":")
    axis.set(xlabel=label, xlim=(0, 1), yticks=place, yticklabels=names)
    axis.grid(axis="y", visible=False)
    return figure


@style()
def attribution(
    reading: Reading,
    scores: np.ndarray,
    workflow: Workflow,
    runs: np.ndarray,
    features: Sequence[str],
    shown: int = 12,
) -> Figure:
    """The `shown` most suspicious workers of `runs`: mean signed deviation of their jobs by feature."""
    found = []
    for r in runs:
        for host in np.unique(workflow.host[r]):
            jobs = workflow.host[r] == host
            found.append((float(scores[r][jobs].max()), r, host))
    found = sorted(found, reverse=True)[:shown]
    matrix = np.array([reading.residual[r][workflow.host[r] == host].mean(axis=0) for _, r, host in found])
    kind = [
        workflow.classes[workflow.y[r][workflow.host[r] == h].max()] if workflow.y is not None else ""
        for _, r, h in found
    ]
    rows = [
        f"{workflow.run[r].removesuffix('.csv')[-16:]} {workflow.hosts[h].split('-container-')[-1]} ({k})"
        for (_, r, h), k in zip(found, kind, strict=True)
    ]
    figure, axes = new_figure(1, 1, (10.5, 0.32 * len(rows) + 3.0))
    axis = axes[0, 0]
    limit = float(np.abs(matrix).max()) or 1.0
    picture = axis.imshow(matrix, cmap=DIFFERENCE_MAP, vmin=-limit, vmax=limit, aspect="auto")
    names = [name.removeprefix("kickstart_").replace("_", " ").replace("effective ", "") for name in features]
    axis.set(xticks=range(len(names)), yticks=range(len(rows)), yticklabels=rows)
    axis.set_xticklabels(names, rotation=60, ha="right", rotation_mode="anchor")
    axis.grid(visible=False)
    figure.colorbar(picture, ax=axis, label="log(1 + |z|), signed", shrink=0.8)
    return figure


@style()
def reliability(p: np.ndarray, y: np.ndarray, bins: int = 10) -> Figure:
    """Share of right answers in each bin of confidence; `p` (n, classes)."""
    confidence, right = p.max(axis=-1), p.argmax(axis=-1) == y
    edges = np.linspace(confidence.min(), 1.0, bins + 1)
    place = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    used = [b for b in range(bins) if (place == b).sum() >= 10]
    figure, axes = new_figure(1, 1, (5.6, 4.6))
    axis = axes[0, 0]
    means = [confidence[place == b].mean() for b in used]
    axis.plot(means, [right[place == b].mean() for b in used], color=BLUE, marker="o", label="detector")
    axis.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfectly calibrated")
    axis.set(xlabel="confidence", ylabel="share of right answers", xlim=(0.2, 1.01), ylim=(0.2, 1.02))
    axis.legend()
    return figure

"""The report of the diffraction experiment: its tables and pictures."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from jaxsci.core.figures import AMBER, BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary
from jaxsci.diffraction.generator import CLASSES, NONE
from jaxsci.diffraction.learning import Patterns

if TYPE_CHECKING:
    from experiments.diffraction import Config


def report(
    config: "Config",
    run: Run,
    test: Patterns,
    answers: dict[str, np.ndarray],
    curve: list[tuple[int, float]],
    summary: Summary,
    examples: list[tuple[np.ndarray, np.ndarray]],
) -> Report:
    names = CLASSES[: config.classes]
    reflections = ", ".join("".join(map(str, r)) for r in config.reflections)
    page = Report(
        "Line defects from raw diffraction patterns",
        f"Does a {config.prior.material} nanocrystal hold an edge or a screw dislocation, judged from one noisy Bragg "
        f"pattern ({reflections}) without phase retrieval, for crystals never seen?",
    )
    page.figure(
        "crystals",
        run.figure("crystals", crystals(examples, names)),
        "One crystal with each defect, the same shape and strain. Above: phase of a slice through the object (blank "
        "outside). Below: log(1 + mean counts), the plane through the peak. z is along the reflection.",
    )
    page.figure(
        "confusion",
        run.figure("confusion", confusion(test, answers["network"], names)),
        "Answers of the networks by what the reflection can see. Shares of each row; counts in brackets.",
    )
    rows = []
    for stratum in np.unique(test.visibility[test.kind != NONE]):
        for number, name in enumerate(names[1:], start=1):
            chosen = (test.kind == number) & (test.visibility == stratum)
            if chosen.any():
                shares = [float((p[chosen].argmax(1) == number).mean()) for p in answers.values()]
                rows.append((name, f"{stratum:g}", int(chosen.sum()), *shares))
    chosen = test.kind == NONE
    shares = [float((p[chosen].argmax(1) == NONE).mean()) for p in answers.values()]
    rows.append(("none", "-", int(chosen.sum()), *shares))
    page.table("Recall by |g.b|", ("defect", "|g.b|", "patterns", "networks", "random forest"), rows)
    page.figure(
        "abstention",
        run.figure("abstention", abstention(test, answers)),
        "Accuracy on visible cases when the least confident answers are withheld.",
    )
    page.figure("training", run.figure("training", training(curve)), "Accuracy on the training batches.")
    return page


def calibration_error(probabilities: np.ndarray, target: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean gap of confidence and accuracy over bins of confidence."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == target
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[place == b].mean() - right[place == b].mean()) * (place == b).mean() for b in np.unique(place)
    ]
    return float(sum(gaps))


@style()
def crystals(examples: list[tuple[np.ndarray, np.ndarray]], names: tuple[str, ...]) -> Figure:
    figure, axes = new_figure(2, len(examples), (3.4 * len(examples), 6.4))
    for column, ((field, pattern), name) in enumerate(zip(examples, names, strict=True)):
        middle = field[:, :, field.shape[2] // 2]
        phase = np.where(np.abs(middle) > 0.3, np.angle(middle), np.nan)
        phases = axes[0, column].imshow(phase.T, origin="lower", cmap="twilight", vmin=-np.pi, vmax=np.pi)
        axes[0, column].set(title=name)
        counts = axes[1, column].imshow(pattern[:, :, pattern.shape[2] // 2].T, origin="lower")
        for axis in axes[:, column]:
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
    figure.colorbar(phases, ax=list(axes[0]), label="phase (radians)")
    figure.colorbar(counts, ax=list(axes[1]), label="log(1 + counts) / 4")
    return figure


@style()
def confusion(test: Patterns, probabilities: np.ndarray, names: tuple[str, ...]) -> Figure:
    answer = probabilities.argmax(axis=1)
    panels = {"visible": test.visible, "g.b = 0": ~test.visible}
    figure, axes = new_figure(1, 2, (10, 4.2))
    for axis, (title, chosen) in zip(axes[0], panels.items(), strict=True):
        table = np.array(
            [[np.sum(chosen & (test.kind == i) & (answer == j)) for j in range(len(names))] for i in range(len(names))]
        )
        shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
        axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(*table.shape):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axis.text(j, i, f"{shares[i, j]:.3f}\n({table[i, j]})", ha="center", va="center", color=colour, fontsize=9)
        ticks = range(len(names))
        answers = ("none or\ninvisible", *names[1:])
        axis.set(title=title, xticks=ticks, yticks=ticks, xticklabels=answers, yticklabels=names)
        axis.set(xlabel="answer", ylabel="truth")
        axis.grid(False)
    return figure


@style()
def abstention(test: Patterns, answers: dict[str, np.ndarray]) -> Figure:
    figure, axes = new_figure(1, 1, (7, 3.8))
    axis, visible = axes[0, 0], test.visible
    labels = {"network": ("networks", BLUE), "forest": ("random forest, seven scalars", ORANGE)}
    for name, (label, colour) in labels.items():
        p = answers[name][visible]
        order = np.argsort(-p.max(axis=1), kind="stable")
        right = (p.argmax(axis=1) == test.kind[visible])[order]
        share = np.arange(1, len(right) + 1) / len(right)
        kept = share > 0.2
        axis.plot(share[kept], (np.cumsum(right) / np.arange(1, len(right) + 1))[kept], color=colour, label=label)
    axis.axhline(0.954, color=AMBER, linestyle=":", label="published AutoKeras, all answered")
    axis.set(xlabel="share of patterns answered", ylabel="accuracy, visible cases")
    axis.legend()
    return figure


@style()
def training(curve: list[tuple[int, float]]) -> Figure:
    figure, axes = new_figure(1, 1, (7, 3.2))
    steps, accuracy = zip(*curve, strict=True) if curve else ((0,), (0.0,))
    axes[0, 0].plot(steps, accuracy, color=GREY, marker=".")
    axes[0, 0].set(xlabel="update", ylabel="accuracy on the batch", ylim=(0, 1.02))
    return figure

"""The report of the continual-learning experiment: its tables and pictures."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from jaxsci.active import Ledger
from jaxsci.core.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary
from jaxsci.diffraction.continual import StreamResult, stream_scores
from jaxsci.diffraction.generator import CLASSES
from jaxsci.diffraction.on_demand import PatternRequest

if TYPE_CHECKING:
    from experiments.diffraction_continual import Config

COLOURS = {"static": GREY, "accuracy": BLUE, "random": ORANGE, "uncertainty": GREEN, "adversarial": PURPLE}
Course = tuple[np.ndarray, np.ndarray, np.ndarray]


def report(
    config: "Config",
    run: Run,
    curves: dict[str, list[Course]],
    streams: dict[str, list[StreamResult]],
    ledgers: dict[str, list[Ledger[PatternRequest]]],
    summary: Summary,
) -> Report:
    names = list(config.domains())
    page = Report(
        "Learning from a simulator on demand",
        f"How many simulated patterns does a defect classifier need over {len(names)} domains if it asks for those it "
        f"fails on, against a set made in advance? And what does it forget when the domains come one after another? "
        f"{config.seeds} seeds.",
    )
    page.figure(
        "samples",
        run.figure("samples", samples(config, curves)),
        "Accuracy on the frozen test set against samples and against simulator-seconds: mean of the seeds (three fits "
        "smoothed), shaded by a standard error. Dotted: what the static policy ends with.",
    )
    page.figure(
        "requests",
        run.figure("requests", requests(config, ledgers["accuracy"])),
        "What the accuracy-driven policy asked for: patterns of each cell, mean over seeds. Static asks for "
        f"{config.requests * config.count / len(names) / config.classes:.0f} of each.",
    )
    page.figure(
        "forgetting",
        run.figure("forgetting", matrices(streams, names)),
        "Accuracy on each domain (columns) after learning each (rows, top to bottom), mean over seeds.",
    )
    rows = []
    for rule, results in streams.items():
        scores = np.mean([stream_scores(result) for result in results], axis=0)
        rows.append((rule, *(float(s) for s in scores)))
    page.table(
        "Learners of the stream",
        ("learner", "final accuracy", "backward transfer", "forward transfer", "forgetting"),
        rows,
        caption=f"{config.domain_samples} patterns of each domain, {config.learner.updates} updates each; memories keep"
        " "
        f"{config.learner.memory:.0%} of them, as keys. joint sees all domains so far: an upper bound.",
    )
    return page


@style()
def samples(config: "Config", curves: dict[str, list[Course]]) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.2))
    kernel = np.full(3, 1 / 3)
    for policy, found in curves.items():
        accuracy = np.stack([np.convolve(course[1], kernel, "valid") for course in found])
        mean, error = accuracy.mean(axis=0), accuracy.std(axis=0) / np.sqrt(len(found))
        for axis, column in zip(axes[0], (0, 2), strict=True):
            along = np.mean([course[column][2:] for course in found], axis=0)
            axis.plot(along, mean, color=COLOURS[policy], label=policy)
            axis.fill_between(along, mean - error, mean + error, color=COLOURS[policy], alpha=0.15, linewidth=0)
    final = np.mean([course[1][-5:].mean() for course in curves["static"]])
    for axis, label in zip(axes[0], ("patterns simulated", "simulator-seconds"), strict=True):
        axis.axhline(final, color=GREY, linestyle=":", label="static, in the end")
        axis.set(xlabel=label, ylabel="accuracy, all domains")
    axes[0, 0].legend()
    return figure


@style()
def requests(config: "Config", ledgers: list[Ledger[PatternRequest]]) -> Figure:
    names, kinds = list(config.domains()), CLASSES[: config.classes]
    table = np.zeros((len(names), len(kinds)))
    for ledger in ledgers:
        for group, count in ledger.counts().items():
            domain, kind = group.split("/")
            table[names.index(domain), kinds.index(kind)] += count * config.count / len(ledgers)
    figure, axes = new_figure(1, 1, (5.5, 4))
    axis = axes[0, 0]
    axis.imshow(table, cmap="Blues", vmin=0)
    for i, j in np.ndindex(*table.shape):
        colour = "white" if table[i, j] > 0.6 * table.max() else "black"
        axis.text(j, i, f"{table[i, j]:.0f}", ha="center", va="center", color=colour)
    axis.set(xticks=range(len(kinds)), xticklabels=kinds, yticks=range(len(names)), yticklabels=names)
    axis.grid(False)
    return figure


@style()
def matrices(streams: dict[str, list[StreamResult]], names: list[str]) -> Figure:
    columns = min(3, len(streams))
    lines = -(-len(streams) // columns)
    figure, axes = new_figure(lines, columns, (11, 3.6 * lines))
    for axis in axes.flat[len(streams) :]:
        axis.set_visible(False)
    for axis, (rule, results) in zip(axes.flat, streams.items(), strict=False):
        table = np.mean([result.accuracy for result in results], axis=0)
        image = axis.imshow(table, vmin=1 / 3, vmax=1)
        for i, j in np.ndindex(*table.shape):
            colour = "white" if table[i, j] < 0.75 else "black"
            axis.text(j, i, f"{100 * table[i, j]:.0f}", ha="center", va="center", fontsize=9, color=colour)
        axis.set(title=rule, xticks=range(len(names)), yticks=range(len(names)))
        axis.set_xticklabels(names, rotation=40, ha="right", fontsize=8)
        axis.set_yticklabels(names, fontsize=8)
        axis.grid(False)
    figure.colorbar(image, ax=list(axes.flat), label="accuracy", shrink=0.7)
    return figure

"""The report of the language model experiment: its curves and what it writes."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from jaxsci.core.figures import BLUE, GREEN, GREY, ORANGE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary

if TYPE_CHECKING:
    from experiments.language_model import Config

Curves = list[tuple[int, dict[str, float]]]


def report(config: "Config", run: Run, curves: Curves, texts: list[str], summary: Summary) -> Report:
    """The figure goes to the run directory and into the page."""
    model, axes = config.model, ("data", "fsdp", "pipe", "tensor")
    mesh = " x ".join(f"{axis} {getattr(config.mesh, axis)}" for axis in axes)
    page = Report(
        "A transformer learns to write",
        f"How well does a decoder of {model.layers} layers, {model.width} wide, predict text it has not seen, after "
        f"{config.steps} steps of {config.batch} sequences of {model.sequence} tokens? "
        f"Mesh {mesh} (-1: all that is left), schedule {config.parallel.schedule}, {config.parallel.precision}.",
    )
    page.figure(
        "curves",
        run.figure("curves", loss_curves(curves, config.expected_validation_loss)),
        "Training loss of single batches, loss on held-out text, and the gradient's norm before clipping.",
    )
    for number, text in enumerate(texts, 1):
        page.text(text.strip() or "(white space)", title=f"Sample {number}")
    return page


@style()
def loss_curves(curves: Curves, expected: float | None) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.2))
    for name, colour, label in (("loss", BLUE, "training"), ("validation_loss", ORANGE, "held out")):
        steps, values = _series(curves, name)
        marker = "o" if name == "validation_loss" else None
        axes[0, 0].plot(steps, values, color=colour, label=label, marker=marker, markersize=4, linewidth=1.4)
    if expected is not None:
        axes[0, 0].axhline(expected, color=GREY, linestyle="--", linewidth=1, label=f"published {expected:g}")
    axes[0, 0].set(title="loss", xlabel="step", ylabel="nats per token")
    axes[0, 0].legend()
    steps, values = _series(curves, "gradient_norm")
    axes[0, 1].semilogy(steps, np.maximum(values, 1e-12), color=GREEN, linewidth=1.4)
    axes[0, 1].set(title="gradient norm", xlabel="step", ylabel="global norm")
    return figure


def _series(curves: Curves, name: str) -> tuple[list[int], list[float]]:
    rows = [(step, metrics[name]) for step, metrics in curves if name in metrics]
    return [step for step, _ in rows], [value for _, value in rows]

"""The report of the planner's truth: its tables and pictures."""

from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxsci.core.figures import BLUE, GREY, ORANGE, SKY, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.transformer.counts import parameters
from jaxsci.transformer.plan import published
from jaxsci.transformer.plan.calibration import Case, Compared, Efficiency
from jaxsci.transformer.plan.hardware import Hardware
from jaxsci.transformer.plan.memory import memory
from jaxsci.transformer.plan.recipe import POLICIES
from jaxsci.transformer.plan.time import rates, step_time, use

STATES = ("study14", "fp16", "bf16", "megatron20")


class Fit(NamedTuple):
    """Cases, the machine fitted to all of them, and relative errors: fitted to all, and to the other models."""

    cases: list[Case]
    machine: Hardware
    found: Efficiency
    within: np.ndarray
    left_out: np.ndarray


def report(
    here: Hardware,
    run: Run,
    times: Fit,
    frontier: Fit,
    calculon: np.ndarray,
    kept: list[Compared],
    shares: list[Compared],
) -> Report:
    """Figures go to the run directory and into the page; `here` is the machine to predict the eight runs for."""
    seconds = [case.value for case in times.cases]
    predicted = [value * (1 + error) for value, error in zip(seconds, times.left_out, strict=True)]
    page = Report(
        "The planner against published numbers",
        "How far are closed formulas from what was measured: iteration times on A100, memory, and Frontier's "
        "throughput and scaling? Calculon, the best public estimator, stands beside.",
    )
    page.figure(
        "step_times",
        run.figure("step_times", step_times(times, calculon)),
        "Each model is predicted from the other three. Published: 2205.05198, Table 5, A100-80GB.",
    ).table(
        "Seconds per iteration",
        ("model, recomputation", "published", "predicted", "error, %", "in sample, %", "Calculon, %", here.title),
        [
            (case.label, value, guess, 100 * error, 100 * inside, 100 * theirs, case.predict(here))
            for case, value, guess, error, inside, theirs in zip(
                times.cases, seconds, predicted, times.left_out, times.within, calculon, strict=True
            )
        ],
        " ".join(["The last column is a prediction for the machine chosen with hardware=.", here.caution]),
    ).figure(
        "frontier",
        run.figure("frontier", frontier_bars(frontier)),
        "One parameter set for MI250X. Percentages of throughput are HFU, of 191.5 TFLOP/s per GCD.",
    ).table(
        "Frontier: settings, throughput, memory",
        ("model", "TP", "PP", "batch", "GCDs", "settings", "HFU published, %", "HFU, %", "MFU, %", "s", "GB"),
        [_frontier_row(run_, frontier.machine) for run_ in published.FRONTIER_RUNS],
        "s: seconds per step; GB: the fullest stage, of 64. "
        + " ".join(f"{r.name}: {r.reason}." for r in published.FRONTIER_RUNS),
    ).table(
        "Frontier: scaling",
        ("model", "kind", "GCDs", "published, %", "status", "predicted, %", "left out, %", "assumptions"),
        [
            (
                s.name,
                s.kind,
                f"{s.base} to {s.devices}",
                100 * s.efficiency,
                s.status,
                100 * s.efficiency * (1 + inside),
                100 * s.efficiency * (1 + out),
                s.reason,
            )
            for s, inside, out in zip(
                published.FRONTIER_SCALING, frontier.within[3:], frontier.left_out[3:], strict=True
            )
        ],
        "Left out: predicted from the two other models.",
    ).table(
        "Memory: formulas beside 2205.05198",
        ("Figure 1, GiB; Figure 7, % kept", "published", "formula", "error, %"),
        [(row.label, row.published, row.formula, 100 * row.error) for row in kept],
        f"Calculon, mean and largest error: state {_pair(published.CALCULON_STATE)}, activations "
        f"{_pair(published.CALCULON_ACTIVATIONS)}, Figure 7 {_pair(published.CALCULON_KEPT)}.",
    ).table(
        "State of the study's models, TB",
        ("model", "parameters", "study", *(f"{name}, {POLICIES[name].total} B" for name in STATES)),
        [_state_row(run_) for run_ in published.FRONTIER_RUNS],
        "Whole model, decimal terabytes. The study's 6 + 4 + 4 bytes per parameter leave out one of Adam's two "
        "moments: 18 bytes with float32 gradients, 16 with 16-bit ones, 20 with a copy of them.",
    ).table(
        "Utilisation from the published seconds, %",
        ("model", "published", "ours"),
        [(row.label, row.published, row.formula) for row in shares],
    )
    return page


def _frontier_row(run: published.Frontier, machine: Hardware) -> tuple:
    recipe = run.recipe()
    seconds = float(step_time(run.model, recipe, rates(machine, recipe)).total)
    of = use(run.model, recipe, seconds, machine.peak_flops)
    gigabytes = memory(run.model, recipe).worst / 1e9
    settings = (run.name, str(run.tensor), str(run.pipe), str(recipe.batch), str(recipe.devices), run.status)
    return *settings, 100 * run.share, 100 * of.hfu, 100 * of.mfu, seconds, gigabytes


def _state_row(run: published.Frontier) -> tuple:
    size = parameters(run.model)
    return run.name, size, published.FRONTIER_STATE_TB[run.name], *(size * POLICIES[n].total / 1e12 for n in STATES)


def _pair(mean_and_largest: tuple[float, float]) -> str:
    return f"{100 * mean_and_largest[0]:.2f} % and {100 * mean_and_largest[1]:.2f} %"


@style()
def step_times(times: Fit, calculon: np.ndarray) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.6))
    value = np.array([case.value for case in times.cases])
    left, right = axes[0]
    ends = np.array([0.8 * value.min(), 1.25 * value.max()])
    left.loglog(ends, ends, color=GREY, linewidth=1, label="prediction = publication")
    left.loglog(value, value * (1 + calculon), "s", color=ORANGE, markersize=7, label="Calculon")
    left.loglog(value, value * (1 + times.left_out), "o", color=BLUE, markersize=5, label="jaxsci, model left out")
    left.set(xlabel="published (s per iteration)", ylabel="predicted (s per iteration)", title="Eight runs on A100")
    left.legend()
    bars = (
        ("jaxsci, in sample", SKY, times.within),
        ("jaxsci, model left out", BLUE, times.left_out),
        ("Calculon", ORANGE, calculon),
    )
    _grouped(right, [case.label.replace(", ", "\n") for case in times.cases], bars)
    right.axhline(0, color=GREY, linewidth=1)
    right.set(ylabel="error of the prediction (%)", title="Error")
    right.legend(loc="lower left")
    return figure


@style()
def frontier_bars(frontier: Fit) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.4))
    value = np.array([case.value for case in frontier.cases])
    for axis, part, title in zip(axes[0], (slice(0, 3), slice(3, None)), ("Throughput", "Scaling"), strict=True):
        labels = [
            case.label.replace(", ", "\n").replace("weak scaling", "weak").replace("strong scaling", "strong")
            for case in frontier.cases[part]
        ]
        bars = (
            ("published", GREY, value[part]),
            ("one fit to all", BLUE, value[part] * (1 + frontier.within[part])),
            ("model left out", SKY, value[part] * (1 + frontier.left_out[part])),
        )
        _grouped(axis, labels, bars)
        axis.set(title=title, ylabel="HFU (%)" if title == "Throughput" else "efficiency (%)")
    axes[0, 0].set_ylim(0, 50)
    axes[0, 1].set(ylim=(0, 120), yticks=range(0, 101, 20))
    axes[0, 1].legend(loc="upper right", ncols=3, fontsize=9)
    return figure


def _grouped(axis: Axes, labels: list[str], bars: tuple[tuple[str, str, np.ndarray], ...]) -> None:
    """Bars side by side, in per cent."""
    place, width = np.arange(len(labels)), 0.8 / len(bars)
    for n, (label, colour, values) in enumerate(bars):
        axis.bar(place + (n - (len(bars) - 1) / 2) * width, 100 * values, width, color=colour, label=label)
    axis.set_xticks(place, labels)
    axis.grid(axis="x", visible=False)

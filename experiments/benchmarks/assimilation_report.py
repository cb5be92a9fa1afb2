"""The report of the speed of assimilation: its table and pictures."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from experiments.benchmarks.shallow_water_windows import FlowConfig
from jaxsci.core.figures import AMBER, BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary

if TYPE_CHECKING:
    from experiments.benchmarks.assimilation import Timed

MODELS = {"equations": BLUE, "emulator": ORANGE}
CURVES = {  # label, colour, dashes
    "equations": ("4D-Var + equations", BLUE, "-"),
    "emulator": ("4D-Var + emulator", ORANGE, "-"),
    "weak": ("the same, weak constraint", GREEN, "--"),
    "persistence": ("persistence of the truth", PURPLE, "--"),
    "climatology": ("climatology", GREY, ":"),
    "projection": ("truth on the modes (floor)", AMBER, ":"),
}


def report(
    run: Run,
    flow: FlowConfig,
    batch: int,
    timed: "dict[tuple[str, str, int], Timed]",
    rmse: dict[str, np.ndarray],
    summary: Summary,
) -> Report:
    page = Report(
        "4D-Var through an emulator and through the equations",
        f"What does an analysis of a shallow water flow on {flow.cells} x {flow.cells} cells cost through a linear "
        "emulator in POD space and through the solver itself, and how good is it? The same windows, observations, "
        "controls and driver, both compiled.",
    )
    page.figure(
        "times",
        run.figure("times", draw_times(batch, timed)),
        "Median wall time of a call, compilation apart. Above each pair: how many times faster the emulator is.",
    )
    lead = flow.steps_between * flow.dt
    page.figure(
        "errors",
        run.figure("errors", draw_errors(lead, rmse)),
        f"RMSE of the depth over {batch} windows. Lead 0 is the end of the window: the analysis.",
    )
    page.table(
        "Time of a call",
        ("model", "task", "batch", "seconds", "per window (s)", "compile (s)", "timed"),
        [
            (name, task, size, t.seconds, t.seconds / size, t.compile_seconds, t.runs)
            for (name, task, size), t in timed.items()
        ],
    )
    page.table(
        "RMSE of the depth by lead",
        ("lead", *(label for label, _, _ in CURVES.values())),
        [
            (n * lead, *(float(rmse[name][n]) for name in CURVES))
            for n in np.unique(np.linspace(0, len(rmse["equations"]) - 1, 6).astype(int))
        ],
    )
    return page


@style()
def draw_times(batch: int, timed: "dict[tuple[str, str, int], Timed]") -> Figure:
    figure, axes = new_figure(1, 1, (8, 4.4))
    axis = axes[0, 0]
    groups = [(task, size) for task in ("gradient", "analysis") for size in (1, batch)]
    place = np.arange(len(groups))
    heights = {name: np.array([timed[name, *group].seconds for group in groups]) for name in MODELS}
    for shift, (name, colour) in zip((-0.2, 0.2), MODELS.items(), strict=True):
        axis.bar(place + shift, heights[name], 0.38, color=colour, label=name)
    for x, slow, fast in zip(place, heights["equations"], heights["emulator"], strict=True):
        axis.text(x, 1.3 * max(slow, fast), f"{slow / fast:,.0f} x", ha="center", va="bottom")
    lowest, highest = min(map(np.min, heights.values())), max(map(np.max, heights.values()))
    axis.set(yscale="log", ylim=(lowest / 3, highest * 30), ylabel="time of a call (s)")
    axis.set_xticks(place, [f"{task}\nbatch {size}" for task, size in groups])
    axis.grid(axis="x", visible=False)
    axis.legend(loc="upper left", ncols=2)
    return figure


@style()
def draw_errors(lead: float, rmse: dict[str, np.ndarray]) -> Figure:
    figure, axes = new_figure(1, 1, (8, 4.4))
    leads = lead * np.arange(len(rmse["equations"]))
    for name, (label, colour, dashes) in CURVES.items():
        axes[0, 0].plot(leads, rmse[name], dashes, color=colour, label=label)
    axes[0, 0].set(xlabel="lead after the window's end (time units)", ylabel="RMSE of depth (rest depths)")
    axes[0, 0].set_ylim(0, 1.45 * max(values.max() for values in rmse.values()))
    axes[0, 0].legend(loc="upper left", ncols=2)
    return figure

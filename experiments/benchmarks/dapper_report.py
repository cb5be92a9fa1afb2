"""The report of the table of DAPPER's scores."""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from experiments.benchmarks.dapper_cases import Case
from jaxsci.assimilation.twin import TwinResult
from jaxsci.core.figures import BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run

TITLES = {"lorenz96": "Lorenz-96", "lorenz63": "Lorenz-63"}


class Row(NamedTuple):
    case: Case
    result: TwinResult
    compile_seconds: float
    microseconds: float
    """Per cycle and seed, compilation apart."""


class PeerRuns(NamedTuple):
    rmse: list[float]
    microseconds: list[float]
    """Per cycle, each run."""


def report(run: Run, rows: list[Row], peers: dict[str, PeerRuns], cycles: int, timed_seeds: int) -> Report:
    seeds = len(rows[0].result.lost)
    page = Report(
        "DAPPER's score tables with error bars",
        f"Do these methods find the truth as well as DAPPER's, and how fast? Time-mean analysis RMSE of {seeds} "
        f"independent twin experiments of {cycles} cycles each. Lorenz-96: 40 variables, all observed with "
        "variance 1, every 0.05 (4D-Var and iEnKS: 0.2). Lorenz-63: all observed with variance 2, every 0.25.",
    )
    page.figure(
        "scores",
        run.figure("scores", draw_scores(rows, peers)),
        "Small dots: seeds; bars: mean and two standard errors; vertical marks: the bound to stay below.",
    )
    page.table(
        "Scores",
        ("case", "RMSE", "standard error", "spread", "worst seed", "diverged", "bound", "listed", "DAPPER here"),
        [
            (
                f"{TITLES[row.case.system.kind]} {row.case.title}",
                row.result.mean,
                row.result.standard_error,
                float(row.result.spread.mean()),
                float(row.result.rmse_analysis.max()),
                int(row.result.diverged.sum()),
                row.case.bound,
                row.case.listed,
                float(np.mean(peers[row.case.name].rmse)) if row.case.name in peers else None,
            )
            for row in rows
        ],
        caption="'listed' is what DAPPER's comments say of its own scores.",
    )
    page.table(
        "Time per cycle and seed (microseconds)",
        ("case", "ours", "DAPPER", "ratio", "compiling (s)"),
        [
            (
                f"{TITLES[row.case.system.kind]} {row.case.title}",
                row.microseconds,
                float(np.median(peers[row.case.name].microseconds)) if row.case.name in peers else None,
                float(np.median(peers[row.case.name].microseconds)) / row.microseconds
                if row.case.name in peers
                else None,
                row.compile_seconds,
            )
            for row in rows
        ],
        caption=f"Ours: {timed_seeds} seeds in one program, truth and observations included, compiled before; "
        "DAPPER: one seed at a time, its analysis loop alone. Both in float64 on this machine, one after the other.",
    )
    return page


@style()
def draw_scores(rows: list[Row], peers: dict[str, PeerRuns]) -> Figure:
    systems = list(dict.fromkeys(row.case.system.kind for row in rows))
    counts = [sum(row.case.system.kind == kind for row in rows) for kind in systems]
    figure, axes = new_figure(len(systems), 1, (8.5, 1.6 + 0.42 * len(rows)))
    if len(systems) > 1:
        axes[0, 0].get_gridspec().set_height_ratios(counts)
    for axis, kind in zip(axes[:, 0], systems, strict=True):
        shown = [row for row in rows if row.case.system.kind == kind][::-1]
        for height, row in enumerate(shown):
            seeds = row.result.rmse_analysis
            axis.plot(seeds, np.full(len(seeds), height), "o", color=BLUE, markersize=3, alpha=0.4)
            axis.errorbar(row.result.mean, height, xerr=2 * row.result.standard_error, fmt="o", color=BLUE, capsize=4)
            if row.case.bound is not None:
                axis.plot(row.case.bound, height, "|", color=ORANGE, markersize=18, markeredgewidth=2)
            if row.case.name in peers:
                axis.plot(np.mean(peers[row.case.name].rmse), height, "D", color=GREY, markersize=4)
        axis.set_yticks(range(len(shown)), [row.case.title for row in shown])
        axis.set(title=TITLES[kind], xlim=(0, None), ylim=(-0.6, len(shown) - 0.4))
    axes[-1, 0].set_xlabel("analysis RMSE (state units)")
    marks = [("o", BLUE, "ours, mean"), ("D", GREY, "DAPPER here"), ("|", ORANGE, "bound")]
    handles = [Line2D([], [], linestyle="", marker=m, color=c, markersize=8, label=label) for m, c, label in marks]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure

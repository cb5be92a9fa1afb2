"""The report of a search for recipes: tables of the best, pictures of what matters and of what cannot run."""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from jaxsci.core.figures import AMBER, BLUE, GREY, ORANGE, SKY, new_figure, style
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.plan.hardware import Hardware
from jaxsci.transformer.plan.search import Found, Rated

STUDY_ORDER = ("microbatch", "tensor", "pipe", "nodes", "zero")  # most important first; unconfirmed
STUDY_BEST = 22  # TFLOP/s, unconfirmed
NAMES = {"microbatch": "micro-batch", "tensor": "TP", "pipe": "PP", "zero": "ZeRO-1"}
SHORT = {  # of reasons, in the order of the rules
    "tensor beyond a node": "node",
    "heads not divisible": "heads",
    "too few layers": "layers",
    "schedule": "sched.",
    "ZeRO with pipeline": "ZeRO",
    "devices not divisible": "devices",
    "batch not divisible": "batch",
    "micro-batches not divisible": "m",
    "memory": "memory",
}


class Case(NamedTuple):
    """A model on a number of devices: what was found, the study's own recipe, the best of its kind (full recomputation,
    one chunk per stage), and what jaxsci itself can run, the best first.
    """

    label: str
    model: ModelConfig
    found: Found
    study: Rated | None
    alike: Rated | None
    ours: tuple[Rated, ...]

    @property
    def title(self) -> str:
        name, devices = self.label.rsplit("_", 1)
        return f"{name.upper()} on {devices}"


class Compilation(NamedTuple):
    """A recipe as the compiler for `target` sees it; `fits`: into the memory of the machine searched for."""

    label: str
    rated: Rated
    target: str
    compiled_bytes: int
    seconds: float
    fits: bool


class Importances(NamedTuple):
    """Shares of variance by parameter: of log throughput among points that run; of the same with failures counted as
    the slowest; of whether a point runs.
    """

    throughput: dict[str, float]
    objective: dict[str, float]
    running: dict[str, float]


def report(
    machine: Hardware,
    run: Run,
    cases: list[Case],
    study: Found,
    shares: Importances,
    compiled: list[Compilation],
) -> Report:
    """Figures go to the run directory and into the page."""
    last = cases[-1]
    page = Report(
        "The search for a recipe, without its failures",
        f"How should a model be spread over {machine.title}? Every combination is rejected with a reason or ranked by "
        "predicted throughput, beside the study's own recipes.",
    )
    page.figure(
        "best_recipes",
        run.figure("best_recipes", best_recipes(cases, machine)),
        f"Predicted model FLOPs utilisation. Thin lines: {100 * machine.time_error:.1f} %, the largest error of times "
        "predicted for models left out of the fit.",
    ).table(
        "Best recipes",
        (
            *("case", "recipe", "TP", "PP", "chunks", "micro-batch", "micro-batches", "ZeRO", "recompute", "schedule"),
            *("GB", "s", "tokens/s per device", "MFU, %", "HFU, %", "ratio"),
        ),
        [row for case in cases for row in _rows(case)],
        "ratio: throughput over that of the study's recipe, both predicted. Same kind: full recomputation, one chunk "
        f"per stage. GB: the fullest stage by the formulas, of {machine.memory_bytes / 1e9:.3g}. jaxsci: single "
        "programs (gpipe, lockstep), as this library runs them.",
    ).figure(
        "mesh",
        run.figure("mesh", mesh_map(last)),
        f"{last.title} devices. Number: HFU in per cent of the fastest recipe with full recomputation, in one or more "
        "chunks per stage; PP that do not divide the layers work through padding. Word: the rule "
        "that stops even the point that passes most of them. The frame marks the study's recipe.",
    ).figure(
        "reasons",
        run.figure("reasons", reasons(study, cases)),
        "What a search by running would have recorded as a failure, or would have refused to start.",
    ).table(
        "Points",
        ("search", "points", "feasible", *SHORT),
        [
            (title, len(f.rated) + len(f.rejected), len(f.rated), *(f.reasons[reason] for reason in SHORT))
            for title, f in [("study's space", study), *((case.title, case.found) for case in cases)]
        ],
        "Each rejected point is counted once, under the first rule that it breaks, in the order of the columns.",
    ).figure(
        "importance",
        run.figure("importance", importance_bars(shares)),
        "Share of variance that a parameter explains over the study's space, without a surrogate: main effects, and "
        "where rejected points leave holes Shapley's division of what two parameters could both explain.",
    ).text(_order(shares, study, machine), "What matters in the study's space")
    if compiled:
        page.table(
            "Compiled ahead of time",
            ("case", "target", "formula, GB", "compiled, GB", "error, %", "fits", "s"),
            [
                (
                    c.label,
                    c.target,
                    c.rated.bytes / 1e9,
                    c.compiled_bytes / 1e9,
                    100 * (c.rated.bytes / c.compiled_bytes - 1),
                    "yes" if c.fits else "no",
                    c.seconds,
                )
                for c in compiled
            ],
            f"The compiler of {compiled[0].target} stands in where {machine.title} has none that runs without a "
            f"device; fits: into {machine.memory_bytes / 1e9:.3g} GB.",
        )
    return page


def _rows(case: Case) -> Iterable[tuple]:
    kinds = [("study", case.study), ("same kind", case.alike), ("best", case.found.best)]
    kinds += [("jaxsci", case.ours[0] if case.ours else None)]
    base = case.study.tokens_per_second if case.study else None
    for kind, r in kinds:
        if r is None:
            continue
        recipe = r.recipe
        yield (
            case.title,
            kind,
            *(str(n) for n in (recipe.tensor, recipe.pipe, recipe.virtual, recipe.microbatch, recipe.microbatches)),
            str(recipe.zero),
            recipe.recompute,
            recipe.schedule if recipe.pipe > 1 else "-",
            r.bytes / 1e9,
            r.seconds,
            r.tokens_per_device,
            100 * r.mfu,
            100 * r.hfu,
            r.tokens_per_second / base if base else None,
        )


def _order(shares: Importances, study: Found, machine: Hardware) -> str:
    said = ", ".join(NAMES.get(name, name) for name in STUDY_ORDER)
    whole = len(study.rated) + len(study.rejected)
    text = (
        f"The study's order, by SHAP on its surrogate and unconfirmed: {said}. Ours, among points that run: "
        f"{_ranked(shares.throughput)}; with failures counted as the slowest, which is what a search by running sees: "
        f"{_ranked(shares.objective)}; for whether a point runs at all: {_ranked(shares.running)}. The last two add up "
        f"to {100 * sum(shares.objective.values()):.2g} and {100 * sum(shares.running.values()):.2g} % of the "
        "variance: where the rest is large, parameters decide together and no order of single ones says much."
    )
    return (
        f"{text}\n\nOf {whole} points {len(study.rated)} can run. The fastest reaches "
        f"{study.best.hfu * machine.peak_flops / 1e12:.3g} TFLOP/s; the study's search found about {STUDY_BEST} "
        "(unconfirmed). The micro-batch enters our times through the traffic of replicas alone, so its share is too "
        "small where it works by wider matrices; it enters memory in full."
    )


def _ranked(shares: dict[str, float]) -> str:
    order = sorted(shares, key=lambda name: -shares[name])
    return ", ".join(f"{NAMES.get(name, name)} {shares[name]:.2f}" for name in order)


@style()
def best_recipes(cases: list[Case], machine: Hardware) -> Figure:
    figure, axes = new_figure(1, 1, (10, 4.4))
    axis = axes[0, 0]
    kinds = (
        ("study's recipe", GREY, [case.study for case in cases]),
        ("best with full recomputation, one chunk", SKY, [case.alike for case in cases]),
        ("best that jaxsci runs", AMBER, [case.ours[0] if case.ours else None for case in cases]),
        ("best", BLUE, [case.found.best for case in cases]),
    )
    place, width = np.arange(len(cases)), 0.8 / len(kinds)
    for n, (label, colour, rated) in enumerate(kinds):
        height = np.array([100 * r.mfu if r else np.nan for r in rated])
        x = place + (n - (len(kinds) - 1) / 2) * width
        axis.bar(x, height, width, color=colour, label=label)
        # T (1 +- error) makes throughput / (1 +- error)
        low, high = height - height / (1 + machine.time_error), height / (1 - machine.time_error) - height
        axis.errorbar(x, height, (low, high), fmt="none", ecolor="#1F2937", elinewidth=0.8)
        for at, r in zip(x, rated, strict=True):
            if r:
                ink = "white" if colour in (GREY, BLUE) else "black"
                mesh = f"{r.recipe.tensor} x {r.recipe.pipe}"
                axis.text(at, 0.8, mesh, rotation=90, ha="center", fontsize=10, color=ink)
    tops = [r.mfu for _, _, rated in kinds for r in rated if r]
    axis.set(ylabel="predicted MFU (%)", title="Best recipes (written in the bars: TP x PP)")
    axis.set_ylim(0, 130 * max(tops) + 3)
    axis.set_xticks(place, [case.title for case in cases])
    axis.grid(axis="x", visible=False)
    axis.legend(ncols=2, loc="upper right", fontsize=9)
    return figure


@style()
def mesh_map(case: Case) -> Figure:
    figure, axes = new_figure(1, 1, (10, 4.2))
    axis = axes[0, 0]
    fast: dict[tuple[int, int], float] = {}
    for rated in case.found.rated:  # the best first
        if rated.recipe.recompute == "full":
            fast.setdefault((rated.point.tensor, rated.point.pipe), rated.hfu)
    furthest: dict[tuple[int, int], int] = {}
    order = list(SHORT)
    for rejected in case.found.rejected:
        cell = rejected.point.tensor, rejected.point.pipe
        furthest[cell] = max(furthest.get(cell, 0), order.index(rejected.reason))
    cells = fast.keys() | furthest.keys()
    tensors, pipes = sorted({t for t, _ in cells}), sorted({p for _, p in cells})
    grid = np.array([[100 * fast.get((t, p), np.nan) for p in pipes] for t in tensors])
    middle = (np.nanmin(grid) + np.nanmax(grid)) / 2 if np.isfinite(grid).any() else 0
    image = axis.imshow(grid, aspect="auto", origin="lower")
    for i, t in enumerate(tensors):
        for j, p in enumerate(pipes):
            if np.isfinite(grid[i, j]):
                colour = "white" if grid[i, j] < middle else "black"
                axis.text(j, i, f"{grid[i, j]:.1f}", ha="center", va="center", color=colour, fontsize=11)
            elif (t, p) in furthest:
                word = list(SHORT.values())[furthest[t, p]]
                axis.text(j, i, word, ha="center", va="center", color=GREY, fontsize=9.5)
    if case.study and case.study.point.tensor in tensors and case.study.point.pipe in pipes:
        corner = pipes.index(case.study.point.pipe) - 0.5, tensors.index(case.study.point.tensor) - 0.5
        axis.add_patch(_frame(corner))
    axis.set_xticks(range(len(pipes)), [str(p) for p in pipes])
    axis.set_yticks(range(len(tensors)), [str(t) for t in tensors])
    axis.grid(visible=False)
    axis.set(xlabel="PP, pipeline stages", ylabel="TP, tensor group", title=f"{case.title}: predicted HFU")
    if np.isfinite(grid).any():
        figure.colorbar(image, ax=axis, label="HFU (%), full recomputation")
    return figure


def _frame(corner: tuple[float, float]):
    from matplotlib.patches import Rectangle

    return Rectangle(corner, 1, 1, fill=False, edgecolor=ORANGE, linewidth=3)


@style()
def reasons(study: Found, cases: list[Case]) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.2))
    together = sum((case.found.reasons for case in cases), Counter())
    runs = sum(len(case.found.rated) for case in cases)
    panels = ((study.reasons, len(study.rated), "The study's space"), (together, runs, "Best recipes, all cases"))
    for axis, (counted, feasible, title) in zip(axes[0], panels, strict=True):
        names = [name for name, _ in counted.most_common()]
        values = [feasible, *(counted[name] for name in names)]
        whole = sum(values)
        percent = [100 * value / whole for value in values]
        axis.barh(range(len(values)), percent, color=[BLUE, *([ORANGE] * len(names))])
        axis.set_yticks(range(len(values)), ["feasible", *names])
        axis.invert_yaxis()
        axis.grid(axis="y", visible=False)
        for row, (share, value) in enumerate(zip(percent, values, strict=True)):
            axis.text(share + 1, row, f"{value:,}", va="center", fontsize=9)
        axis.set_xlim(0, 1.18 * max(percent))
        axis.set(xlabel="share of points (%)", title=f"{title}: {whole:,} points")
    return figure


@style()
def importance_bars(shares: Importances) -> Figure:
    figure, axes = new_figure(1, 1, (9, 4.2))
    axis = axes[0, 0]
    rest = [name for name in shares.throughput if name not in STUDY_ORDER]
    names = [name for name in STUDY_ORDER if name in shares.throughput] + rest
    ranks = {name: f"{n}. in the study" for n, name in enumerate(STUDY_ORDER, 1)}
    columns = (
        ("throughput of what runs", BLUE, shares.throughput),
        ("throughput, failures as slowest", SKY, shares.objective),
        ("whether it runs", ORANGE, shares.running),
    )
    place = np.arange(len(names))
    for n, (label, colour, values) in enumerate(columns):
        height = [100 * values[name] for name in names]
        axis.bar(place + (n - 1) * 0.27, height, 0.27, color=colour, label=label)
    axis.set_xticks(place, [f"{NAMES.get(name, name)}\n{ranks.get(name, 'not ranked')}" for name in names])
    axis.set(ylabel="share of variance explained (%)", title="Importance over the study's space")
    axis.grid(axis="x", visible=False)
    axis.legend()
    return figure

"""The report of the reduced-order experiment: its tables and pictures."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from experiments.reduced_order_methods import NON_AUTOREGRESSIVE
from experiments.reduced_order_store import Answers, Doubt, Outcome
from jaxsci.core.figures import (
    AMBER,
    BLUE,
    DIFFERENCE_MAP,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    new_figure,
    style,
)
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary
from jaxsci.emulators.rom_scores import RomScore, student_interval

if TYPE_CHECKING:
    from experiments.reduced_order import Config, Seed

LOOKS = {  # label, colour, dashes
    "galerkin": ("POD-Galerkin", ORANGE, "-"),
    "galerkin_small": ("POD-Galerkin, small", ORANGE, ":"),
    "galerkin_deim": ("Galerkin + DEIM", AMBER, "--"),
    "galerkin_qdeim": ("Galerkin + QDEIM", AMBER, "-"),
    "lspg": ("LSPG, sampled cells", PURPLE, "-"),
    "lspg_small": ("LSPG, small", PURPLE, ":"),
    "dmd": ("DMD", GREY, "--"),
    "lstm": ("LSTM, autoregressive", "#8B0000", "-"),
    "na_lstm": ("NA-LSTM", SKY, "-"),
    "na_blstm": ("NA-BLSTM", BLUE, "-"),
    "na_mlp": ("NA-MLP, cosines in time", BLUE, "--"),
    "na_tcn": ("NA-TCN", BLUE, ":"),
    "rbf": ("POD + RBF", GREEN, ":"),
    "gpr": ("POD + GP", GREEN, "--"),
    "equivariant": ("equivariant", GREEN, "-"),
}
PICTURED = ("galerkin", "lstm", "na_blstm", "equivariant")


def report(
    config: "Config",
    run: Run,
    seeds: list["Seed"],
    scores: dict[str, list[RomScore]],
    doubts: dict[str, Doubt],
    long: Outcome | None,
    answers: Answers | None,
    summary: Summary,
) -> Report:
    """Figures go to the run directory and into the page."""
    metrics = summary.metrics
    page = Report(
        "Reduced-order models of a flow that moves",
        "Which models give a whole shallow water run from its parameters, how wrong are they early and late, and what "
        f"do they cost? Family '{config.family.kind}': {config.runs} runs of {config.simulation.fields} fields on "
        f"{config.simulation.cells} x {config.simulation.cells} cells, the last {config.test_runs} held out, "
        f"{config.modes} modes a variable; {config.seeds} seed{'s' if config.seeds > 1 else ''}.",
    )
    page.figure(
        "error_in_time",
        run.figure("error_in_time", error_in_time(config, seeds)),
        "Squared error of the depth, mean over test runs and seeds. No model that writes the field with "
        "these modes can go below the floor (black, dashed); the dotted line is the mean field.",
    )
    page.table("Methods", *_method_table(config, scores, metrics), caption=_caption(config))
    page.figure(
        "accuracy_and_cost",
        run.figure("accuracy_and_cost", accuracy_and_cost(config, metrics)),
        "Error against the time of one trajectory. Networks, regressions and DMD in a batch; projection models "
        "one after another: on a CPU batches slow them.",
    )
    page.figure(
        "fields",
        run.figure("fields", fields(config, seeds[0])),
        "Depth in the first test run and what four models make of it.",
    )
    page.figure(
        "coefficients",
        run.figure("coefficients", coefficients(config, seeds[0])),
        "Coefficients of four modes in the same run. The equivariant model lives in another basis; its fields are "
        "projected here.",
    )
    page.figure(
        "floors",
        run.figure("floors", floors(config, seeds, metrics)),
        "What any linear model of K modes leaves out of the test fields, and where the models of this run lie.",
    )
    if config.horizon > 1:
        page.figure(
            "beyond",
            run.figure("beyond", beyond(config, seeds[0], long)),
            f"Error after the trained span, to {config.horizon} times its length. NA-BLSTM: another network, "
            "trained on the long span; a direct model knows no other times than those it was trained for.",
        )
        page.table("Stability after the trained span", *_stability_table(config, seeds[0], long))
    if doubts:
        page.table(
            "Uncertainty",
            ("source", "90 % interval holds", "after scaling", "spread / error", "factor"),
            [
                (name, *map(float, (d.coverage_raw, d.coverage_scaled, d.spread_over_error, d.factor)))
                for name, d in doubts.items()
            ],
            caption=f"Shares of test errors of all coefficients. The factor makes validation intervals right; network: "
            f"{config.uncertainty.network}.",
        )
    if answers is not None and len(answers.parameters):
        rows = [
            (
                ", ".join(f"{v:g}" for v in asked),
                float(low),
                float(high),
                "outside the training range" if out else "inside",
            )
            for asked, low, high, out in zip(*answers, strict=True)
        ]
        page.table("Asked for besides", ("parameters", "least depth", "greatest depth", ""), rows)
    return page.text(_method_text(config), title="How it is done")


@style()
def error_in_time(config: "Config", seeds: list["Seed"]) -> Figure:
    figure, axes = new_figure(1, 1, (10, 5.2))
    axis, times = axes[0, 0], config.simulation.times
    for name in config.methods:
        label, colour, dashes = LOOKS[name]
        errors = np.mean([np.nanmean(s.outcomes[name].errors, 0) for s in seeds], 0)
        axis.plot(times, errors, dashes, color=colour, label=label, linewidth=1.6)
    floor = np.mean([_floor(config, s).mean(0) for s in seeds], 0)
    axis.plot(times, floor, "--", color="black", label=f"floor, {config.modes} modes", linewidth=1.6)
    climate = np.mean([s.truth.climatology.mean(0) for s in seeds], 0)
    axis.plot(times, climate, ":", color="black", label="mean field", linewidth=1.6)
    axis.set(yscale="log", xlabel="time", ylabel="squared error of the depth", xlim=(0, times[-1]))
    axis.set_ylim(None, 30 * climate.max())
    figure.legend(loc="outside right upper", frameon=False)
    return figure


@style()
def accuracy_and_cost(config: "Config", metrics: Mapping[str, float]) -> Figure:
    figure, axes = new_figure(1, 1, (9, 4.8))
    axis = axes[0, 0]
    markers = "osD^vP*Xh<>pd8H"
    for name, marker in zip(config.methods, markers, strict=False):
        label, colour, _ = LOOKS[name]
        x, y = metrics[f"seconds_per_trajectory_{name}"], metrics[f"mse_{name}"]
        axis.plot([x], [y], marker, color=colour, label=label, markersize=8)
    axis.axhline(metrics["floor_mse"], color="black", linestyle="--", linewidth=1.2, label="floor")
    axis.axhline(metrics["climatology_mse"], color="black", linestyle=":", linewidth=1.2, label="mean field")
    axis.set(xscale="log", yscale="log", xlabel="seconds per trajectory", ylabel="squared error of the depth")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


@style()
def fields(config: "Config", seed: "Seed") -> Figure:
    shown = [name for name in PICTURED if name in config.methods] or list(config.methods[:4])
    rows = [("truth", seed.truth.pictures)] + [(LOOKS[n][0], seed.outcomes[n].pictures) for n in shown]
    last = config.simulation.fields - 1
    times = [config.simulation.times[round(share * last)] for share in (0.05, 0.2, 0.5, 1.0)]
    count = len(seed.truth.pictures)
    figure, axes = new_figure(len(rows), count, (9.2, 2.2 * len(rows)))
    for column in range(count):
        truth = seed.truth.pictures[column]
        middle = float(np.median(truth))
        limit = float(np.abs(truth - middle).max())
        for axis, (name, pictures) in zip(axes[:, column], rows, strict=True):
            picture = np.nan_to_num(pictures[column], nan=middle, posinf=middle + limit, neginf=middle - limit)
            image = axis.imshow(
                picture.T,
                origin="lower",
                cmap=DIFFERENCE_MAP,
                vmin=middle - limit,
                vmax=middle + limit,
                extent=[-0.5, 0.5] * 2,
            )
            axis.grid(False)
            axis.set(xticks=[-0.5, 0, 0.5], yticks=[-0.5, 0, 0.5])
            axis.label_outer()
            if column == 0:
                axis.set_ylabel(name, fontsize=10)
        axes[0, column].set_title(f"t = {times[column]:.3g}" if column < len(times) else "")
        figure.colorbar(image, ax=axes[:, column], location="bottom", shrink=0.85, label="depth", pad=0.02)
    return figure


@style()
def coefficients(config: "Config", seed: "Seed") -> Figure:
    count = seed.truth.series.shape[1]
    figure, axes = new_figure(2, 2, (10, 5.6))
    modes = sorted({min(mode, config.modes - 1) for mode in (0, 4, 12, 28)})
    shown = [name for name in PICTURED if name in config.methods]
    for number, axis in enumerate(axes.ravel()):
        if number >= count:
            axis.set_axis_off()
            continue
        axis.plot(config.simulation.times, seed.truth.series[:, number], color="black", label="truth", linewidth=2.4)
        for name in shown:
            label, colour, dashes = LOOKS[name]
            axis.plot(
                config.simulation.times,
                seed.outcomes[name].series[:, number],
                dashes,
                color=colour,
                label=label,
                linewidth=1.3,
            )
        reach = 1.6 * np.abs(seed.truth.series[:, number]).max()
        axis.set(title=f"mode {modes[number] + 1}", xlabel="time", ylabel="coefficient", ylim=(-reach, reach))
        axis.label_outer()
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


@style()
def floors(config: "Config", seeds: list["Seed"], metrics: Mapping[str, float]) -> Figure:
    figure, axes = new_figure(1, 1, (9, 4.6))
    axis = axes[0, 0]
    half, tenth = config.simulation.fields // 2, max(config.simulation.fields // 10, 1)
    spans = (
        ("all fields", slice(None), "-"),
        ("first tenth", slice(0, tenth), ":"),
        ("last half", slice(half, None), "--"),
    )
    count = len(seeds[0].truth.floors)
    sizes = sorted({*config.floor_modes, config.modes})[:count]
    for label, span, dashes in spans:
        values = np.mean([s.truth.floors[:, :, span].mean((1, 2)) for s in seeds], 0)
        axis.plot(sizes, values, dashes, color="black", marker="o", markersize=4, label=f"floor, {label}")
    for name in config.methods:
        label, colour, _ = LOOKS[name]
        size = config.projection.small_modes if name.endswith("_small") else config.modes
        axis.plot([size], [metrics[f"mse_{name}"]], "o", color=colour, label=label, markersize=7)
    axis.axhline(metrics["climatology_mse"], color="black", linewidth=0.8, linestyle=":")
    axis.set(xscale="log", yscale="log", xlabel="modes", ylabel="squared error of the depth")
    figure.legend(loc="outside right upper", frameon=False)
    return figure


@style()
def beyond(config: "Config", seed: "Seed", long: Outcome | None) -> Figure:
    figure, axes = new_figure(1, 1, (9, 4.4))
    axis, span = axes[0, 0], config.simulation.times[-1]
    count = seed.truth.climatology_later.shape[1]
    stride = max(config.simulation.fields // 20, 1) * config.simulation.interval
    times = span + stride * (1 + np.arange(count))
    rows = [(LOOKS[n], o.later) for n, o in seed.outcomes.items() if o.later.size]
    if long is not None:
        rows.append((("NA-BLSTM, trained on all of it", BLUE, "-"), long.later))
    climate = seed.truth.climatology_later.mean(0)
    for (label, colour, dashes), later in rows:
        error = np.where(np.isfinite(later), later, np.nan).mean(0)
        axis.plot(times, np.minimum(error, 100 * climate.max()), dashes, color=colour, label=label, linewidth=1.5)
    axis.plot(times, climate, ":", color="black", label="mean field")
    axis.plot(times, seed.truth.floor_later.mean(0), "--", color="black", label=f"floor, {config.modes} modes")
    axis.set(yscale="log", xlabel="time", ylabel="squared error of the depth", ylim=(None, 100 * climate.max()))
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def _floor(config: "Config", seed: "Seed") -> np.ndarray:
    sizes = sorted({*config.floor_modes, config.modes})
    return seed.truth.floors[min(sizes.index(config.modes), len(seed.truth.floors) - 1)]


def _method_table(config: "Config", scores: dict[str, list[RomScore]], metrics: Mapping[str, float]):
    columns = (
        "method",
        "mse",
        "± 95 %",
        "above floor",
        "early",
        "late",
        "after first tenth",
        "worst run",
        "s / run",
        "s / run alone",
    )
    rows: list[tuple] = []
    floor = metrics["floor_mse"]
    rows.append(("floor", floor, metrics.get("floor_mse_interval"), 0.0, None, metrics["floor_mse_late"], *[None] * 4))
    rows.append(("mean field", metrics["climatology_mse"], *[None] * 8))
    for name in config.methods:
        each = scores[name]
        mean = lambda field, each=each: float(np.mean([getattr(s, field) for s in each]))  # noqa: E731
        half = student_interval(np.array([s.mse for s in each]))[1]
        rows.append(
            (
                LOOKS[name][0],
                mean("mse"),
                None if np.isnan(half) else half,
                mean("above_floor"),
                mean("early"),
                mean("late"),
                mean("after_window"),
                max(s.worst for s in each),
                metrics[f"seconds_per_trajectory_{name}"],
                metrics[f"seconds_per_trajectory_batch1_{name}"],
            )
        )
    return columns, rows


def _stability_table(config: "Config", seed: "Seed", long: Outcome | None):
    rows: list[tuple] = [("mean field", float(seed.truth.climatology_later.mean()), None, None)]
    outcomes = {n: o for n, o in seed.outcomes.items() if o.later.size}
    if long is not None:
        outcomes["na_blstm"] = long
    for name, outcome in outcomes.items():
        finite = bool(np.isfinite(outcome.later).all())
        growth = float(outcome.growth)
        verdict = "not finite" if not finite else "bounded" if growth < 2 else "grows"
        rows.append(
            (LOOKS[name][0], float(outcome.later.mean()) if finite else None, growth if finite else None, verdict)
        )
    columns = ("method", "mse after the trained span", "largest departure / training's", "")
    return columns, rows


def _caption(config: "Config") -> str:
    seeds = (
        "one hypercube and one training of each network"
        if config.seeds == 1
        else (
            f"means over {config.seeds} seeds (hypercube and networks) with Student's 95 % interval; worst run of all"
        )
    )
    return (
        f"Squared error of the depth; {seeds}. Early: the first tenth of the fields, late: the last half. The "
        "autoregressive LSTM is given the first tenth; 'after first tenth' leaves it out for every method."
    )


def _method_text(config: "Config") -> str:
    networks = ", ".join(LOOKS[n][0] for n in config.methods if n in NON_AUTOREGRESSIVE)
    return (
        "Solver: finite volumes, WENO5, Rusanov, SSP-RK3 on a periodic square. It differs from the code published with "
        "the data set in the x-momentum flux, the sign and speed in the Riemann flux, the reflected WENO weights, the "
        "middle Runge-Kutta stage, the periodic bump and the output times; errors quoted there cannot be compared with "
        "these.\n\n"
        "Every basis, scaler and model is fitted on the training runs; runs are split, never fields. Each variable has "
        "a POD basis of its own, its mean removed. Projection models and DMD carry all three variables, the other "
        "methods the depth alone (the published partial observation).\n\n"
        f"Non-autoregressive ({networks}): parameters in, the whole series of all coefficients out, in one call. The "
        "LSTMs recur over the modes, not over time. The equivariant model moves each run back by the phase of its "
        f"first field, which the parameters determine; it stores the mean field of every time there, and has "
        f"{config.modes - 2} modes for what departs from it and two numbers for the shift."
    )

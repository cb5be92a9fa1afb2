"""The pictures of a plan: memory, pipeline, time, scaling."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from experiments.plan_timeline import IDLE, timeline
from experiments.plan_witnesses import Witnesses, readable
from jaxsci.core.figures import AMBER, BLUE, COLOURS, GREEN, GREY, ORANGE, PURPLE, SKY, new_figure, style
from jaxsci.transformer.parallel import ParallelConfig, ticks
from jaxsci.transformer.plan.memory import memory
from jaxsci.transformer.plan.scaling import strong, weak
from jaxsci.transformer.plan.time import rates, sensitivities

PAPER, WORK, BACK = "#F3F4F6", BLUE, ORANGE
SHOWN = 40  # turns that still have room for a number each
REPLICAS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
LOOPED = ("gathered", "gradient", "inputs", "streaming", "ring")
RATES = {
    "peak": "peak FLOP/s",
    "e_max": "largest efficiency",
    "x0": "width of half efficiency",
    "tensor_bandwidth": "tensor bandwidth",
    "pipe_bandwidth": "pipeline bandwidth",
    "network_bandwidth": "network bandwidth",
}


@style()
def memory_bars(found: Witnesses) -> Figure:
    figure, axes = new_figure(1, 2, (11, 5.4))
    left, right = axes[0]
    parts = memory(found.model, found.recipe)
    stages = np.arange(found.recipe.pipe)
    unit, name = readable(max(parts.worst, found.compiled.bytes_per_device, found.counted.bytes_per_device))
    stacked = {
        "weights": parts.parameters,
        "gradients": parts.gradients,
        "optimizer": parts.optimizer,
        "kept activations": parts.activations,
        "dropout and logits": parts.inputs + parts.logits,
        "stage at work": parts.working,
    }
    bottom = np.zeros(len(stages))
    for colour, (label, size) in zip((BLUE, SKY, GREEN, ORANGE, PURPLE, AMBER), stacked.items(), strict=True):
        left.bar(stages, size / unit, 0.9 if len(stages) <= 16 else 1.0, bottom, color=colour, label=label)
        bottom += size / unit
    left.set(xlabel="pipeline stage", ylabel=f"{name} per device", title="Formulas, stage by stage")
    left.xaxis.get_major_locator().set_params(integer=True)
    stacks = [
        ("formula\n(this program)", _grouped(found.counted.arguments, found.counted.temporaries)),
        (f"compiler\n({found.compiled.target}{', upper bound' if found.compiled.upper_bound else ''})", {
            "state and batch": found.compiled.argument_bytes,
            "temporaries": found.compiled.bytes_per_device - found.compiled.argument_bytes,
        }),
    ]  # fmt: skip
    if found.measured:
        peak, held = found.measured.peak_bytes, found.measured.argument_bytes
        rest = {} if peak is None else {"temporaries": peak - held}
        stacks.append(("measured" + ("\n(arguments only)" if peak is None else ""), {"state and batch": held} | rest))
    _stacks(right, stacks, unit)
    right.set(title="Witnesses", ylabel=f"{name} per device")
    top = 1.25 * max(left.get_ylim()[1], right.get_ylim()[1])
    limit = found.machine.memory_bytes / unit
    for axis in (left, right):
        axis.set_ylim(0, max(top, 1.12 * limit) if limit < 4 * top else top)
        if limit < 4 * top:
            axis.axhline(limit, color=GREY, linestyle="--", linewidth=1.2)
            axis.annotate(f"device {limit:.4g} {name}", (0.01, limit), xycoords=("axes fraction", "data"),
                          va="bottom", fontsize=9)  # fmt: skip
        else:
            axis.text(0.01, 0.985, f"device: {found.machine.memory_bytes / 1e9:.4g} GB, far above",
                      transform=axis.transAxes, va="top", fontsize=9)  # fmt: skip
        axis.grid(axis="x", visible=False)
        axis.legend(loc="upper center", ncols=2, fontsize=9, bbox_to_anchor=(0.5, -0.17))
    return figure


def _grouped(arguments: Mapping[str, int], temporaries: Mapping[str, int]) -> dict[str, float]:
    """Footprint in four parts, so that a stack can be read."""
    looped = {n: b for n, b in temporaries.items() if any(word in n for word in LOOPED) and "one " not in n}
    inputs = sum(b for n, b in looped.items() if "inputs" in n or "stream" in n)
    return {
        "state and batch": sum(arguments.values()),
        "weights and gradients of the loop": sum(looped.values()) - inputs,
        "stage inputs": inputs,
        "one stage's work": sum(temporaries.values()) - sum(looped.values()),
    }


def _stacks(axis: Axes, stacks: list[tuple[str, dict[str, float]]], unit: float) -> None:
    colours = {
        "state and batch": GREEN,
        "weights and gradients of the loop": SKY,
        "stage inputs": ORANGE,
        "one stage's work": AMBER,
        "temporaries": PURPLE,
    }
    labelled: set[str] = set()
    for place, (_, parts) in enumerate(stacks):
        bottom = 0.0
        for name, size in parts.items():
            label = None if name in labelled else name
            labelled.add(name)
            axis.bar(place, size / unit, 0.6, bottom, color=colours[name], label=label)
            bottom += size / unit
        axis.text(place, bottom, f"{bottom:.3g}", ha="center", va="bottom", fontsize=10)
    axis.set_xticks(range(len(stacks)), [label for label, _ in stacks])
    axis.set_xlim(-0.6, len(stacks) - 0.4)


@style()
def pipeline(plan: ParallelConfig, pipe: int) -> Figure:
    """Stages by turns: all of them, or the first and the last ones of a long step."""
    plot, count = timeline(plan, pipe), ticks(plan, pipe)
    window = max(SHOWN, round(2.5 * pipe))
    parts = [("", 0, count)] if count <= window else [("first", 0, window), ("last", count - window, count)]
    figure, axes = new_figure(len(parts), 1, (11, min(2.2 + 0.3 * pipe, 3.4) * len(parts)))
    for axis, (name, start, end) in zip(axes[:, 0], parts, strict=True):
        cells = _cells(plot.forward[:, start:end], plot.backward[:, start:end], plot.together)
        extent = (start, end, pipe - 0.5, -0.5)
        axis.imshow(cells, cmap=ListedColormap([PAPER, WORK, BACK]), vmin=0, vmax=2, aspect="auto",
                    interpolation="nearest", extent=extent)  # fmt: skip
        if end - start <= SHOWN and pipe <= 16:
            axis.vlines(np.arange(start + 1, end), -0.5, pipe - 0.5, color="white", linewidth=1.5)
            axis.hlines(np.arange(pipe - 1) + 0.5, start, end, color="white", linewidth=1.5)
            _numbers(axis, plot, start, end)
        axis.grid(visible=False)
        axis.set(ylabel="stage", xlabel="turn")
        for ticks_of in (axis.xaxis, axis.yaxis):
            ticks_of.get_major_locator().set_params(integer=True)
        axis.set_title(f"{name} {end - start} of {count} turns" if name else f"{count} turns")
    handles = [Patch(color=WORK, label="forward"), Patch(color=BACK, label="backward"),
               Patch(facecolor=PAPER, edgecolor=GREY, label="bubble")]  # fmt: skip
    axes[0, 0].legend(handles=handles, ncols=3, loc="lower right", bbox_to_anchor=(1, 1.0))
    return figure


def _cells(forward: np.ndarray, backward: np.ndarray, together: bool) -> np.ndarray:
    """0 idle, 1 forward, 2 backward. A tick of 1F1B is half forward, half backward; GPipe's rows are one above the
    other in a stage: forward loop in the upper half, backward loop in the lower.
    """
    ahead, back = (forward != IDLE) * 1, (backward != IDLE) * 2
    axis = 2 if together else 1
    stacked = np.stack([ahead, back], axis)
    shape = (len(forward), -1) if together else (-1, forward.shape[1])
    return stacked.reshape(shape)


def _numbers(axis: Axes, plot, start: int, end: int) -> None:
    shift = (0.25, 0.0) if plot.together else (0.5, 0.25)
    for stage in range(len(plot.forward)):
        for tick in range(start, end):
            for sign, items in ((-1, plot.forward), (1, plot.backward)):
                if items[stage, tick] != IDLE:
                    x = tick + 0.5 + (sign * shift[0] if plot.together else 0)
                    axis.text(x, stage + sign * shift[1], str(items[stage, tick]), ha="center", va="center",
                              color="white", fontsize=8)  # fmt: skip


@style()
def time_bars(found: Witnesses) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.2))
    left, right = axes[0]
    parts = {name: float(value) for name, value in found.times._asdict().items()}
    names = list(parts)
    values = np.array([parts[name] for name in names])
    left.barh(names, values, color=COLOURS[: len(names)])
    for place, value in enumerate(values):
        left.text(value, place, f" {value:.3g} s, {100 * value / values.sum():.2g} %", va="center", fontsize=9.5)
    left.set(xlabel="seconds", xlim=(0, 1.45 * values.max()))
    left.set_title(f"Step: {values.sum():.4g} s, within {100 * found.machine.time_error:.2g} %")
    left.invert_yaxis()
    slopes = sensitivities(found.model, found.recipe, rates(found.machine, found.recipe))
    shown = [*(getattr(slopes.rates, name) for name in RATES), slopes.microbatch]
    right.barh([*RATES.values(), "micro-batch"], shown, color=[GREEN if s < 0 else ORANGE for s in shown])
    for place, slope in enumerate(shown):
        right.text(max(slope, 0), place, f" {slope:+.3f}" if abs(slope) >= 5e-4 else " 0", va="center", fontsize=9.5)
    right.axvline(0, color=GREY, linewidth=1)
    right.set(xlabel="% of step time per % of the quantity", title="Sensitivity")
    right.set_xlim(1.1 * min(shown), max(0.25, *shown) * 1.4)
    right.invert_yaxis()
    for axis in (left, right):
        axis.grid(axis="y", visible=False)
    return figure


@style()
def scaling_curves(found: Witnesses) -> Figure:
    figure, axes = new_figure(1, 2, (11, 4.2))
    recipe, group = found.recipe, found.recipe.pipe * found.recipe.tensor
    shares = recipe.batch // recipe.microbatch
    for axis, curve, allowed, title in (
        (axes[0, 0], weak, REPLICAS, "Weak scaling"),
        (axes[0, 1], strong, [r for r in REPLICAS if shares % r == 0], "Strong scaling"),
    ):
        counts = [r * group for r in allowed if r <= 16 * recipe.replicas] or [group]
        found_curve = curve(found.model, recipe, found.machine, counts)
        axis.plot(found_curve.devices, 100 * found_curve.efficiency, "o-", color=BLUE)
        axis.axhline(100, color=GREY, linewidth=1, linestyle="--")
        axis.axvline(recipe.devices, color=AMBER, linewidth=1.5, label=f"this plan: {recipe.devices}")
        axis.set_xscale("log", base=2)
        axis.set_xticks(counts, [str(n) for n in counts], rotation=30)
        axis.set(xlabel="devices", ylabel="throughput per device (%)", title=title, ylim=(0, 112))
        axis.legend(loc="lower left")
    return figure

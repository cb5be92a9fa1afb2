"""The report of a plan: its verdict, its three witnesses, and the pictures."""

from experiments import plan_figures as figures
from experiments.plan_witnesses import COLUMNS, Witnesses
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run


def report(run: Run, found: Witnesses) -> Report:
    """Figures go to the run directory and into the page."""
    recipe, machine, compiled = found.recipe, found.machine, found.compiled
    mesh = " x ".join(f"{axis} {getattr(recipe, axis)}" for axis in ("data", "fsdp", "pipe", "tensor"))
    page = Report(
        "A training run, planned",
        f"Does a decoder of {found.model.layers} layers, {found.model.width} wide, fit on {recipe.devices} "
        f"devices ({machine.title}), and how long is a step of {recipe.batch} sequences? Mesh {mesh}, schedule "
        f"{found.plan.schedule}, {recipe.microbatches} micro-batches, {found.plan.precision}.",
    )
    page.text(" ".join(filter(None, (found.verdict, *found.notes, machine.caution))), "Verdict").table(
        "Three witnesses",
        COLUMNS,
        found.rows(),
        f"Compiler: the train step compiled for {compiled.devices} {compiled.target} devices that are not there, "
        f"attention {compiled.attention}. " + _measurement(found),
    ).figure(
        "memory",
        run.figure("memory", figures.memory_bars(found)),
        "Left: closed formulas for every stage; right: this program's own arrays added up, and what the compiler "
        "assigns. The line is the memory of a device.",
    ).figure(
        "timeline",
        run.figure("timeline", figures.pipeline(found.plan, recipe.pipe)),
        "What each stage does in each turn of the pipeline; micro-batches are numbered where there is room. "
        + (
            "GPipe: the forward loop above, the backward loop below."
            if found.plan.schedule == "gpipe" and recipe.pipe > 1
            else "A turn is one forward and one backward."
        ),
    ).figure(
        "time",
        run.figure("time", figures.time_bars(found)),
        "Left: where the seconds of the predicted step go. Right: how a step changes when one quantity grows by 1 %.",
    ).figure(
        "scaling",
        run.figure("scaling", figures.scaling_curves(found)),
        "Predicted throughput per device relative to one replica. Weak: every replica keeps its work; strong: all "
        "share the same batch.",
    )
    if compiled.largest:
        page.table(
            "Largest buffers at the compiler's peak",
            ("what", "type and shape", "MB", "name in the program"),
            [(b.what or "-", b.shape or "-", b.bytes / 1e6, b.name) for b in compiled.largest[:12]],
        )
    if compiled.traffic:
        page.table(
            "Collectives of the compiled step, one device",
            ("axes", "kind", "calls", "MB sent"),
            [(" x ".join(t.axes), t.kind, float(t.calls), t.bytes / 1e6) for t in compiled.traffic],
        )
    return page


def _measurement(found: Witnesses) -> str:
    if found.measured is None:
        return f"Not measured: {found.reason}."
    seconds = found.measured.seconds
    return (
        f"Measured: median of {len(seconds)} steps on {found.recipe.devices} x {found.measured.device}, from "
        f"{min(seconds):.3g} to {max(seconds):.3g} s."
    )

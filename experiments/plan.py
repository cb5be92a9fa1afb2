"""Will a model fit on a machine, and how long is a step? Formulas, the compiler and a measurement, side by side."""

import time
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

from experiments.plan_compile import compile_apart
from experiments.plan_limits import refuse_too_large
from experiments.plan_measure import Measured, calibrated, measure, reason_not_to
from experiments.plan_report import report
from experiments.plan_witnesses import Witnesses
from experiments.settings import Settings
from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import ConfigError
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.counts import parameters
from jaxsci.transformer.parallel import ParallelConfig, ticks
from jaxsci.transformer.plan.compile import lower_for
from jaxsci.transformer.plan.footprint import footprint
from jaxsci.transformer.plan.hardware import Hardware
from jaxsci.transformer.plan.recipe import from_parallel
from jaxsci.transformer.plan.target import FAKE_LIMIT, TARGETS, devices, shrunk, target
from jaxsci.transformer.plan.time import executed_flops

STAND_IN = "h100"  # compiles for machines whose own compiler is not at hand
MESH = ("data", "fsdp", "pipe", "tensor")
HOST_BOUND = 4e9  # bytes
FRONTIER_MEMORY = 64e9  # bytes of a MI250X GCD


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`batch`: sequences per step; null for one per micro-batch and replica. `compiler`: whose compiler is the witness;
    null for the hardware's own or, where it has none, H100's. `measure`: run the plan on the devices present; null
    when they are enough and it takes no more than minutes. `measured_steps`: how many are timed.
    """

    model: ModelConfig
    hardware: Hardware
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    batch: int | None = None
    compiler: str | None = None
    measure: bool | None = None
    measured_steps: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "batch")
        between(self, "measured_steps", 5, 1000)
        require(self.mesh.member == 1, "mesh.member", "1: a plan is for one model", self.mesh.member)
        for axis in MESH:
            if getattr(self.mesh, axis) == -1:
                raise ConfigError(f"mesh.{axis}: -1 takes what is left of devices present; give a plan its number")
        if self.compiler is not None:
            target(self.compiler)
        recipe = from_parallel(self.model, self.parallel, self.axes, self.sequences)  # refuses what cannot work
        refuse_too_large(self.model, recipe, self.hardware)

    @property
    def axes(self) -> dict[str, int]:
        return {axis: getattr(self.mesh, axis) for axis in MESH}

    @property
    def sequences(self) -> int:
        """The global batch."""
        return self.batch or self.parallel.microbatches * self.mesh.data * self.mesh.fsdp


class Route(NamedTuple):
    """Which compiler bears witness, for which mesh and batch, and what a reader must know about that."""

    target: str
    axes: dict[str, int]
    batch: int
    notes: tuple[str, ...]


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    model, plan, batch, machine = config.model, config.parallel, config.sequences, config.hardware
    recipe = from_parallel(model, plan, config.axes, batch)
    needed = footprint(model, plan, config.axes, batch)
    route = choose_route(config)
    start = time.perf_counter()
    compiled = compile_apart(model, plan, route.axes, route.batch, route.target)
    compile_seconds = time.perf_counter() - start
    notes = route.notes
    if machine.platform == "rocm":
        notes = (*notes, _rocm(config))
    reason = reason_not_to(
        machine, recipe.devices, needed.bytes_per_device, executed_flops(model, recipe), config.measure
    )
    start, measured = time.perf_counter(), None
    if not reason:
        measured = measure(model, plan, config.axes, batch, config.measured_steps)
        machine = calibrated(machine, recipe.devices)
    measure_seconds = time.perf_counter() - start
    counted = footprint(model, plan, route.axes, route.batch, widened=compiled.upper_bound)
    found = Witnesses(model, plan, recipe, machine, needed, counted, compiled, measured, reason, notes)
    _log(run, found, measured)
    summary = _summary(found, {"compile": compile_seconds, "measure": measure_seconds})
    return summary, report(run, found)


def choose_route(config: Config) -> Route:
    """The compiler's witness for this plan: the hardware's, H100's as a stand-in, or a CPU's where that is all."""
    machine, axes, batch = config.hardware, config.axes, config.sequences
    own = machine.name if machine.name in TARGETS else machine.target
    name, notes = config.compiler or own or STAND_IN, ()
    if target(name).kind == "cuda":
        try:
            devices(target(name), 1)
        except ConfigError as missing:
            if config.compiler:
                raise
            name, notes = "cpu", (f"Compiled for a CPU instead: {missing}.",)
    if target(name).kind == "cpu" and prod(axes.values()) > FAKE_LIMIT:
        small = shrunk(axes)
        notes = (
            *notes,
            f"Compiled with mesh.data={small['data']} instead of {axes['data']}: a process can fake {FAKE_LIMIT} "
            "devices, and the program of a device hardly depends on data.",
        )
        axes, batch = small, batch * small["data"] // axes["data"]
    if name not in (own, "cpu"):
        notes = (
            *notes,
            f"The compiler is that of {name}, a stand-in for {machine.title}: arguments are the same on both, "
            "temporaries nearly, seconds of compiling say nothing about the other.",
        )
    return Route(name, axes, batch, notes)


def _rocm(config: Config) -> str:
    lowered = lower_for(config.model, config.parallel, config.axes, config.sequences, "rocm")
    listed = ", ".join(f"{count} {name}" for name, count in lowered.collectives.items()) or "none"
    return (
        f"Lowered to StableHLO for rocm on {lowered.devices} devices in {lowered.seconds:.2g} s: "
        f"{sum(lowered.operations.values())} operations; collectives as written, loops once: {listed}. Its compiler "
        "needs the ROCm libraries, so it gives no memory here."
    )


def _apart(found: Witnesses) -> str:
    return (
        f"If every stage ran 1F1B in a program of its own, as the reference study's did, a step would take "
        f"{found.seconds_apart:.4g} s: the single program idles 2 (p - 1) turns instead of p - 1 and computes the loss "
        "on every stage. Measured times behind the fits, and their error, are of such programs."
    )


def _log(run: Run, found: Witnesses, measured: Measured | None) -> None:
    row = {"predicted_step_seconds": found.seconds, "compiled_bytes_per_device": found.compiled.bytes_per_device}
    run.log(row, 0)
    for number, seconds in enumerate(measured.seconds if measured else (), 1):
        run.log({"step_seconds": seconds}, number)


def _summary(found: Witnesses, seconds: dict[str, float]) -> Summary:
    compiled, machine, use = found.compiled, found.machine, found.use
    metrics = {
        "compiled_bytes_per_device": compiled.bytes_per_device,
        "analytic_bytes_per_device": found.needed.bytes_per_device,
        "compile_seconds": compiled.lower_seconds + compiled.compile_seconds,
        "devices": found.recipe.devices,
        "fits": float(found.fits),
        "memory_error": found.memory_error,
        "compiled_arguments_gb": compiled.argument_bytes / 1e9,
        "compiled_temporaries_gb": compiled.temporary_bytes / 1e9,
        "compiled_devices": compiled.devices,
        "compiled_is_upper_bound": float(compiled.upper_bound),
        "host_peak_gb": compiled.peak_host_bytes / 1e9,
        "parameters": parameters(found.model),
        "sequences_per_step": found.recipe.batch,
        "predicted_step_seconds": found.seconds,
        "predicted_step_error": machine.time_error,
        "predicted_step_seconds_1f1b_apart": found.seconds_apart,
        "predicted_tokens_per_second": use.tokens_per_second,
        "mfu": use.mfu,
        "hfu": use.hfu,
        "mfu_causal": use.mfu_causal,
        "hfu_causal": use.hfu_causal,
        "pipeline_bubble": found.recipe.bubble,
        "ticks": ticks(found.plan, found.recipe.pipe),
        "flops_per_device_formula": found.flops,
        "flops_per_device_compiled": compiled.flops,
        "flops_error": compiled.flops / found.flops - 1,
        "sent_bytes_formula": sum(found.sent.values()),
        "sent_bytes_compiled": compiled.sent_bytes,
    }
    if found.measured:
        metrics |= {
            "measured_step_seconds": found.measured.median,
            "measured_argument_bytes": found.measured.argument_bytes,
            "step_time_error": found.measured.median / found.seconds - 1,
        }
        if found.measured.peak_bytes is not None:
            metrics["measured_peak_bytes"] = found.measured.peak_bytes
    memory = min(FRONTIER_MEMORY, machine.memory_bytes)
    where = "memory of a Frontier GCD" if memory == FRONTIER_MEMORY else f"memory of {machine.title}"
    references = {
        "compiled_bytes_per_device": Reference(memory, where, "lower"),
        "compile_seconds": Reference(180, "bound for a trillion parameters on 2 cores", "lower"),
        "host_peak_gb": Reference(HOST_BOUND / 1e9, "bound for a trillion parameters", "lower"),
    }
    notes = (
        found.verdict,
        *found.notes,
        *((machine.caution,) if machine.caution else ()),
        *((_apart(found),) if found.recipe.schedule == "lockstep" and found.recipe.pipe > 1 else ()),
        f"Step time: within {100 * machine.time_error:.2g} %, the largest error on models left out of the fit.",
        f"Utilisation is of {found.recipe.devices} x {machine.peak_flops:.4g} FLOP/s; mfu counts what the model needs, "
        "hfu also what is recomputed; attention unmasked, in _causal as half.",
        *((f"Not measured: {found.reason}.",) if found.reason else ()),
    )
    return Summary("plan", metrics, references, seconds, notes)

"""What formulas, compiler and measurement say about one plan, and the table that sets them side by side."""

from dataclasses import dataclass, replace
from functools import cached_property

from experiments.plan_measure import Measured
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.parallel import ParallelConfig, ticks
from jaxsci.transformer.plan.compile import Compiled
from jaxsci.transformer.plan.footprint import Footprint
from jaxsci.transformer.plan.hardware import Hardware
from jaxsci.transformer.plan.recipe import Recipe
from jaxsci.transformer.plan.time import (
    StepTime,
    data_traffic,
    executed_flops,
    pipe_traffic,
    rates,
    step_time,
    tensor_traffic,
    use,
)
from jaxsci.transformer.utilisation import Utilisation

RUNTIME = 1e9  # bytes for libraries, communication and fragments on a GPU, which no compiler counts
LINKS: tuple[str, ...] = ("tensor", "pipeline", "replicas")
COLUMNS = (
    "per device and step",
    "formula",
    "compiler",
    "measured",
    "compiler to formula, %",
    "measured to formula, %",
    "remark",
)

Row = tuple[str, float | None, float | None, float | None, float | None, float | None, str]


@dataclass(frozen=True)
class Witnesses:
    """`needed`: bytes by the program's own formulas; `counted`: the same as the compiler at hand counts them (a CPU's
    widens 16-bit numbers). `reason`: why nothing was measured. `notes`: which compiler, and what of it.
    """

    model: ModelConfig
    plan: ParallelConfig
    recipe: Recipe
    machine: Hardware
    needed: Footprint
    counted: Footprint
    compiled: Compiled
    measured: Measured | None
    reason: str
    notes: tuple[str, ...]

    @cached_property
    def times(self) -> StepTime:
        return step_time(self.model, self.recipe, rates(self.machine, self.recipe))

    @property
    def seconds(self) -> float:
        """Predicted, of a step."""
        return float(self.times.total)

    @property
    def seconds_apart(self) -> float:
        """Predicted, if every stage ran 1F1B in a program of its own."""
        recipe = replace(self.recipe, schedule="interleaved" if self.recipe.virtual > 1 else "1f1b")
        return float(step_time(self.model, recipe, rates(self.machine, recipe)).total)

    @property
    def use(self) -> Utilisation:
        return use(self.model, self.recipe, self.seconds, self.machine.peak_flops)

    @property
    def turns(self) -> float:
        """Turns of the pipeline per turn with work: a single program computes and sends in its idle turns too."""
        return ticks(self.plan, self.recipe.pipe) / (self.recipe.virtual * self.recipe.microbatches)

    @property
    def flops(self) -> float:
        """Of the program, one device, one step, by formula."""
        return self.turns * executed_flops(self.model, self.recipe) / self.recipe.devices

    @property
    def sent(self) -> dict[str, float]:
        """Bytes by formula."""
        model, recipe = self.model, self.recipe
        idle_too = self.turns * tensor_traffic(model, recipe)
        others = float(pipe_traffic(model, recipe)), float(data_traffic(model, recipe))
        return dict(zip(LINKS, (idle_too, *others), strict=True))

    @property
    def sent_compiled(self) -> dict[str, float]:
        """Bytes of the program's collectives, by the slowest link they cross."""
        sums: dict[str, float] = dict.fromkeys(LINKS, 0.0)
        for item in self.compiled.traffic:
            apart = {"data", "fsdp"} & set(item.axes)
            sums["replicas" if apart else "pipeline" if "pipe" in item.axes else "tensor"] += item.bytes
        return sums

    @property
    def memory_error(self) -> float:
        """Compiler to formula, both counting the same widths."""
        return self.compiled.bytes_per_device / self.counted.bytes_per_device - 1

    @property
    def fits(self) -> bool:
        """Whether the compiler's bytes, and the runtime's beside them, fit into a device."""
        runtime = 0.0 if self.machine.platform == "cpu" else RUNTIME
        return self.compiled.bytes_per_device + runtime <= self.machine.memory_bytes

    @property
    def verdict(self) -> str:
        """One sentence or two: fits or not, and what is largest."""
        compiled, machine = self.compiled, self.machine
        memory = f"{machine.memory_bytes / 1e9:.4g} GB of a device ({machine.title})"
        asks = f"{_size(compiled.bytes_per_device)} per device"
        beside = "" if self.machine.platform == "cpu" else ", with about 1 GB beside them for the runtime"
        if self.fits:
            said = f"Fits: {asks} in the {memory}{beside}."
        elif compiled.upper_bound:
            said = (
                f"May not fit: {asks} in the {memory}{beside}. That is an upper bound, of a compiler widening 16-bit "
                f"numbers; the formula says {self.needed.bytes_per_device / 1e9:.4g} GB."
            )
        else:
            said = f"Does not fit: {asks} in the {memory}{beside}."
        largest = ", ".join(f"{b.what or b.name} {b.shape} {_size(b.bytes)}" for b in compiled.largest[:3])
        return f"{said} Largest: {largest}." if largest else said

    def rows(self) -> list[Row]:
        """The table of three witnesses: memory, time, FLOPs, traffic."""
        return [*self._memory_rows(), self._time_row(), *self._work_rows()]

    def _memory_rows(self) -> list[Row]:
        compiled, measured = self.compiled, self.measured
        formula = sum(self.counted.arguments.values()), sum(self.counted.temporaries.values())
        asked = compiled.argument_bytes, compiled.bytes_per_device - compiled.argument_bytes
        held = measured.argument_bytes if measured else None
        peak = measured.peak_bytes if measured else None
        widened = "upper bound: 16-bit numbers count as 32, as on a CPU" if compiled.upper_bound else ""
        unknown = self.reason or ("" if peak else f"{measured.device if measured else ''} keeps no account of memory")
        remark = "; ".join(filter(None, (widened, unknown)))
        temporary = None if peak is None or held is None else peak - held
        unit, name = readable(sum(asked))
        return [
            _row(f"arguments (state, batch), {name}", formula[0], asked[0], held, self.reason, unit),
            _row(f"temporaries, {name}", formula[1], asked[1], temporary, remark, unit),
            _row(f"memory, {name}", sum(formula), sum(asked), peak, remark, unit),
        ]

    def _time_row(self) -> Row:
        remark = f"formula within {100 * self.machine.time_error:.2g} %; a compiler runs nothing"
        measured = self.measured.median if self.measured else None
        return _row("step, s", self.seconds, None, measured, "; ".join(filter(None, (remark, self.reason))))

    def _work_rows(self) -> list[Row]:
        nobody = "counted in the program; nothing counts it as it runs"
        wide = "; upper bound: sent at 32 bits" if self.compiled.upper_bound else ""
        remarks = {
            "tensor": "the program gathers the inputs of recomputed layers once more; not measured",
            "replicas": "the program sums gradients in float32; not measured",
        }
        sent, compiled = self.sent, self.sent_compiled
        unit, name = readable(sum(sent.values()))
        products, prefix = (1e12, "T") if self.flops >= 1e12 else (1e9, "G")
        return [
            _row(f"matrix products, {prefix}FLOP", self.flops, self.compiled.flops, None, nobody, products),
            *(
                _row(f"sent, {n}, {name}", sent[n], compiled[n], None, remarks.get(n, nobody) + wide, unit)
                for n in LINKS
            ),
            _row(f"sent, {name}", sum(sent.values()), sum(compiled.values()), None, nobody + wide, unit),
        ]


def _row(
    label: str, formula: float, compiler: float | None, measured: float | None, remark: str, unit: float = 1.0
) -> Row:
    def scaled(value: float | None) -> float | None:
        return None if value is None else value / unit

    def error(value: float | None) -> float | None:
        return None if value is None or not formula else round(100 * (value / formula - 1), 3)

    return label, formula / unit, scaled(compiler), scaled(measured), error(compiler), error(measured), remark


def readable(count: float) -> tuple[float, str]:
    """The unit, in bytes, in which a count reads well, and its name."""
    return next((u, name) for u, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")) if count >= u or u == 1)


def _size(count: float) -> str:
    unit, name = readable(count)
    return f"{count / unit:.4g} {name}"

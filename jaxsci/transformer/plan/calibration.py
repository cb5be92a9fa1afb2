"""Fitting a machine's efficiency to published numbers, and how far the fit can be trusted.

Relative least squares: minimise sum (prediction / published - 1)^2 over a few fields of `Hardware`. The error
on the fitted numbers flatters; `leave_one_model_out` predicts every model from the others.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

from jaxsci.core.errors import DataError
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.counts import Recompute
from jaxsci.transformer.plan import published, scaling
from jaxsci.transformer.plan.hardware import Hardware
from jaxsci.transformer.plan.memory import GIB, activation_bytes, layer_matrices, live_layers, state_bytes
from jaxsci.transformer.plan.recipe import Recipe
from jaxsci.transformer.plan.time import rates, step_time, use


class Case(NamedTuple):
    """A published number, the model it belongs to, and how a machine predicts it."""

    label: str
    model: str
    value: float
    predict: Callable[[Hardware], float]


class Compared(NamedTuple):
    """A published number beside what a formula gives."""

    label: str
    published: float
    formula: float

    @property
    def error(self) -> float:
        return self.formula / self.published - 1


class Efficiency(NamedTuple):
    """The fields of `Hardware` that a fit may change."""

    e_max: float
    x0: float
    fill: float


def fit(cases: Sequence[Case], hardware: Hardware, free: Sequence[str] = ("e_max", "x0")) -> Efficiency:
    """The `free` fields that predict `cases` best, starting from those of `hardware`; the others stay.

    Raises `DataError` for fewer cases than free fields.
    """
    if len(cases) < len(free):
        raise DataError(f"fit: expected at least {len(free)} cases for {', '.join(free)}, got {len(cases)}")
    base = Efficiency(hardware.e_max, hardware.x0, hardware.fill)

    def moved(logs: np.ndarray) -> Efficiency:
        return base._replace(**dict(zip(free, np.exp(logs).tolist(), strict=True)))

    start = np.log([getattr(base, name) for name in free])
    best = least_squares(lambda logs: errors(cases, fitted(hardware, moved(logs))), start, x_scale=0.1)
    return moved(best.x)


def fitted(hardware: Hardware, found: Efficiency) -> Hardware:
    """`hardware` with the efficiency that a fit found; e_max is kept within (0, 1]."""
    return replace(hardware, e_max=min(found.e_max, 1.0), x0=found.x0, fill=found.fill)


def errors(cases: Sequence[Case], hardware: Hardware) -> Float[np.ndarray, " cases"]:
    """Relative errors of the predictions."""
    return np.array([case.predict(hardware) / case.value - 1 for case in cases])


def leave_one_model_out(
    cases: Sequence[Case], hardware: Hardware, free: Sequence[str] = ("e_max", "x0")
) -> Float[np.ndarray, " cases"]:
    """Relative error of each case, predicted by a fit to the cases of all other models."""
    found = {}
    for name in {case.model for case in cases}:
        others = [case for case in cases if case.model != name]
        found[name] = fitted(hardware, fit(others, hardware, free))
    return np.array([case.predict(found[case.model]) / case.value - 1 for case in cases])


def megatron_cases() -> list[Case]:
    """The eight iteration times of 2205.05198, Table 5, in seconds."""
    return [
        Case(f"{row.name}, {recipe.recompute}", row.name, seconds, _seconds(row, recipe))
        for row in published.MEGATRON
        for recipe, seconds, _ in row.runs
    ]


def frontier_cases() -> list[Case]:
    """Three throughputs (HFU) and four scaling efficiencies of 2312.12705."""
    by_name = {run.name: run for run in published.FRONTIER_RUNS}
    throughputs = [Case(f"{run.name}, HFU", run.name, run.share, _hfu(run)) for run in published.FRONTIER_RUNS]
    curves = [
        Case(f"{s.name}, {s.kind} scaling", s.name, s.efficiency, _scaling(by_name[s.name], s))
        for s in published.FRONTIER_SCALING
    ]
    return throughputs + curves


def figure_1() -> list[Compared]:
    """GiB of the first stage, 2205.05198, Figure 1: layers alone, as the figure counts them.

    The figure holds values of these formulas: agreement proves that they are written down right, no more.
    """
    found = []
    for row in published.MEGATRON:
        tensor_only = row.recipe("none", sequence_parallel=False)
        both = row.recipe("selective", sequence_parallel=True)
        shard = row.model.layers * layer_matrices(row.model) / (row.tensor * row.pipe)
        found += [
            Compared(f"{row.name}, state", row.state_gib, shard * sum(state_bytes("bf16")) / GIB),
            Compared(f"{row.name}, none", row.none_gib, _kept(row.model, tensor_only) / GIB),
            Compared(f"{row.name}, both", row.both_gib, _kept(row.model, both) / GIB),
        ]
    return found


def figure_7() -> list[Compared]:
    """Per cent of the tensor-parallel activations of a layer that each variant keeps, 2205.05198, Figure 7."""
    variants: tuple[tuple[Recompute, bool], ...] = (
        ("none", True),
        ("selective", False),
        ("selective", True),
        ("full", False),
    )
    found = []
    for row in published.MEGATRON:
        whole = activation_bytes(row.model, row.recipe("none", sequence_parallel=False))
        for (recompute, sharded), kept in zip(variants, row.kept, strict=True):
            part = activation_bytes(row.model, row.recipe(recompute, sequence_parallel=sharded))
            label = f"{row.name}, {recompute}{', sequence parallel' if sharded else ''}"
            found.append(Compared(label, kept, 100 * part / whole))
    return found


def _kept(model: ModelConfig, recipe: Recipe) -> float:
    """Bytes of activations that the layers of the first stage keep."""
    return float(live_layers(model, recipe)[0]) * activation_bytes(model, recipe)


def _seconds(row: published.Megatron, recipe: Recipe) -> Callable[[Hardware], float]:
    return lambda machine: float(step_time(row.model, recipe, rates(machine, recipe)).total)


def _hfu(run: published.Frontier) -> Callable[[Hardware], float]:
    recipe = run.recipe()

    def predict(machine: Hardware) -> float:
        seconds = float(step_time(run.model, recipe, rates(machine, recipe)).total)
        return use(run.model, recipe, seconds, machine.peak_flops).hfu

    return predict


def _scaling(run: published.Frontier, row: published.Scaling) -> Callable[[Hardware], float]:
    curve = scaling.weak if row.kind == "weak" else scaling.strong
    recipe = run.recipe(row.batch)
    return lambda machine: float(curve(run.model, recipe, machine, (row.base, row.devices)).efficiency[-1])

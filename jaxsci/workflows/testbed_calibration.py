"""The constants of the simulated testbed that no first principle gives, fitted to recorded anomalies.

Each is moved in turn to where the simulated effects of the classes it acts on come closest to the recorded ones,

    sum over effects of (log ratio / log 1.35)^2 + sum over makespans of (log ratio / log 1.1)^2

that is, in units of what is asked of the simulator. Means of the middle half take the place of medians here, which
jump. All candidates meet the same random numbers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import qmc, trim_mean

from jaxsci.core.config import positive, require
from jaxsci.workflows.effects import FEATURES, Effect, effects
from jaxsci.workflows.requests import request_for
from jaxsci.workflows.simulated import SimulatedTestbed
from jaxsci.workflows.testbed import TestbedConfig
from jaxsci.workflows.workflow import NORMAL, Workflow

EFFECT_UNIT, MAKESPAN_UNIT = np.log(1.35), np.log(1.1)


@dataclass(frozen=True)
class Constant:
    """A field of `TestbedConfig`, the kind of anomaly it acts on, and the bounds it is sought in."""

    name: str
    kind: str
    low: float
    high: float


CONSTANTS = (
    Constant("crowding", "cpu", 0.5, 1.0),
    Constant("cache", "hdd", 0.0, 6000.0),
    Constant("small_files", "hdd", 0.0, 3.0),
    Constant("entangled", "hdd", 0.0, 1.0),
    Constant("beside", "hdd", 0.0, 3.0),
)


@dataclass(frozen=True)
class CalibrationConfig:
    """`runs` simulated of each class for every candidate; `starts` all over the constants of a kind; from the best of
    these, `sweeps` over all constants; `candidates` on a grid for each, and as many again around the best."""

    runs: int = 8
    starts: int = 32
    sweeps: int = 2
    candidates: int = 6

    def __post_init__(self):
        positive(self, "runs", "starts", "sweeps")
        require(self.candidates >= 2, "candidates", "2 or more", self.candidates)


def calibrated(
    workflow: Workflow,
    start: TestbedConfig,
    config: CalibrationConfig,
    *,
    seed: int,
    after: Callable[[str, float, float], None] = lambda name, value, loss: None,
) -> TestbedConfig:
    """`start` with the constants that fit the labelled runs of `workflow` best.

    Constants of kinds of anomaly that `workflow` does not have keep their value. `after(name, value, loss)` is called
    when one has been found.
    """
    recorded = effects(workflow, middle=middle_half)
    found = start
    for kind in dict.fromkeys(constant.kind for constant in CONSTANTS):
        classes = [name for name in recorded if name.startswith(f"{kind}_")]
        own = [constant for constant in CONSTANTS if constant.kind == kind]
        if not classes:
            continue

        def loss(trial: TestbedConfig, classes=classes) -> float:
            return mismatch(
                recorded, simulated_effects(workflow, trial, classes, runs=config.runs, seed=seed, middle=middle_half)
            )

        starts = [found]
        if len(own) > 1:
            lows, highs = [c.low for c in own], [c.high for c in own]
            cube = qmc.scale(qmc.Sobol(len(own), rng=seed).random(config.starts), lows, highs)
            starts += [replace(found, **{c.name: float(v) for c, v in zip(own, row, strict=True)}) for row in cube]
        found = min(starts, key=loss)
        for _ in range(config.sweeps):
            for constant in own:
                found, least = _improved(found, constant, loss, config.candidates)
                after(constant.name, getattr(found, constant.name), least)
    return found


def middle_half(values: np.ndarray) -> np.floating:
    """Mean of the values between the quartiles."""
    return trim_mean(values, 0.25)


def _improved(
    start: TestbedConfig, constant: Constant, loss: Callable[[TestbedConfig], float], candidates: int
) -> tuple[TestbedConfig, float]:
    """The best of `start`, a grid over the constant's bounds, and a search around the best of these."""

    def at(value: float) -> TestbedConfig:
        return replace(start, **{constant.name: float(value)})

    trials = [start, *(at(value) for value in np.linspace(constant.low, constant.high, candidates))]
    losses = [loss(trial) for trial in trials]
    best = int(np.argmin(losses))
    width = (constant.high - constant.low) / (candidates - 1)
    middle = getattr(trials[best], constant.name)
    near = (max(middle - width, constant.low), min(middle + width, constant.high))
    options = {"maxiter": candidates}
    refined: Any = minimize_scalar(lambda v: loss(at(v)), bounds=near, method="bounded", options=options)
    if refined.fun < losses[best]:
        return at(refined.x), float(refined.fun)
    return trials[best], losses[best]


def simulated_effects(
    workflow: Workflow,
    config: TestbedConfig,
    classes: list[str],
    *,
    runs: int,
    seed: int,
    middle: Callable[[np.ndarray], np.floating] = np.median,
) -> dict[str, Effect]:
    """Effects of `runs` simulated runs of each class, against the recorded normal runs."""
    oracle = SimulatedTestbed(workflow, n_runs=runs, config=config)
    normal = workflow.take(np.flatnonzero(workflow.run_class() == 0))
    found = {}
    for number, name in enumerate(classes):
        key = jax.random.fold_in(jax.random.key(seed), number)
        data = oracle.submit(request_for(workflow.name, name, n_runs=runs), key=key).data
        found[name] = effects(data, normal, middle=middle)[name]
    return found


def mismatch(recorded: Mapping[str, Effect], simulated: Mapping[str, Effect]) -> float:
    """Sum of squared logarithms of simulated over recorded, in units of what is asked."""
    total = 0.0
    for name, ours in simulated.items():
        real = recorded[name]
        total += (np.log(ours.makespan / real.makespan) / MAKESPAN_UNIT) ** 2
        for feature in FEATURES if name != NORMAL else ():
            for whose in ("anomalous", "beside"):
                truth, made = getattr(real, whose)[feature], getattr(ours, whose)[feature]
                if np.isfinite(truth) and np.isfinite(made):
                    total += (np.log(made / truth) / EFFECT_UNIT) ** 2
    return float(total)

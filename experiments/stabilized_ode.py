"""Neural ODEs that must stay on the attractor: a learned linear term, solved exactly, beside the standard model."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import stabilized_ode_attractor, stabilized_ode_transient
from experiments.settings import Settings
from experiments.stabilized_ode_attractor import AttractorEvaluation
from experiments.stabilized_ode_coefficients import CoefficientsEvaluation
from experiments.stabilized_ode_transient import TransientEvaluation
from experiments.stages import read_stage
from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.config import positive, require
from jaxsci.core.errors import DataError
from jaxsci.core.files import open_atomic
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Summary
from jaxsci.dynamics.resolution import resolution_warning
from jaxsci.emulators.stabilized_ode.linear import require_stable
from jaxsci.emulators.stabilized_ode.model import StabilizedOde
from jaxsci.emulators.stabilized_ode.storage import save_model
from jaxsci.emulators.stabilized_ode.systems import KsSystem, PeriodicSystem
from jaxsci.emulators.stabilized_ode.training import Snapshots, StageConfig, snapshots, train_stage
from jaxsci.emulators.stabilized_ode.trajectories import Trajectories, load_trajectories, trajectories_from
from jaxsci.emulators.stabilized_ode.variants import VariantConfig, guarded, linear_start, seeds
from jaxsci.emulators.stabilized_ode.warm_start import time_derivative

NAMES = ("standard", "fixed_linear", "cnn", "ours")
REGRESSION_STATES = 20_000  # enough for a handful of coefficients


@dataclass(frozen=True)
class DataConfig:
    """`trajectories` of `times` states for training; `path` reads them from a file instead (see the documentation)."""

    trajectories: int = 256
    times: int = 1600
    path: str | None = None

    def __post_init__(self) -> None:
        positive(self, "trajectories")
        require(self.times >= 16, "times", "16 or more", self.times)


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`variant` picks one of `models`, or all; `training` has the stages of dense and of local networks.

    `attractor` judges systems that stay on one, `transient` those that decay; `coefficients` asks for the reduced model
    and the posterior of the linear term of `ours`.
    """

    system: PeriodicSystem
    variant: Literal["all", "standard", "fixed_linear", "cnn", "ours"] = "all"
    seeds: int = 5
    data: DataConfig = field(default_factory=DataConfig)
    models: dict[str, VariantConfig]
    training: dict[str, tuple[StageConfig, ...]]
    attractor: AttractorEvaluation = field(default_factory=AttractorEvaluation)
    transient: TransientEvaluation = field(default_factory=TransientEvaluation)
    coefficients: CoefficientsEvaluation = field(default_factory=CoefficientsEvaluation)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "seeds")
        require(self.precision == "float64", "precision", "float64, in which the data are made", self.precision)
        require(set(self.models) == set(NAMES), "models", f"exactly {', '.join(NAMES)}", sorted(self.models))
        require(set(self.training) == {"dense", "local"}, "training", "exactly dense, local", sorted(self.training))

    @property
    def chosen(self) -> tuple[str, ...]:
        return NAMES if self.variant == "all" else (self.variant,)


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    system, key = config.system, jax.random.key(config.seed)
    for_training, for_truth, for_models = jax.random.split(key, 3)
    began = time.perf_counter()
    data = _data(config, for_training)
    notes = [warning] if (warning := resolution_warning(jnp.asarray(data.u[:, -1]), data.length)) else []
    for note in notes:
        print(f"warning: {note}")
    judge: Any = stabilized_ode_attractor if isinstance(system, KsSystem) else stabilized_ode_transient
    truth = judge.truth(config, key=for_truth)
    slope = time_derivative(data.u, data.dt) if config.data.path is not None else system.slopes(data.u)
    prepared = snapshots(data.u, slope)
    seconds = {"data": time.perf_counter() - began}
    results, symbols, findings = {}, {}, None
    try:
        for name in config.chosen:
            number = NAMES.index(name)
            begin = time.perf_counter()
            models = _trained(config, run, name, data, slope, prepared, key=jax.random.fold_in(for_models, number))
            seconds[f"train_{name}"] = time.perf_counter() - begin
            begin = time.perf_counter()
            results[name] = _judged(config, run, judge, name, models, truth)
            seconds[f"evaluate_{name}"] = time.perf_counter() - begin
            symbols[name] = _symbol(models, system.points)
            if name == "ours":
                findings = judge.extras(models, config, results[name], truth, key=for_models)
            scalars = {f"{metric}_{name}": value for metric, value in judge.scores(results[name], truth).items()}
            run.log(scalars, number)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; continue with resume={run.directory}") from None
    summary = judge.summary(config, results, truth, findings, seconds, tuple(notes))
    return summary, judge.report(config, run, results, truth, findings, symbols)


def _data(config: Config, key: jax.Array) -> Trajectories:
    system, sizes = config.system, config.data
    if sizes.path is not None:
        data = load_trajectories(sizes.path)
        expected = (system.points, system.dt, system.length)
        came = (data.u.shape[-1], data.dt, data.length)
        if not np.allclose(came, expected, rtol=1e-9):
            raise DataError(
                f"{sizes.path}: expected points, dt, length {expected} as in system, got {came}; "
                "set system.points, system.dt and system.length to those of the file"
            )
        return data
    settle = round(system.settle / system.dt)
    starts = system.starts(sizes.trajectories, key=key)
    u = trajectories_from(system.step(), starts, settle=settle, times=sizes.times)
    return Trajectories(u, system.dt, system.length)


def _trained(
    config: Config,
    run: Run,
    name: str,
    data: Trajectories,
    slope: np.ndarray,
    prepared: Snapshots,
    *,
    key: jax.Array,
) -> StabilizedOde:
    """All seeds of a variant through all stages, each resumed where it was left."""
    variant, domain = config.models[name], config.system.domain()
    inner = data.u[:, 2:-2].reshape(-1, data.u.shape[-1])
    stride = max(len(inner) // REGRESSION_STATES, 1)
    start = linear_start(variant, domain, inner[::stride], slope.reshape(inner.shape)[::stride])
    models = seeds(variant, domain, start, config.seeds, key=key)
    stages = config.training["dense" if variant.nonlinear == "mlp" else "local"]
    with progress(sum(stage.steps for stage in stages), f"training {name}") as bar:
        for number, stage in enumerate(stages):
            shown = 0

            def on_log(row: dict[str, float], step: int) -> None:
                nonlocal shown
                bar.update(step - shown, loss=row["loss_per_seed"])
                shown = step

            folder = run.checkpoint_directory / name / f"stage_{number}"
            with Checkpoints(folder, keep=1) as checkpoints:
                models = train_stage(
                    models,
                    prepared,
                    stage,
                    key=jax.random.fold_in(key, number),
                    truth=config.system.step() if stage.jacobian else None,
                    on_log=on_log,
                    checkpoints=checkpoints,
                )
    if variant.linear not in ("none", "fixed"):
        for seed in range(config.seeds):
            learned = _seed(models, seed).linear
            require_stable(learned, domain.points, domain.length, domain.cut, name=f"models.{name}, seed {seed}")
    if run.main:
        save_model(run.checkpoint_directory / name / "model.npz", _seed(models, 0), variant, domain)
    return guarded(models, variant, domain)


def _judged(config: Config, run: Run, judge: Any, name: str, models: StabilizedOde, truth: Any) -> dict:
    """The arrays of an evaluation; parts that an earlier, interrupted run finished are read back."""
    found: dict[str, np.ndarray] = {}
    parts = judge.parts(models, config, truth, label=name, key=jax.random.key(config.seed + 1))
    with progress(len(parts), f"evaluating {name}") as bar:
        for part, compute in parts.items():
            path: Path = run.checkpoint_directory / name / f"{part}.npz"
            if path.exists():
                found |= read_stage(path)
            else:
                arrays = compute(found)
                if run.main:
                    with open_atomic(path) as file:
                        np.savez(file, **arrays)
                found |= arrays
            bar.update(part=part)
    return found


def _symbol(models: StabilizedOde, points: int) -> np.ndarray:
    """`lambda` of the first seed."""
    return np.asarray(_seed(models, 0).linear.symbol(points, models.length))


def _seed(models: StabilizedOde, number: int) -> StabilizedOde:
    return jax.tree.map(lambda leaf: leaf[number] if isinstance(leaf, jax.Array) else leaf, models)

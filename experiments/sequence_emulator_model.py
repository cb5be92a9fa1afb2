"""A transformer as emulator: it reads the last days of POD coefficients and says how a simple forecast will err."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple
from zipfile import BadZipFile

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import CheckpointError, DataError
from jaxsci.core.files import disk_errors, write_atomic
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.rollout import rollout
from jaxsci.core.train import FitResult, fit
from jaxsci.core.trainstep import HostStep
from jaxsci.emulators import LinearEmulator
from jaxsci.emulators.best import Best
from jaxsci.emulators.delay import advance, delay_states, training_pairs
from jaxsci.transformer.data import local_indices
from jaxsci.transformer.model import decays
from jaxsci.transformer.parallel import ParallelConfig, check
from jaxsci.transformer.pipeline import Batch
from jaxsci.transformer.regression import RegressionConfig, Regressor, gathered, predict
from jaxsci.transformer.step import batch_sharding, init_state, make_evaluate, make_update


@dataclass(frozen=True)
class NetworkConfig:
    """A causal transformer over `lags` days. Training days are few: the network is small, its inputs noisy.

    `corrects` is what it starts from: the linear map of the experiment, damped persistence of every mode by itself, or
    nothing (climatology, in which it has to say all). It speaks of tomorrow; later days are forecast from its own.
    `input_noise` is of one size in all modes, as the error of an analysis is (unit: root of the coefficients' mean
    variance): it does what a ridge penalty does for a linear map, hiding modes that are small. `batch` counts windows
    over the whole mesh. Kept are the parameters of the lowest validation loss.
    """

    corrects: Literal["linear", "persistence", "climatology"] = "persistence"
    lags: int = 4
    layers: int = 2
    width: int = 32
    heads: int = 2
    dropout: float = 0.2
    input_noise: float = 0.3
    batch: int = 64
    steps: int = 300
    steps_per_dispatch: int = 10
    evaluate_every: int = 20
    save_every: int = 100
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            "adamw", learning_rate=3e-3, schedule="cosine", warmup_steps=20, weight_decay=0.1, clip_norm=1.0
        )
    )

    def __post_init__(self) -> None:
        between(self, "lags", 2, 60)
        positive(self, "layers", "width", "heads", "batch", "steps")
        positive(self, "steps_per_dispatch", "evaluate_every", "save_every")
        require(self.input_noise >= 0, "input_noise", "0 or more", self.input_noise)

    def model(self, modes: int) -> RegressionConfig:
        return RegressionConfig(
            self.layers,
            self.width,
            self.heads,
            sequence=self.lags,
            inputs=modes,
            outputs=modes,
            dropout=self.dropout,
        )


class TransformerEmulator(eqx.Module):
    """Tomorrow is a simple forecast, `base`, plus `shrink` times what the network says of its error; later days follow
    from there, one by one.

    `scale` is each mode's standard deviation, `unit` one number in which errors are told.
    """

    base: LinearEmulator
    params: PyTree
    scale: Float[Array, " modes"]
    unit: Float[Array, ""]
    shrink: Float[Array, ""]
    model: RegressionConfig = eqx.field(static=True)
    leads: int = eqx.field(static=True)

    @property
    def lags(self) -> int:
        return self.model.sequence

    def correction(self, state: Float[Array, "lags modes"]) -> Float[Array, " modes"]:
        """What the network takes the base's error of tomorrow to be, all of it."""
        return self.unit * predict(self.model, self.params, state[::-1] / self.scale, positions=slice(-1, None))[0]

    def __call__(self, state: Float[Array, "lags modes"]) -> Float[Array, "lags modes"]:
        tomorrow = state[: self.base.lags].reshape(-1) @ self.base.maps[0] + self.shrink * self.correction(state)
        return advance(tomorrow[None], state)

    def forecast(self, state: Float[Array, "lags modes"]) -> Float[Array, "leads modes"]:
        return rollout(self, self.leads)(state)[:, 0]


@dataclass(frozen=True)
class Windows:
    """Every `lags` consecutive days of a span: coefficients in `scale`, and after each day the error of the base's
    forecast of the next, in `unit`.
    """

    inputs: Float[np.ndarray, "windows lags modes"]
    targets: Float[np.ndarray, "windows lags modes"]

    @classmethod
    def of(
        cls,
        coefficients: Float[np.ndarray, "days modes"],
        base: LinearEmulator,
        lags: int,
        scale: Float[np.ndarray, " modes"],
        unit: float,
    ) -> "Windows":
        """Raises `DataError` where the span has not a single window."""
        states, missed = missed_by(base, coefficients, base.lags)
        if len(states) < lags:
            raise DataError(
                f"time: expected {lags + base.lags} days or more, windows of {lags}, got {len(coefficients)}"
            )
        views = (
            np.lib.stride_tricks.sliding_window_view(a, lags, axis=0).transpose(0, 2, 1).astype(np.float32)
            for a in (states[:, 0] / scale, missed / unit)
        )
        return cls(*views)

    def batch(
        self, step: int, size: int, noise: Float[np.ndarray, " modes"], seed: int, microbatches: int, sharding
    ) -> Batch:
        """A pure function of (seed, step): the same on every mesh, of which each process gets its part."""
        rng = np.random.default_rng([seed, step])
        chosen = rng.integers(len(self.inputs), size=size)
        inputs = self.inputs[chosen]
        inputs = inputs + noise.astype(np.float32) * rng.standard_normal(inputs.shape, np.float32)
        shape = (microbatches, size // microbatches)
        here = np.ix_(*local_indices(sharding, (*shape, *inputs.shape[1:]))[:2])
        return Batch(*(a.reshape(*shape, *a.shape[1:])[here] for a in (inputs, self.targets[chosen])))

    def whole(self, unit: int, microbatches: int) -> Batch:
        """As many of the windows, evenly spread, as `unit` divides."""
        kept = np.linspace(0, len(self.inputs) - 1, max(1, len(self.inputs) // unit) * unit).astype(int)
        return Batch(*(a[kept].reshape(microbatches, -1, *a.shape[1:]) for a in (self.inputs, self.targets)))


class Trained(NamedTuple):
    emulator: TransformerEmulator
    """Of the lowest validation loss, with the share of its corrections that validation supports."""
    last: TransformerEmulator
    """With the parameters of the last step."""
    outcome: FitResult


def base_of(
    config: NetworkConfig, train_days: Float[np.ndarray, "days modes"], linear: LinearEmulator
) -> LinearEmulator:
    """The simple forecast that the network is to correct, fitted on the training days."""
    if config.corrects == "linear":
        return linear
    now, later = train_days[:-1], train_days[1:]
    kept = np.sum(now * later, axis=0) / np.sum(now * now, axis=0)
    maps = np.diag(kept) if config.corrects == "persistence" else np.zeros((len(kept), len(kept)))
    return LinearEmulator(jnp.asarray(maps[None], linear.maps.dtype), 1, linear.leads)


def missed_by(
    base: LinearEmulator, coefficients: Float[np.ndarray, "days modes"], lags: int
) -> tuple[Float[np.ndarray, "samples lags modes"], Float[np.ndarray, "samples modes"]]:
    """Every delay state with a day after it, and that day less what `base` says of it."""
    states, following = training_pairs(coefficients, lags, 1)
    said = states[:, : base.lags].reshape(len(states), -1) @ np.asarray(base.maps[0])
    return states, following[:, 0] - said


def train(
    train_days: Float[np.ndarray, "days modes"],
    validation_days: Float[np.ndarray, "validation_days modes"],
    base: LinearEmulator,
    config: NetworkConfig,
    plan: ParallelConfig,
    mesh: Mesh,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    best_path: Path | None = None,
    on_log: Callable[[dict[str, float], int], None] | None = None,
) -> Trained:
    """Fit the correction over the mesh (float32); how much of it is used, lead by lead, is what validation supports.

    The same seed gives the same training on every mesh, up to rounding. `best_path` holds the best parameters of a run
    that may be resumed. Raises `ConfigError` where model, plan, mesh and batch do not fit together.
    """
    model = config.model(train_days.shape[1])
    check(model, plan, mesh.shape, config.batch)
    scale = train_days.std(0)
    unit = float(np.sqrt(np.mean(scale**2)))
    seen, held_out = (Windows.of(d, base, config.lags, scale, unit) for d in (train_days, validation_days))
    where = batch_sharding(plan, mesh)
    optimizer = config.optimizer.build(config.steps, decay_mask=decays)
    evaluate = make_evaluate(model, plan, mesh, kind=Regressor)
    checks = held_out.whole(config.batch, plan.microbatches)
    checks = jax.tree.map(lambda a: jax.make_array_from_callback(a.shape, where, lambda index: a[index]), checks)

    noise = config.input_noise * unit / scale

    def load(step: int) -> Batch:
        return seen.batch(step, config.batch, noise, seed, plan.microbatches, where)

    step = HostStep(make_update(model, plan, mesh, optimizer, kind=Regressor), load, config.steps_per_dispatch, where)
    state = init_state(model, plan, mesh, optimizer, jax.random.key(seed), kind=Regressor)
    best = _read(best_path) or Best.first(float(evaluate(state.params, checks)), gathered(model, state.params))

    def validate(params: PyTree) -> dict[str, Array]:
        nonlocal best
        loss = evaluate(params, checks)
        if float(loss) < best.loss:
            best = best.with_candidate(float(loss), gathered(model, params))
            _write(best_path, best)
        return {"validation_loss": loss}

    outcome = fit(
        state,
        step,
        steps=config.steps,
        log_every=config.evaluate_every,
        on_log=on_log,
        checkpoints=checkpoints,
        save_every=None if checkpoints is None else config.save_every,
        evaluate=validate,
        eval_every=config.evaluate_every,
    )
    if outcome.interrupted:
        raise KeyboardInterrupt(outcome.result)
    dtype = base.maps.dtype
    kept, last = (
        TransformerEmulator(
            base,
            jax.tree.map(lambda a: jnp.asarray(a, dtype), params),
            jnp.asarray(scale, dtype),
            jnp.asarray(unit, dtype),
            jnp.asarray(1.0, dtype),
            model,
            base.leads,
        )
        for params in (best.params, gathered(model, outcome.state.params))
    )
    return Trained(supported(kept, validation_days), last, outcome)


def _read(path: Path | None) -> Best | None:
    """What `_write` wrote. Raises `CheckpointError` for a damaged file."""
    if path is None or not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as file:
            leaves = {name: file[name] for name in file.files}
        params: dict[str, Any] = {}
        for name, leaf in leaves.items():
            *branch, last = name.split("/")
            place = params
            for part in branch:
                place = place.setdefault(part, {})
            place[last] = leaf
        return Best(float(params.pop("loss")), params, 0, 0)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        raise CheckpointError(
            f"{path}: expected the best parameters so far, as npz; start anew without resume"
        ) from None


def _write(path: Path | None, best: Best) -> None:
    if path is None:
        return
    named = {
        "/".join(str(entry.key) for entry in branch): leaf
        for branch, leaf in jax.tree_util.tree_flatten_with_path(best.params)[0]
    }
    buffer = io.BytesIO()
    np.savez(buffer, loss=best.loss, **named)
    with disk_errors("create", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, buffer.getvalue())


def supported(emulator: TransformerEmulator, validation: Float[np.ndarray, "days modes"]) -> TransformerEmulator:
    """With the share of the correction, 0 to 1, that has the least squared error on these days."""
    states, missed = missed_by(emulator.base, validation, emulator.lags)
    said = np.asarray(jax.jit(jax.vmap(emulator.correction))(jnp.asarray(states)))
    share = np.sum(said * missed) / max(np.sum(said**2), 1e-30)
    return eqx.tree_at(lambda e: e.shrink, emulator, jnp.asarray(np.clip(share, 0.0, 1.0), emulator.shrink.dtype))


def largest_difference(
    one: TransformerEmulator, other: TransformerEmulator, coefficients: Float[np.ndarray, "days modes"]
) -> float:
    """Between what two networks say from every day, over the root mean square of it; whatever is kept of it."""
    states = jnp.asarray(delay_states(coefficients, one.lags))
    said = [jax.jit(jax.vmap(e.correction))(states) for e in (one, other)]
    return float(jnp.max(jnp.abs(said[0] - said[1])) / jnp.sqrt(jnp.mean(said[1] ** 2)))


def adjoint_relative_error(emulator: TransformerEmulator, state: Float[Array, "lags modes"], *, key: Array) -> float:
    """`|<J v, w> - <v, J' w>| / |<J v, w>|` of the step map at a state, for random v and w."""
    v, w = jax.random.normal(key, (2, *state.shape), state.dtype)
    _, forward = jax.jvp(emulator, (state,), (v,))
    (backward,) = jax.vjp(emulator, state)[1](w)
    along = jnp.sum(forward * w)
    return float(jnp.abs(along - jnp.sum(v * backward)) / jnp.abs(along))

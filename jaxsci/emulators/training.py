"""Training an ensemble of direct recurrent emulators, stopped where the validation span says so."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.core.config import between, positive, require
from jaxsci.core.ensemble import init_ensemble
from jaxsci.core.errors import ConfigError
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.train import fit, init_state, make_step
from jaxsci.emulators.best import Best
from jaxsci.emulators.delay import training_pairs
from jaxsci.emulators.linear import LinearEmulator
from jaxsci.emulators.sequence import DirectRecurrent, EmulatorMean


@dataclass(frozen=True)
class RecurrentConfig:
    """Good values: lags 2 to 7 days, width 32 to 128, input noise 0.1 to 0.5 of each mode's standard deviation."""

    lags: int = 2
    width: int = 32
    members: int = 4
    steps: int = 300
    batch_size: int = 64
    input_noise: float = 0.3
    evaluate_every: int = 10
    patience: int = 10
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("adamw", learning_rate=3e-4, weight_decay=0.1, clip_norm=1.0)
    )

    def __post_init__(self) -> None:
        between(self, "lags", 1, 60)
        positive(self, "width", "members", "steps", "batch_size", "evaluate_every", "patience")
        require(self.input_noise >= 0, "input_noise", "0 or more", self.input_noise)


class Trained(NamedTuple):
    """A trained ensemble, its validation loss, and what training took."""

    emulator: EmulatorMean
    """The ensemble as it was at its smallest validation loss."""
    validation_loss: float
    """Mean squared error there, as a share of the coefficients' variance."""
    best_step: int
    compile_seconds: float
    train_seconds: float


def train_recurrent(
    train: Float[np.ndarray, "days modes"],
    validation: Float[np.ndarray, "validation_days modes"],
    linear: LinearEmulator,
    config: RecurrentConfig,
    *,
    key: PRNGKeyArray,
    on_log: Callable[[dict[str, float], int], None] | None = None,
) -> Trained:
    """Fit `config.members` networks at once (float32), all starting from the `linear` forecast, which stays fixed.

    Inputs get Gaussian noise, as analyses have errors and days are few. Training stops when the ensemble mean has
    not improved on the validation span for `patience` evaluations.

    Raises `ConfigError` where `config.lags` differs from the linear model's lags, `DataError` on too few days.
    """
    if config.lags != linear.lags:
        raise ConfigError(f"lags: expected {linear.lags}, those of the linear model, got {config.lags}")
    scale = jnp.asarray(train.std(0), jnp.float32)
    total = jnp.sum(jnp.square(scale))
    states, targets = (jnp.asarray(a, jnp.float32) for a in training_pairs(train, config.lags, linear.leads))
    checks, truths = (jnp.asarray(a, jnp.float32) for a in training_pairs(validation, config.lags, linear.leads))
    begin, draw = jax.random.split(key)
    build = lambda key: DirectRecurrent(linear.maps, scale, config.width, key=key)  # noqa: E731
    members = eqx.filter_jit(lambda key: init_ensemble(build, config.members, key=key))(begin)
    # Frozen leaves are no parameters at all: a zero gradient alone would leave them to weight decay.
    learned = eqx.tree_at(lambda m: (m.skip, m.scale), jax.tree.map(eqx.is_inexact_array, members), (False, False))
    params, static = eqx.partition(members, learned)

    def error(forecast: Array, truth: Array) -> Float[Array, ""]:
        return jnp.mean(jnp.sum(jnp.square(forecast - truth), -1)) / total

    def loss(params, batch, *, key) -> tuple[Array, dict]:
        inputs, outputs = batch
        noise = config.input_noise * scale * jax.random.normal(key, inputs.shape, inputs.dtype)
        forecasts = eqx.filter_vmap(lambda m, x: jax.vmap(m.forecast)(x))(eqx.combine(params, static), inputs + noise)
        return config.members * error(forecasts, outputs), {}  # a sum over members: none feels the others

    def batch_at(step: Array) -> tuple[Array, Array]:
        shape = (config.members, config.batch_size)
        chosen = jax.random.randint(jax.random.fold_in(draw, step), shape, 0, len(states))
        return states[chosen], targets[chosen]

    @jax.jit
    def validate(params) -> dict[str, Array]:
        mean = EmulatorMean(eqx.combine(params, static))
        return {"validation_loss": error(jax.vmap(mean.forecast)(checks), truths)}

    best = Best.first(float(validate(params)["validation_loss"]), params)

    def evaluate(params) -> dict[str, Array]:
        nonlocal best
        found = validate(params)
        best = best.with_candidate(float(found["validation_loss"]), params)
        return found

    optimizer = config.optimizer.build(config.steps)
    step = make_step(loss, optimizer, batch_at=batch_at, steps_per_dispatch=config.evaluate_every)
    outcome = fit(
        init_state(params, optimizer, key=draw),
        step,
        steps=config.steps,
        log_every=config.evaluate_every,
        on_log=on_log,
        evaluate=evaluate,
        eval_every=config.evaluate_every,
        stop_when=lambda metrics, at: best.waited >= config.patience,
    )
    emulator = EmulatorMean(eqx.combine(jax.tree.map(jnp.asarray, best.params), static))
    return Trained(
        emulator,
        best.loss,
        best.evaluation * config.evaluate_every,
        outcome.stats["compile_seconds"],
        outcome.stats["train_seconds"],
    )

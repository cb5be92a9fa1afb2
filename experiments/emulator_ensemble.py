"""An emulator as an ensemble of architectures and weights, whose spread tells the assimilation how far to trust it."""

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree

from jaxsci.bayesnas.batches import Examples
from jaxsci.bayesnas.ensemble import draw_architectures
from jaxsci.bayesnas.members import Trainer, advance, collect, start_chains
from jaxsci.bayesnas.search import Search, SearchConfig, run_search
from jaxsci.bayesnas.space import ResidualNet, one_hot
from jaxsci.bayesnas.weights import CyclicalSgHmc, Task
from jaxsci.core.config import between, positive
from jaxsci.emulators import DirectEmulator, LinearEmulator, ReducedField
from jaxsci.emulators.delay import advance as next_state
from jaxsci.emulators.delay import delay_states, training_pairs
from jaxsci.emulators.skill import forecast_all, one_day_error


@dataclass(frozen=True)
class EnsembleConfig:
    """A architectures x R restarts of residual nets that correct the linear forecast, S samples of each chain."""

    architectures: int = 4
    restarts: int = 2
    steps: int = 600
    batch_size: int = 64
    space: ResidualNet = field(default_factory=lambda: ResidualNet(blocks=2, width=32))
    search: SearchConfig = field(
        default_factory=lambda: SearchConfig("elbo", steps=200, weight_rate=1e-3, prior_std=0.3)
    )
    weights: CyclicalSgHmc = field(default_factory=lambda: CyclicalSgHmc(learning_rate=3e-4, temperature=1.0))
    prior_std: float = 0.1

    def __post_init__(self) -> None:
        between(self, "architectures", 2, 1000)
        between(self, "restarts", 2, 1000)
        positive(self, "steps", "batch_size", "prior_std")
        self.weights.check_steps(self.steps)


class ArchitectureEnsemble(eqx.Module):
    """A direct emulator: the linear forecast plus the members' mean correction, in units of `scale` per mode."""

    skip: Float[Array, "leads inputs modes"]
    scale: Float[Array, " modes"]
    weights: PyTree
    """Leaves with a leading axis of members x samples."""
    z: Float[Array, "networks decisions ops"]
    shrink: Float[Array, ""]
    """How much of the correction the validation span supports, 0 to 1."""
    space: ResidualNet = eqx.field(static=True)
    lags: int = eqx.field(static=True)
    leads: int = eqx.field(static=True)

    def each(self, state: Float[Array, "lags modes"]) -> Float[Array, "networks leads modes"]:
        """Every network's forecast of all leads."""
        flat = (state / self.scale).reshape(1, -1)
        corrections = jax.vmap(lambda w, z: self.space.apply(w, z, flat)[0])(self.weights, self.z)
        shaped = self.shrink * corrections.reshape(len(self.z), self.leads, -1)
        return state.reshape(-1) @ self.skip + self.scale * shaped

    def forecast(self, state: Float[Array, "lags modes"]) -> Float[Array, "leads modes"]:
        return self.each(state).mean(0)

    def __call__(self, state: Float[Array, "lags modes"]) -> Float[Array, "lags modes"]:
        return next_state(self.forecast(state)[:1], state)


def train_ensemble(
    train: Float[np.ndarray, "days modes"],
    validation: Float[np.ndarray, "validation_days modes"],
    linear: LinearEmulator,
    config: EnsembleConfig,
    *,
    key: Key[Array, ""],
) -> ArchitectureEnsemble:
    """Search the architectures, train the chains, and shrink the mean correction to what validation supports."""
    scale = jnp.asarray(train.std(0), jnp.float32)
    skip = jnp.asarray(linear.maps, jnp.float32)
    first, second = (_examples(days, linear, scale) for days in (train, validation))
    outputs, inputs = first.y.shape[1], first.x.shape[1:]
    counts = len(first.y) + len(second.y)
    search = Search(config.space, config.search, squared_error, (counts, counts))
    searching, drawing, training = jax.random.split(key, 3)
    state, _ = jax.jit(lambda k: run_search(search, inputs, outputs, first, second, key=k))(searching)
    choices = draw_architectures(config.space, state.q.probabilities(), config.architectures, key=drawing)
    z = one_hot(jnp.repeat(jnp.asarray(choices), config.restarts, axis=0), len(config.space.ops))
    task = Task(len(first.y), config.steps, config.prior_std)
    trainer = Trainer(config.space, config.weights, task, squared_error, min(config.batch_size, len(first.y)))
    keys = jax.vmap(lambda m: jax.random.fold_in(training, m))(jnp.arange(len(z)))
    chains, _ = advance(trainer, start_chains(trainer, z, inputs, outputs, keys=keys), first, 0, config.steps)
    weights = collect(trainer, chains, first)
    samples = config.weights.samples
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), weights)
    networks = jnp.repeat(z, samples, axis=0)
    correction = jnp.mean(jax.vmap(lambda w, z: config.space.apply(w, z, second.x))(flat, networks), axis=0)
    weight = jnp.tile(scale, linear.leads) ** 2
    shrink = jnp.sum(weight * correction * second.y) / jnp.sum(weight * correction**2)
    return ArchitectureEnsemble(
        skip, scale, flat, networks, jnp.clip(shrink, 0, 1), config.space, linear.lags, linear.leads
    )


def squared_error(outputs: Float[Array, "batch outputs"], y: Float[Array, "batch outputs"]) -> Float[Array, ""]:
    """Negative log-likelihood of unit normals, up to a constant."""
    return 0.5 * jnp.mean(jnp.sum(jnp.square(outputs - y), axis=-1))


def _examples(days: np.ndarray, linear: LinearEmulator, scale: Array) -> Examples:
    """Delay states, and what the linear forecast misses of the following days, both in units of `scale`."""
    states, targets = (jnp.asarray(a, jnp.float32) for a in training_pairs(days, linear.lags, linear.leads))
    missed = targets - forecast_all(linear, states)
    return Examples((states / scale).reshape(len(states), -1), (missed / scale).reshape(len(missed), -1))


def spread_covariance(
    ensemble: ArchitectureEnsemble, states: Float[Array, "cases lags modes"]
) -> Float[Array, "modes modes"]:
    """Mean over states of the covariance of the networks' one-day forecasts."""

    def one(state: Array) -> Array:
        tomorrow = ensemble.each(state)[:, 0]
        deviations = tomorrow - tomorrow.mean(0)
        return deviations.T @ deviations / (len(tomorrow) - 1)

    return jnp.mean(jax.lax.map(one, states), axis=0)


def ensemble_error(emulator: DirectEmulator, reduced: ReducedField) -> Float[Array, "modes modes"]:
    """Covariance of the emulator's one-day error; where it is an ensemble, its spread is in it."""
    error = one_day_error(emulator, reduced)
    if not isinstance(emulator, ArchitectureEnsemble):
        return error
    states = delay_states(reduced.coefficients[reduced.split.validation], emulator.lags)
    return with_spread(error, spread_covariance(emulator, jnp.asarray(states)))


def with_spread(error: Float[Array, "modes modes"], spread: Float[Array, "modes modes"]) -> Float[Array, "modes modes"]:
    """Model error whose shape has the ensemble's spread in it, and whose size stays that of the error on validation.

    The measured error contains what the spread stands for, so adding it would count it twice.
    """
    total = error + spread.astype(error.dtype)
    return total * jnp.trace(error) / jnp.trace(total)

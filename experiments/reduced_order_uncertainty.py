"""Two additions to the reduced-order experiment: how sure networks are, and a network for a longer horizon."""

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from experiments.reduced_order_data import RomData, make_later
from experiments.reduced_order_methods import Case, NetworksConfig, Rom, first_member, fit_direct
from experiments.reduced_order_store import Doubt
from jaxsci.core.config import between, positive
from jaxsci.emulators.kernel_regression import fit_gaussian_process
from jaxsci.emulators.trajectory import Trajectories, TrajectoryEnsemble
from jaxsci.emulators.uncertainty import (
    Predicted,
    calibration,
    dropout_prediction,
    ensemble_prediction,
    spread_factor,
)

SOURCES = ("ensemble", "dropout", "gpr")


@dataclass(frozen=True)
class UncertaintyConfig:
    """A deep ensemble of `members`, `draws` of dropout at rate `dropout`, and the Gaussian process, of one network."""

    on: bool = True
    network: Literal["na_mlp", "na_tcn"] = "na_mlp"
    members: int = 5
    draws: int = 50
    dropout: float = 0.1

    def __post_init__(self) -> None:
        between(self, "members", 2, 1000)
        positive(self, "draws")
        between(self, "dropout", 0.01, 0.9)


def judge_uncertainty(
    source: str, data: RomData, networks: NetworksConfig, config: UncertaintyConfig, *, key: PRNGKeyArray
) -> Doubt:
    """Fit, scale the spread on the validation runs, and see on the test runs whether it can be believed."""
    trajectories, split = data.trajectories(), data.split
    held_out = np.r_[split.validation, split.test]
    parameters = jnp.asarray(data.parameters[held_out], jnp.float32)
    predicted = _predict(source, data, trajectories, networks, config, parameters, key)
    unit = trajectories.coefficients[split.train].std((0, 1))
    error = np.asarray(predicted.mean - trajectories.coefficients[held_out]) / unit
    spread = np.asarray(predicted.spread) / unit
    count = split.validation.stop - split.validation.start
    factor = spread_factor(error[:count], spread[:count])
    raw = calibration(error[count:], spread[count:])
    scaled = calibration(error[count:], spread[count:], factor)
    values = (raw.coverage_90, scaled.coverage_90, raw.spread_over_error, factor)
    return Doubt(*(np.asarray(value) for value in values))


def _predict(
    source: str,
    data: RomData,
    trajectories: Trajectories,
    networks: NetworksConfig,
    config: UncertaintyConfig,
    parameters: Array,
    key: PRNGKeyArray,
) -> Predicted:
    train, validation = trajectories.select(data.split.fit), trajectories.select(data.split.validation)
    encode = data.family.encode
    if source == "gpr":  # without the validation runs, which scale its spread
        process = fit_gaussian_process(train, encode)
        return Predicted(jax.vmap(process)(parameters), jnp.asarray(process.spread(np.asarray(parameters))))
    if source == "ensemble":
        direct = replace(networks.perceptron, members=config.members)
        chosen = replace(networks, perceptron=direct, direct=replace(networks.direct, members=config.members))
        stacked, _ = fit_direct(config.network, train, validation, encode, chosen, key=key)
        return ensemble_prediction(TrajectoryEnsemble(stacked), parameters)
    chosen = replace(networks, dropout=config.dropout)
    stacked, _ = fit_direct(config.network, train, validation, encode, chosen, key=key)
    return dropout_prediction(first_member(stacked), parameters, config.draws, key=key)


def fit_long_emulator(
    data: RomData, networks: NetworksConfig, horizon: int, together: int, stride: int, *, key: PRNGKeyArray
) -> Rom:
    """The NA-BLSTM trained on `horizon` times the span, with fields `stride` times as far apart.

    A direct model answers for the span it was trained on and no other; this is what a longer one costs and gives. Its
    `predict` holds the fields within the usual span, each for `stride` times, `later` the others.
    """
    later = make_later(data, slice(None, data.split.test.start), horizon=horizon, together=together)
    pod, early = data.pod, data.trajectories().coefficients[:, stride - 1 :: stride]
    flat = later.depth.reshape(*later.depth.shape[:2], -1)
    late = np.stack([np.asarray(pod.encode(jnp.asarray(run))) for run in flat])
    known = early[: len(late)]
    whole = Trajectories(data.parameters[: len(late)], np.concatenate([known, late], axis=1))
    stacked, _ = fit_direct(
        "na_blstm",
        whole.select(data.split.fit),
        whole.select(data.split.validation),
        data.family.encode,
        networks,
        key=key,
    )
    emulator, times = first_member(stacked), data.simulation.fields

    def predict(case: Case) -> Array:
        held = jnp.minimum(jnp.arange(times) // stride, known.shape[1] - 1)
        return emulator(case.parameters)[held]

    def onwards(case: Case, stride: int, count: int) -> Array:
        return emulator(case.parameters)[known.shape[1] :][:count]

    return Rom(predict, lambda a: pod.decode(a).reshape(-1, *data.basis.shape), onwards)

"""The methods of the reduced-order experiment: each is fitted to the training runs and then asked for whole runs."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from experiments.reduced_order_data import RomData
from jaxsci.core.config import between, positive, require
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.rollout import rollout
from jaxsci.dynamics.shallow_water import ShallowWater
from jaxsci.dynamics.shallow_water_families import several
from jaxsci.emulators.dmd import fit_dmd
from jaxsci.emulators.equivariant import EquivariantEmulator, ShiftedPod, phase_of
from jaxsci.emulators.galerkin import Galerkin, SampledShallowWater, Sampling, choose_sampling
from jaxsci.emulators.kernel_regression import fit_gaussian_process, fit_rbf
from jaxsci.emulators.lspg import Lspg
from jaxsci.emulators.network_training import Fitted, TrainingConfig, fit_networks
from jaxsci.emulators.sequence import AutoregressiveLstm, NaLstm, NaMlp, NaTcn
from jaxsci.emulators.state_basis import StateBasis, fit_state_basis
from jaxsci.emulators.trajectory import Trajectories, TrajectoryEmulator, TrajectoryScale

NON_AUTOREGRESSIVE = ("na_lstm", "na_blstm", "na_mlp", "na_tcn")
STEPPERS = ("galerkin", "galerkin_small", "galerkin_deim", "galerkin_qdeim", "lspg", "lspg_small", "dmd")
INTERRUPTED = "interrupted; what was finished stays; continue with resume=<run directory>"
METHODS = (*STEPPERS, "lstm", *NON_AUTOREGRESSIVE, "rbf", "gpr", "equivariant")


def _smooth(steps: int) -> TrainingConfig:
    """Strong decay: few runs, and the maps from parameters to series are smooth."""
    optimizer = OptimizerConfig("adamw", learning_rate=3e-3, schedule="cosine", weight_decay=0.3, clip_norm=1.0)
    return TrainingConfig(steps=steps, batch_size=80, evaluate_every=25, patience=20, optimizer=optimizer)


@dataclass(frozen=True)
class NetworksConfig:
    """Sizes and training of the networks; `window` true states start the autoregressive one."""

    width: int = 48
    embedding: int = 256
    dropout: float = 0.0
    window: int = 10
    direct: TrainingConfig = field(default_factory=lambda: _smooth(600))
    perceptron: TrainingConfig = field(default_factory=lambda: _smooth(1000))
    autoregressive: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            steps=1500, batch_size=128, optimizer=OptimizerConfig("adam", learning_rate=1e-3)
        )
    )

    def __post_init__(self) -> None:
        positive(self, "width", "embedding", "window")
        between(self, "dropout", 0.0, 0.9)


@dataclass(frozen=True)
class ProjectionConfig:
    """`small_modes` for the small projection models, `rate_modes` of the right-hand side for hyper-reduction,
    of every `rate_stride`-th field. An implicit step of LSPG is the interval between fields over `lspg_parts`; with all
    modes it looks at the cells of the hyper-reduction only, with the few at the whole plane.
    """

    small_modes: int = 6
    rate_modes: int = 80
    rate_stride: int = 3
    lspg_parts: int = 1
    lspg_iterations: int = 2

    def __post_init__(self) -> None:
        positive(self, "small_modes", "rate_modes", "rate_stride", "lspg_parts", "lspg_iterations")


class Case(NamedTuple):
    """One run to predict. `window`, true first states, is looked at by the autoregressive LSTM alone."""

    parameters: Float[Array, " parameters"]
    window: Float[Array, "window modes"]


class Rom(NamedTuple):
    predict: Callable[[Case], Any]
    """The run in the model's own coordinates, times first."""
    depth: Callable[[Any], Float[Array, "times n n"]]
    later: Callable[[Case, int, int], Any] | None = None
    """`later(case, stride, count)`: every `stride`-th of the fields after the training horizon."""
    cheap: bool = True
    """Whether a batch of a thousand can be timed in seconds."""


class Fitting(NamedTuple):
    """What a method may use; test runs are in `data` and must not be looked at."""

    data: RomData
    networks: NetworksConfig
    projection: ProjectionConfig
    sampling: Callable[[], Sampling]
    """Cells and modes of the right-hand side, made once when first asked for."""
    key: PRNGKeyArray
    on_log: Callable[[dict[str, float], int], None]


def fit_method(name: str, given: Fitting) -> Rom:
    """Raises `KeyboardInterrupt` where a signal ended a training."""
    data, small = given.data, given.projection.small_modes
    if name in NON_AUTOREGRESSIVE:
        pod = data.pod
        emulator = _fit_direct(name, data.trajectories(), given)
        return Rom(lambda case: emulator(case.parameters), lambda a: pod.decode(a).reshape(-1, *data.basis.shape))
    if name in ("rbf", "gpr"):
        pod, train = data.pod, data.trajectories().select(data.split.train)
        model = (fit_rbf if name == "rbf" else fit_gaussian_process)(train, data.family.encode)
        return Rom(lambda case: model(case.parameters), lambda a: pod.decode(a).reshape(-1, *data.basis.shape))
    if name == "equivariant":
        return _equivariant(given)
    if name == "lstm":
        return _autoregressive(given)
    if name == "dmd":
        series = data.full_trajectories().coefficients[data.split.train]
        dmd = fit_dmd(series)
        return _stepper(data, data.basis, lambda model: dmd, 1, cheap=True)
    require(not name.endswith("_small") or small <= data.modes, "small_modes", f"at most {data.modes} modes", small)
    basis = data.basis.truncate(small) if name.endswith("_small") else data.basis
    if name == "lspg_small":
        return _lspg(given, basis, None)
    if name == "lspg":
        return _lspg(given, basis, given.sampling().cells)
    if name in ("galerkin_deim", "galerkin_qdeim"):
        sampling = given.sampling() if name == "galerkin_qdeim" else make_sampling(data, given.projection, "deim")
        return _stepper(data, basis, lambda model: sampling.reduce(model, basis), data.simulation.every)
    return _stepper(data, basis, lambda model: Galerkin(model.tendency, basis, model.dt), data.simulation.every)


def _stepper(
    data: RomData,
    basis: StateBasis,
    make: Callable[[ShallowWater], Callable[[Array], Array]],
    every: int,
    *,
    cheap: bool = False,
) -> Rom:
    """A model that starts from the projected first state and takes `every` steps of its own to the next field."""

    def start(case: Case) -> tuple[Callable[[Array], Array], Array]:
        model, first = data.family.begin(case.parameters, data.simulation)
        return make(model), basis.project(first)

    def predict(case: Case) -> Array:
        step, first = start(case)
        return rollout(several(step, every), data.simulation.fields - 1, include_initial=True)(first)

    def later(case: Case, stride: int, count: int) -> Array:
        step, first = start(case)
        last = several(step, every * (data.simulation.fields - 1))(first)
        return rollout(several(step, every * stride), count)(last)

    return Rom(predict, lambda a: jax.vmap(lambda one: basis.lift(one)[0])(a), later, cheap)


def make_sampling(
    data: RomData, projection: ProjectionConfig, selection: Literal["deim", "qdeim"] = "qdeim"
) -> Sampling:
    """Cells for hyper-reduction, from the right-hand sides of the training runs (every few fields of them)."""

    @jax.jit
    def rates(parameters: Array, run: Array) -> Array:
        return jax.lax.map(data.family.begin(parameters, data.simulation)[0].tendency, run)

    runs = range(*data.split.train.indices(len(data.parameters)))
    thinned = data.states[:, :: projection.rate_stride]
    seen = [np.asarray(rates(jnp.asarray(data.parameters[i], thinned.dtype), thinned[i])) for i in runs]
    flat = np.concatenate(seen)
    size = min(projection.rate_modes, len(flat), flat[0, 0].size)
    return choose_sampling(data.basis, fit_state_basis(flat, size, centre=None), selection=selection)


def _lspg(given: Fitting, basis: StateBasis, cells: np.ndarray | None) -> Rom:
    """The residual is looked at in the whole plane, or in the sampled cells alone (collocation)."""
    data, config = given.data, given.projection
    dt = data.simulation.interval / config.lspg_parts
    rows = jax.vmap(basis.lift_change)(jnp.eye(basis.size, dtype=basis.modes.dtype)).reshape(basis.size, 3, -1)
    rows = (rows if cells is None else rows[:, :, cells]).reshape(basis.size, -1).T

    def make(model: ShallowWater) -> Lspg:
        sampled = None if cells is None else SampledShallowWater(model, basis, cells)

        def rates(coefficients: Array) -> Array:
            return (model.tendency(basis.lift(coefficients)) if sampled is None else sampled(coefficients)).ravel()

        return Lspg(rates, rows, dt, iterations=config.lspg_iterations)

    # Hundreds of costly steps a run: not asked for more than the trained span.
    return _stepper(data, basis, make, config.lspg_parts)._replace(later=None)


def build_direct(name: str, features: int, times: int, modes: int, networks: NetworksConfig) -> Callable:
    """`build(key)` of one of the non-autoregressive networks."""
    dropout = networks.dropout
    if name == "na_mlp":
        return lambda key: NaMlp(features, times, modes, width=networks.embedding, depth=2, dropout=dropout, key=key)
    if name == "na_tcn":
        return lambda key: NaTcn(features, times, modes, width=networks.width, dropout=dropout, key=key)
    both = name == "na_blstm"
    sizes = {"width": networks.width, "embedding": networks.embedding}
    return lambda key: NaLstm(
        features, times, modes, width=sizes["width"], embedding=sizes["embedding"], both_ways=both, key=key
    )


def fit_direct(
    name: str,
    train: Trajectories,
    validation: Trajectories,
    encode: Callable[[Array], Array],
    networks: NetworksConfig,
    *,
    key: PRNGKeyArray,
    on_log: Callable[[dict[str, float], int], None] | None = None,
) -> tuple[TrajectoryEmulator, Fitted]:
    """Networks stacked along a member axis inside one emulator, each of least squared error of the field."""
    scale = TrajectoryScale.fit(np.concatenate([train.coefficients, validation.coefficients]))
    shares = jnp.square(scale.spread) / jnp.sum(jnp.square(scale.spread))

    def samples(some: Trajectories) -> tuple[Array, Array]:
        features = jax.vmap(encode)(jnp.asarray(some.parameters, jnp.float32))
        return features, scale.standardise(jnp.asarray(some.coefficients))

    def error(network: Callable, sample: tuple[Array, Array], *, key: PRNGKeyArray | None) -> Array:
        features, target = sample
        return jnp.sum(shares * jnp.mean(jnp.square(network(features, key=key) - target), 0))

    seen = samples(train)
    build = build_direct(name, seen[0].shape[1], scale.centre.shape[0], scale.centre.shape[1], networks)
    config = networks.perceptron if name == "na_mlp" else networks.direct
    fitted = fit_networks(build, error, seen, samples(validation), config, key=key, on_log=on_log)
    if fitted.interrupted:
        raise KeyboardInterrupt(
            "interrupted in training; what was finished stays; continue with resume=<run directory>"
        )
    members = config.members
    scales = jax.tree.map(lambda a: jnp.broadcast_to(a, (members, *a.shape)), scale)
    return TrajectoryEmulator(fitted.members, scales, encode), fitted


def first_member(stacked: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, stacked)


def _fit_direct(name: str, trajectories: Trajectories, given: Fitting) -> TrajectoryEmulator:
    split = given.data.split
    stacked, _ = fit_direct(
        name,
        trajectories.select(split.fit),
        trajectories.select(split.validation),
        given.data.family.encode,
        given.networks,
        key=given.key,
        on_log=given.on_log,
    )
    return first_member(stacked)


def _equivariant(given: Fitting) -> Rom:
    """Two of the latent numbers are the shift, so two modes fewer than the others have."""
    data = given.data

    def first_field(parameters: Array) -> Array:
        return data.family.begin(parameters, data.simulation)[1][0]

    shifts = np.asarray(
        jax.jit(jax.vmap(lambda p: phase_of(first_field(p))))(jnp.asarray(data.parameters, jnp.float32))
    )
    train = data.split.train
    shifted = ShiftedPod.fit(data.depth[train], shifts[train], max(data.modes - 2, 1))
    seen = np.zeros((len(shifts), data.depth.shape[1], shifted.pod.modes.shape[1]), np.float32)
    seen[train] = shifted.encode(data.depth[train], shifts[train])
    model = EquivariantEmulator(_fit_direct("na_blstm", Trajectories(data.parameters, seen), given), first_field)
    return Rom(lambda case: model(case.parameters), shifted.decode)


def _autoregressive(given: Fitting) -> Rom:
    data, config = given.data, given.networks
    trajectories, pod, window = data.trajectories(), data.pod, config.window
    train = trajectories.select(data.split.train)
    times = train.coefficients.shape[1]
    require(window < times, "networks.window", f"fewer than the {times} fields", window)
    centre = jnp.asarray(train.coefficients.mean((0, 1)), jnp.float32)
    spread = jnp.asarray(train.coefficients.std((0, 1)), jnp.float32)
    shares = jnp.square(spread) / jnp.sum(jnp.square(spread))
    encode = data.family.encode

    def samples(runs: slice) -> tuple[Array, Array, Array]:
        some = trajectories.select(runs)
        series = (jnp.asarray(some.coefficients) - centre) / spread
        windows = jnp.stack([series[:, i : i + window] for i in range(times - window)], axis=1)
        features = jax.vmap(encode)(jnp.asarray(some.parameters, jnp.float32))
        many = jnp.repeat(features, times - window, axis=0)
        return windows.reshape(-1, *windows.shape[2:]), many, series[:, window:].reshape(-1, series.shape[2])

    def error(network: AutoregressiveLstm, sample: tuple[Array, Array, Array], *, key: PRNGKeyArray | None) -> Array:
        states, features, target = sample
        return jnp.sum(shares * jnp.square(network(states, features, key=key) - target))

    seen = samples(data.split.fit)
    fitted = fit_networks(
        lambda key: AutoregressiveLstm(seen[1].shape[1], data.modes, key=key),
        error,
        seen,
        samples(data.split.validation),
        config.autoregressive,
        key=given.key,
        on_log=given.on_log,
    )
    if fitted.interrupted:
        raise KeyboardInterrupt(
            "interrupted in training; what was finished stays; continue with resume=<run directory>"
        )
    network = first_member(fitted.members)

    def onwards(case: Case, steps: int) -> Array:
        states = (case.window - centre) / spread
        features = encode(case.parameters).astype(states.dtype)
        return centre + spread * network.continue_from(states, features, steps)

    def predict(case: Case) -> Array:
        return jnp.concatenate([case.window, onwards(case, times - window)])

    def later(case: Case, stride: int, count: int) -> Array:
        return onwards(case, times - window + stride * count)[times - window + stride - 1 :: stride]

    return Rom(predict, lambda a: pod.decode(a).reshape(-1, *data.basis.shape), later)

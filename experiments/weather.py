"""What experiments on daily weather share: a field reduced and emulated, and analyses of its test days."""

import time
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from experiments.assimilation_sources import DataSource
from experiments.emulator_ensemble import EnsembleConfig, ensemble_error, train_ensemble
from experiments.settings import Settings
from jaxsci.assimilation.daily import Analyser, DailyAnalyses, analyse
from jaxsci.assimilation.protocol import ForecastProtocol
from jaxsci.assimilation.variational import NOT_FINITE, GaussNewton
from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import JaxsciError
from jaxsci.core.precision import cast_floating
from jaxsci.core.rundir import Run
from jaxsci.emulators import DirectEmulator, ReducedField, fit_linear, load_field, reduce_field, split_by_time
from jaxsci.emulators.linear import LinearEmulator
from jaxsci.emulators.skill import one_day_error, rmse_by_lead
from jaxsci.emulators.training import RecurrentConfig, train_recurrent


@dataclass(frozen=True)
class CompanionConfig:
    """Another variable on the same grid and days, part of the state; `noise_std` (its unit) if stations report it."""

    path: str
    variable: str | None = None
    noise_std: float | None = None

    def __post_init__(self) -> None:
        positive(self, "noise_std")


@dataclass(frozen=True)
class DataConfig(DataSource, kind="field"):
    """`path=None` is the packaged field; the last `test_days` verify, the `validation_days` before them choose."""

    path: str | None = None
    variable: str | None = None
    companions: tuple[CompanionConfig, ...] = ()
    validation_days: int = 366
    test_days: int = 366

    def __post_init__(self) -> None:
        positive(self, "validation_days", "test_days")


@dataclass(frozen=True)
class LinearConfig:
    lags: int = 2
    ridges: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)

    def __post_init__(self) -> None:
        between(self, "lags", 1, 60)
        require(len(self.ridges) > 0 and min(self.ridges) > 0, "ridges", "values above 0", self.ridges)


@dataclass(frozen=True)
class EmulatorConfig:
    """`choose=validation` takes the better of the two over leads 1 to 3 on the validation span.

    `ensemble=bayesnas` uses an ensemble of architectures and weights instead; its spread enters the model error.
    """

    choose: Literal["validation", "linear", "recurrent"] = "validation"
    ensemble: Literal["none", "bayesnas"] = "none"
    networks: EnsembleConfig = field(default_factory=EnsembleConfig)
    linear: LinearConfig = field(default_factory=LinearConfig)
    recurrent: RecurrentConfig = field(default_factory=RecurrentConfig)


@dataclass(frozen=True, kw_only=True)
class WeatherConfig(Settings):
    """Observations of the days t - window .. t, with error `noise_std` (unit of the field)."""

    data: DataConfig = field(default_factory=DataConfig)
    modes: int = 30
    harmonics: tuple[int, ...] = (1, 2, 3)
    emulator: EmulatorConfig = field(default_factory=EmulatorConfig)
    window: int = 1
    noise_std: float = 10.0
    networks: int = 20
    leads: int = 5
    model_error_ridge: float = 1e-7
    max_iterations: int = 10
    tolerance: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        between(self, "modes", 2, 1000)
        require(len(self.harmonics) > 0 and min(self.harmonics) >= 0, "harmonics", "whole numbers", self.harmonics)
        between(self, "window", 0, 10)
        positive(self, "noise_std", "networks", "model_error_ridge", "max_iterations", "tolerance")
        between(self, "leads", 3, 30)


BURN_IN_DAYS = 20  # cycling forgets its first guess within days; these lie in the validation span


class Emulators(NamedTuple):
    linear: LinearEmulator
    used: DirectEmulator
    chosen: str
    """The name of the one in use."""
    rmse: dict[str, dict[str, np.ndarray]]
    """RMSE from perfect initial states by emulator, span (validation, test) and lead."""


def settled(analyses: DailyAnalyses, skip: int) -> DailyAnalyses:
    """Without the first `skip` days. Raises `JaxsciError` where 4D-Var diverged."""
    if bool(jnp.any(analyses.code == NOT_FINITE)):
        raise JaxsciError("4D-Var diverged; shorten window, or raise noise_std or model_error_ridge")
    by_day = analyses._replace(network=None)  # every other field has the axes (network, day, ...)
    return jax.tree.map(lambda a: a[:, skip:], by_day)._replace(network=analyses.network)


def load(config: WeatherConfig, stations: int) -> ReducedField:
    """Read the field and its companions, split by time, and reduce; `stations` is the most that will be asked for.

    Raises `DataError` or `ConfigError`.
    """
    require(isinstance(config.data, DataConfig), "data", "daily fields (kind: field)", config.data)
    loaded = load_field(config.data.path, config.data.variable)
    companions = [load_field(c.path, c.variable) for c in config.data.companions]
    points = loaded.flat.shape[1]
    _require_stations(stations, points)
    shortest = 10 * (BURN_IN_DAYS + config.leads + config.emulator.recurrent.lags)
    require(len(loaded.time) >= shortest, "data.path", f"{shortest} days or more", len(loaded.time))
    split = split_by_time(
        len(loaded.time), validation_days=config.data.validation_days, test_days=config.data.test_days
    )
    most = min(split.train.stop, points * (1 + len(companions)))
    require(config.modes <= most, "modes", f"at most {most} (training days and grid points)", config.modes)
    return reduce_field(loaded, split, modes=config.modes, harmonics=config.harmonics, companions=companions)


def train(config: WeatherConfig, reduced: ReducedField, run: Run, seconds: dict[str, float]) -> Emulators:
    """Fit the emulators on the training span and choose by the validation span; `choose=linear` trains no network."""
    span, validation = (reduced.coefficients[s] for s in (reduced.split.train, reduced.split.validation))
    fit = lambda lags: fit_linear(  # noqa: E731
        span, validation, lags=lags, leads=config.leads, ridges=config.emulator.linear.ridges
    )
    linear = fit(config.emulator.linear.lags)
    candidates: dict[str, DirectEmulator] = {"linear": linear}
    if config.emulator.choose != "linear":
        trained = train_recurrent(
            span,
            validation,
            fit(config.emulator.recurrent.lags),
            config.emulator.recurrent,
            key=jax.random.key(config.seed),
            on_log=run.log,
        )
        seconds["emulator_compile"], seconds["emulator_train"] = trained.compile_seconds, trained.train_seconds
        dtype = jnp.float64 if config.precision == "float64" else jnp.float32
        candidates["recurrent"] = cast_floating(trained.emulator, dtype)
    if config.emulator.ensemble == "bayesnas":
        key = jax.random.fold_in(jax.random.key(config.seed), 1)
        ensemble = train_ensemble(span, validation, linear, config.emulator.networks, key=key)
        candidates["ensemble"] = cast_floating(ensemble, linear.maps.dtype)
    spans = {"validation": reduced.split.validation, "test": reduced.split.test}
    rmse = {
        name: {s: rmse_by_lead(emulator, reduced, span) for s, span in spans.items()}
        for name, emulator in candidates.items()
    }
    run.log(
        {f"rmse_validation_{name}": float(np.mean(by_span["validation"][:3])) for name, by_span in rmse.items()},
        config.emulator.recurrent.steps if len(rmse) > 1 else 0,
    )
    best = min(rmse, key=lambda name: float(np.mean(rmse[name]["validation"][:3])))
    chosen = best if config.emulator.choose == "validation" else config.emulator.choose
    chosen = "ensemble" if "ensemble" in candidates else chosen
    return Emulators(linear, candidates[chosen], chosen, rmse)


def _require_stations(stations: int, points: int) -> None:
    require(stations <= points, "stations", f"at most the {points} points of the grid", stations)


def analyser(config: WeatherConfig, stations: int, reduced: ReducedField, emulators: Emulators) -> Analyser:
    """All that analyses from `stations` points need; nothing of it comes from the test span."""
    _require_stations(stations, reduced.anomalies.shape[1])
    noise = tuple(
        None if c.noise_std is None else c.noise_std * scale
        for c, scale in zip(config.data.companions, reduced.scales, strict=True)
    )
    return Analyser(
        emulators.used,
        emulators.linear,
        reduced.pod,
        reduced.joint,
        ensemble_error(emulators.used, reduced),
        one_day_error(emulators.linear, reduced),
        ForecastProtocol(config.window, stations, config.noise_std, noise),
        config.model_error_ridge,
        GaussNewton(config.max_iterations, config.tolerance),
    )


def without_spread(analysing: Analyser, reduced: ReducedField) -> Analyser:
    """The same with a model error that knows the emulator's errors alone, not an ensemble's spread."""
    return eqx.tree_at(lambda a: a.emulator_error, analysing, one_day_error(analysing.emulator, reduced))


def observed_span(reduced: ReducedField) -> jax.Array:
    """Anomalies of all variables, from the burn-in before the test span to its end."""
    return jnp.asarray(reduced.stacked[reduced.split.test.start - BURN_IN_DAYS :])


def network_keys(config: WeatherConfig) -> jax.Array:
    """A key for each network, the same whatever their number."""
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(config.seed), i))(jnp.arange(config.networks))


def assimilate(
    config: WeatherConfig, analysing: Analyser, reduced: ReducedField, seconds: dict[str, float]
) -> tuple[DailyAnalyses, np.ndarray]:
    """Analyses of every test day for every random network, and the anomalies they are verified against."""
    observed, keys = observed_span(reduced), network_keys(config)
    begin = time.perf_counter()
    program = jax.jit(jax.vmap(lambda key: analyse(analysing, observed, key=key))).lower(keys).compile()
    seconds["assimilation_compile"] = seconds.get("assimilation_compile", 0.0) + time.perf_counter() - begin
    begin = time.perf_counter()
    analyses = jax.block_until_ready(program(keys))
    seconds["assimilation"] = seconds.get("assimilation", 0.0) + time.perf_counter() - begin
    kept = settled(analyses, BURN_IN_DAYS - config.window)
    return kept, reduced.anomalies[reduced.split.test][: kept.state.shape[1]]

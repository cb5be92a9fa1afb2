"""Weather from a few dozen stations: emulator-assisted 4D-Var on 500 hPa height, beside every cheaper method."""

from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp

from experiments import aieada as published
from experiments import assimilation_flow, weather
from experiments import assimilation_report as pages
from experiments.assimilation_sources import ShallowWaterData, Surrogate
from experiments.emulator_ensemble import (
    ArchitectureEnsemble,
    EnsembleConfig,
    spread_covariance,
    train_ensemble,
    with_spread,
)
from experiments.settings import Settings
from jaxsci.assimilation.daily import Analyser, DailyAnalyses, analyse
from jaxsci.assimilation.protocol import ForecastProtocol
from jaxsci.assimilation.scores import BASELINES, Scores, score
from jaxsci.assimilation.timing import time_window
from jaxsci.core.config import positive
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.emulators import DirectEmulator, ReducedField, fit_linear, load_field, reduce_field, split_by_time
from jaxsci.emulators.delay import delay_states
from jaxsci.emulators.linear import LinearEmulator
from jaxsci.emulators.skill import one_day_error, rmse_by_lead
from jaxsci.emulators.training import RecurrentConfig, train_recurrent


@dataclass(frozen=True)
class DataConfig:
    """`path=None` is the packaged field; the last `test_days` verify, the `validation_days` before them choose."""

    path: str | None = None
    variable: str | None = None
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

    `ensemble=bayesnas` uses an ensemble of architectures and weights instead, whose spread enters the model error.
    """

    choose: Literal["validation", "linear", "recurrent"] = "validation"
    ensemble: Literal["none", "bayesnas"] = "none"
    networks: EnsembleConfig = field(default_factory=EnsembleConfig)
    linear: LinearConfig = field(default_factory=LinearConfig)
    recurrent: RecurrentConfig = field(default_factory=RecurrentConfig)


@dataclass(frozen=True, kw_only=True)
class Config(weather.WeatherConfig):
    """`protocol=forecast`: stations report with noise, and what is verified comes after their reports.

    `protocol=aieada` repeats a published protocol instead, a fit, with the settings of `aieada`; of the others it
    takes `data` and `seed`. `data=shallow_water` is about a simulated flow, with a network as `model`.
    """

    model: Surrogate | None = None
    protocol: Literal["forecast", "aieada"] = "forecast"
    stations: int = 30
    aieada: published.AieadaConfig = field(default_factory=published.AieadaConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "stations")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    if isinstance(config.data, ShallowWaterData) or config.model is not None:
        return assimilation_flow.main(config, config.data, config.model, run)
    if config.protocol == "aieada":
        return published.main(config.aieada, config, run)
    seconds: dict[str, float] = {}
    with progress(5, "assimilation") as steps:
        reduced = weather.load(config)
        steps.update(stage=f"{config.modes} modes hold {100 * reduced.joint.captured:.2f} % of the variance")
        emulators = weather.train(config, reduced, run, seconds)
        steps.update(stage="emulators trained")
        analyser = weather.analyser(config, config.stations, reduced, emulators)
        analyses, truth = weather.assimilate(config, analyser, reduced, seconds)
        steps.update(stage=f"{analyses.state.shape[0]} networks x {analyses.state.shape[1]} days analysed")
        scores = score(reduced, emulators.linear, emulators.used, analyses, jnp.asarray(truth), config.leads)
        steps.update(stage="verified")
        timing = time_window(analyser, weather.observed_span(reduced), key=jax.random.key(config.seed))
        steps.update(stage="timed")
    summary = _summary(config, scores, timing._asdict(), emulators, seconds)
    return summary, pages.report(config, run, reduced, emulators, analyses, scores, summary)


def _summary(config: Config, scores: Scores, timing: dict, emulators: weather.Emulators, seconds: dict) -> Summary:
    leads = range(1, config.leads + 1)
def _train(config: Config, reduced: ReducedField, run: Run, seconds: dict[str, float]):
    train, validation = (reduced.coefficients[s] for s in (reduced.split.train, reduced.split.validation))
    fit = lambda lags: fit_linear(  # noqa: E731
        train, validation, lags=lags, leads=config.leads, ridges=config.emulator.linear.ridges
    )
    trained = train_recurrent(
        train,
        validation,
        fit(config.emulator.recurrent.lags),
        config.emulator.recurrent,
        key=jax.random.key(config.seed),
        on_log=run.log,
    )
    seconds["emulator_compile"], seconds["emulator_train"] = trained.compile_seconds, trained.train_seconds
    dtype = jnp.float64 if config.precision == "float64" else jnp.float32
    return fit(config.emulator.linear.lags), cast_floating(trained.emulator, dtype)


def _choose(
    config: Config, reduced: ReducedField, linear: LinearEmulator, recurrent: DirectEmulator
) -> tuple[DirectEmulator, dict[str, dict[str, np.ndarray]]]:
    """The emulator to use, and each candidate's RMSE by lead on both spans."""
    emulators: dict[str, DirectEmulator] = {"linear": linear, "recurrent": recurrent}
    if config.emulator.ensemble == "bayesnas":
        train, validation = (reduced.coefficients[s] for s in (reduced.split.train, reduced.split.validation))
        key = jax.random.fold_in(jax.random.key(config.seed), 1)
        ensemble = train_ensemble(train, validation, linear, config.emulator.networks, key=key)
        emulators["ensemble"] = cast_floating(ensemble, jnp.asarray(linear.maps).dtype)
    spans = {"validation": reduced.split.validation, "test": reduced.split.test}
    rmse = {name: {s: rmse_by_lead(e, reduced, span) for s, span in spans.items()} for name, e in emulators.items()}
    best = min(rmse, key=lambda name: float(np.mean(rmse[name]["validation"][:3])))
    chosen = best if config.emulator.choose == "validation" else config.emulator.choose
    chosen = "ensemble" if config.emulator.ensemble == "bayesnas" else chosen
    rmse["chosen"] = rmse[chosen] | {"name": np.array(chosen)}
    return emulators[chosen], rmse


def _analyser(config: Config, reduced: ReducedField, emulator: DirectEmulator) -> Analyser:
    return Analyser(
        emulator,
        reduced.pod,
        _emulator_error(emulator, reduced),
        ForecastProtocol(config.window, config.stations, config.noise_std),
        config.model_error_ridge,
        GaussNewton(config.max_iterations, config.tolerance),
    )


def _emulator_error(emulator: DirectEmulator, reduced: ReducedField) -> jax.Array:
    """Covariance of the one-day error; where the emulator is an ensemble, its spread is in it."""
    error = one_day_error(emulator, reduced)
    if not isinstance(emulator, ArchitectureEnsemble):
        return error
    states = delay_states(reduced.coefficients[reduced.split.validation], emulator.lags)
    return with_spread(error, spread_covariance(emulator, jnp.asarray(states)))


def _assimilate(
    config: Config, analyser: Analyser, reduced: ReducedField, seconds: dict[str, float]
) -> tuple[DailyAnalyses, np.ndarray]:
    """Analyses of every test day for every network, and the anomalies they are verified against."""
    first = reduced.split.test.start - BURN_IN_DAYS
    observed = jnp.asarray(reduced.anomalies[first:])
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(config.seed), i))(jnp.arange(config.networks))
    begin = time.perf_counter()
    program = jax.jit(jax.vmap(lambda key: analyse(analyser, observed, key=key))).lower(keys).compile()
    seconds["assimilation_compile"] = time.perf_counter() - begin
    begin = time.perf_counter()
    analyses = jax.block_until_ready(program(keys))
    seconds["assimilation"] = time.perf_counter() - begin
    if bool(jnp.any(analyses.code == NOT_FINITE)):
        raise JaxsciError("4D-Var diverged; shorten window, or raise noise_std or model_error_ridge")
    skip = BURN_IN_DAYS - config.window
    by_day = analyses._replace(network=None)  # every other field has the axes (network, day, ...)
    kept = jax.tree.map(lambda a: a[:, skip:], by_day)._replace(network=analyses.network)
    days = kept.state.shape[1]
    return kept, reduced.anomalies[reduced.split.test][:days]


def _summary(config: Config, scores: Scores, timing: dict, candidates: dict, seconds: dict) -> Summary:
    metrics = {
        "rmse_analysis_m": scores.analysis,
        "rmse_background_m": scores.background,
        "rmse_oi_m": scores.interpolated,
        "rmse_kalman_m": scores.filtered,
        **{f"rmse_forecast_m_day{d}": scores.rmse["forecast"][d - 1] for d in leads},
        **{f"rmse_{name}_m_day{d}": scores.rmse[name][d - 1] for name in BASELINES for d in leads},
        "coverage_90": scores.coverage_90,
        **timing,
        "networks_better_than_oi": scores.networks_better_than_oi,
        "cost_per_observation": scores.fit,
    }
    for rival, gains in scores.gains.items():
        for when, gain in zip(("analysis", *(f"day{d}" for d in leads)), gains, strict=True):
            metrics |= {
                f"gain_over_{rival}_m_{when}": gain.value,
                f"gain_over_{rival}_m_{when}_low": gain.low,
                f"gain_over_{rival}_m_{when}_high": gain.high,
            }
    references = {
        "rmse_analysis_m": Reference(
            min(scores.background, 1.05 * scores.interpolated),
            "the smaller of the background's RMSE and 1.05 x optimal interpolation's",
            "lower",
        ),
        "rmse_forecast_m_day1": Reference(
            min(scores.rmse["persistence"][0], scores.rmse["climatology"][0]),
            "the better of persistence and climatology, from the true state",
            "lower",
        ),
        "gradient_relative_error": Reference(1e-5, "central differences, float64", "lower"),
        "coverage_90": Reference(0.9, "nominal"),
        "cost_per_observation": Reference(1.0, "expected 2J/p where B and R are right"),
    }
    notes = (
        f"Emulator used: {emulators.chosen} (emulator.choose={config.emulator.choose}).",
        "Persistence, damped persistence, linear and emulator start from the true state of the day; "
        "OI, the Kalman filter (on the two-lag linear model) and 4D-Var start from the noisy stations alone.",
        "Names end in _m for metres; for another field the unit is that of the file.",
        "gain_over_*: RMSE of the rival less that of 4D-Var, with the central 95 % of 2000 block bootstraps over days.",
        *pages.verdicts(scores),
    )
    return Summary("assimilation", metrics, references, seconds, notes)

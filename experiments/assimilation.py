"""Weather from a few dozen stations: emulator-assisted 4D-Var on 500 hPa height, beside every cheaper method."""

import time
from dataclasses import dataclass, field
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments import assimilation_report as pages
from experiments.settings import Settings
from jaxsci.assimilation.daily import Analyser, DailyAnalyses, analyse
from jaxsci.assimilation.protocol import ForecastProtocol
from jaxsci.assimilation.scores import BASELINES, Scores, score
from jaxsci.assimilation.timing import time_window
from jaxsci.assimilation.variational import NOT_FINITE, GaussNewton
from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import JaxsciError
from jaxsci.core.precision import cast_floating
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.emulators import DirectEmulator, ReducedField, fit_linear, load_field, reduce_field, split_by_time
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
    """`choose=validation` takes the better of the two over leads 1 to 3 on the validation span."""

    choose: Literal["validation", "linear", "recurrent"] = "validation"
    linear: LinearConfig = field(default_factory=LinearConfig)
    recurrent: RecurrentConfig = field(default_factory=RecurrentConfig)


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Observations of the days t - window .. t at `stations` points, with error `noise_std` (unit of the field)."""

    data: DataConfig = field(default_factory=DataConfig)
    modes: int = 30
    harmonics: tuple[int, ...] = (1, 2, 3)
    emulator: EmulatorConfig = field(default_factory=EmulatorConfig)
    protocol: Literal["forecast"] = "forecast"
    window: int = 1
    stations: int = 30
    noise_std: float = 10.0
    networks: int = 20
    leads: int = 5
    model_error_ridge: float = 1e-5
    max_iterations: int = 10
    tolerance: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        between(self, "modes", 2, 1000)
        require(len(self.harmonics) > 0 and min(self.harmonics) >= 0, "harmonics", "whole numbers", self.harmonics)
        between(self, "window", 0, 10)
        positive(self, "stations", "noise_std", "networks", "model_error_ridge", "max_iterations", "tolerance")
        between(self, "leads", 3, 30)


BURN_IN_DAYS = 20  # cycling forgets its first guess within days; these lie in the validation span


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    loaded = load_field(config.data.path, config.data.variable)
    points = loaded.flat.shape[1]
    require(config.stations <= points, "stations", f"at most the {points} points of the grid", config.stations)
    shortest = 10 * (BURN_IN_DAYS + config.leads + config.emulator.recurrent.lags)
    require(len(loaded.time) >= shortest, "data.path", f"{shortest} days or more", len(loaded.time))
    split = split_by_time(
        len(loaded.time), validation_days=config.data.validation_days, test_days=config.data.test_days
    )
    most = min(split.train.stop, points)
    require(config.modes <= most, "modes", f"at most {most} (training days and grid points)", config.modes)
    seconds: dict[str, float] = {}
    with progress(5, "assimilation") as steps:
        reduced = reduce_field(loaded, split, modes=config.modes, harmonics=config.harmonics)
        steps.update(stage=f"{config.modes} modes hold {100 * reduced.pod.captured:.2f} % of the variance")
        linear, recurrent = _train(config, reduced, run, seconds)
        emulator, candidates = _choose(config, reduced, linear, recurrent)
        steps.update(stage="emulators trained")
        analyser = _analyser(config, reduced, emulator)
        analyses, truth = _assimilate(config, analyser, reduced, seconds)
        steps.update(stage=f"{analyses.state.shape[0]} networks x {analyses.state.shape[1]} days analysed")
        scores = score(reduced, linear, emulator, analyses, jnp.asarray(truth), config.leads)
        steps.update(stage="verified")
        timing = time_window(analyser, jnp.asarray(truth), key=jax.random.key(config.seed))
        steps.update(stage="timed")
    summary = _summary(config, scores, timing._asdict(), candidates, seconds)
    return summary, pages.report(config, run, reduced, candidates, analyses, scores, summary)


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
    emulators = {"linear": linear, "recurrent": recurrent}
    spans = {"validation": reduced.split.validation, "test": reduced.split.test}
    rmse = {name: {s: rmse_by_lead(e, reduced, span) for s, span in spans.items()} for name, e in emulators.items()}
    best = min(rmse, key=lambda name: float(np.mean(rmse[name]["validation"][:3])))
    chosen = best if config.emulator.choose == "validation" else config.emulator.choose
    rmse["chosen"] = rmse[chosen] | {"name": np.array(chosen)}
    return emulators[chosen], rmse


def _analyser(config: Config, reduced: ReducedField, emulator: DirectEmulator) -> Analyser:
    return Analyser(
        emulator,
        reduced.pod,
        one_day_error(emulator, reduced),
        ForecastProtocol(config.window, config.stations, config.noise_std),
        config.model_error_ridge,
        GaussNewton(config.max_iterations, config.tolerance),
    )


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
        **{f"rmse_forecast_m_day{d + 1}": scores.rmse["forecast"][d] for d in range(3)},
        **{f"rmse_{name}_m_day{d + 1}": scores.rmse[name][d] for name in BASELINES for d in range(3)},
        "coverage_90": scores.coverage_90,
        **timing,
        "networks_better_than_oi": scores.networks_better_than_oi,
        "cost_per_observation": scores.fit,
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
        f"Emulator used: {candidates['chosen']['name']} (the better on the validation span).",
        "Persistence, damped persistence, linear and emulator start from the true state of the day; "
        "OI and 4D-Var start from the noisy stations alone.",
        "Names end in _m for metres; for another field the unit is that of the file.",
    )
    if scores.analysis >= scores.interpolated:
        notes += ("4D-Var does not beat optimal interpolation here.",)
    if scores.rmse["forecast"][0] >= scores.rmse["oi"][0]:
        notes += ("Forecasts from 4D-Var are not better than forecasts from optimal interpolation at day 1.",)
    return Summary("assimilation", metrics, references, seconds, notes)

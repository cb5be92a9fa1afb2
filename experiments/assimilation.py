"""Weather from a few dozen stations: emulator-assisted 4D-Var on 500 hPa height, beside every cheaper method."""

from dataclasses import dataclass, field, replace
from typing import Literal

import jax
import jax.numpy as jnp

from experiments import aieada as published
from experiments import assimilation_flow, weather
from experiments import assimilation_report as pages
from experiments.assimilation_sources import ShallowWaterData, Surrogate
from jaxsci.assimilation.scores import BASELINES, Scores, score
from jaxsci.assimilation.timing import time_window
from jaxsci.core.config import positive
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary


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
    reduced = weather.load(config, config.stations)  # bad data are refused before anything is shown
    with progress(5, "assimilation") as steps:
        steps.update(stage=f"{config.modes} modes hold {100 * reduced.joint.captured:.2f} % of the variance")
        emulators = weather.train(config, reduced, run, seconds)
        steps.update(stage="emulators trained")
        analyser = weather.analyser(config, config.stations, reduced, emulators)
        analyses, truth = weather.assimilate(config, analyser, reduced, seconds)
        steps.update(stage=f"{analyses.state.shape[0]} networks x {analyses.state.shape[1]} days analysed")
        scores = score(reduced, emulators.linear, emulators.used, analyses, jnp.asarray(truth), config.leads)
        plain = None
        if config.emulator.ensemble != "none":
            bare, truth = weather.assimilate(config, weather.without_spread(analyser, reduced), reduced, seconds)
            plain = score(reduced, emulators.linear, emulators.used, bare, jnp.asarray(truth), config.leads)
        steps.update(stage="verified")
        timing = time_window(analyser, weather.observed_span(reduced), key=jax.random.key(config.seed))
        steps.update(stage="timed")
    summary = _summary(config, scores, timing._asdict(), emulators, seconds)
    if plain is not None:
        summary = replace(
            summary, metrics={**summary.metrics, **_without_spread(plain)}, notes=(*summary.notes, SPREAD)
        )
    return summary, pages.report(config, run, reduced, emulators, analyses, scores, summary)


SPREAD = (
    "*_without_spread: the same analyses where the model error is that of the ensemble's mean on past days alone; "
    "with spread its shape also holds how far the networks disagree, at the same total variance."
)


def _without_spread(scores: Scores) -> dict[str, float]:
    return {
        "rmse_analysis_m_without_spread": scores.analysis,
        "coverage_90_without_spread": scores.coverage_90,
        "cost_per_observation_without_spread": scores.fit,
        **{f"rmse_forecast_m_day{d}_without_spread": rmse for d, rmse in enumerate(scores.rmse["forecast"], 1)},
    }


def _summary(config: Config, scores: Scores, timing: dict, emulators: weather.Emulators, seconds: dict) -> Summary:
    leads = range(1, config.leads + 1)
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

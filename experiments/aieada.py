"""The published protocol of AIEADA 1.0: an emulator's input moved until its forecast fits the days to come."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments import aieada_report as pages
from jaxsci.assimilation.background import Background
from jaxsci.assimilation.forecast_fit import ForecastFit, grid_root
from jaxsci.assimilation.minimisers import LBFGS, SLSQP
from jaxsci.assimilation.variational import assimilate
from jaxsci.core.config import between, positive, require
from jaxsci.core.precision import cast_floating
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.emulators import ReducedField, load_field, reduce_field, split_by_time
from jaxsci.emulators.attention_lstm import AttentionLstmConfig, pairs, train_attention_lstm
from jaxsci.emulators.climatology import select_climatology

if TYPE_CHECKING:
    from experiments.weather import WeatherConfig


@dataclass(frozen=True)
class AieadaConfig:
    """The reported run of the paper: 5 modes, 28 days in, 20 days out, 40 % of the points observed, SLSQP.

    A fit starts at every `every`-th day of the test span.
    """

    modes: int = 5
    inputs: int = 28
    leads: int = 20
    observed: float = 0.4
    every: int = 1
    iterations: int = 20
    tolerance: float = 1e-3
    network: AttentionLstmConfig = field(default_factory=AttentionLstmConfig)

    def __post_init__(self) -> None:
        positive(self, "modes", "inputs", "every", "iterations", "tolerance")
        between(self, "leads", 2, 365)
        between(self, "observed", 1e-6, 1.0)


class Starts(NamedTuple):
    """Everything by start (leading axis)."""

    inputs: Float[Array, "starts inputs modes"]
    truth: Float[Array, "starts leads points"]
    today: Float[Array, "starts points"]
    """The last day of the input window."""
    climate: Float[Array, "starts leads points"]


class Fits(NamedTuple):
    forecast: Float[Array, "starts leads modes"]
    lowered: float
    """Share of the starts whose cost fell; the others keep the background."""


def main(settings: AieadaConfig, config: "WeatherConfig", run: Run) -> tuple[Summary, Report]:
    loaded = load_field(config.data.path, config.data.variable)
    split = split_by_time(
        len(loaded.time), validation_days=config.data.validation_days, test_days=config.data.test_days
    )
    # Anomalies from the mean of the training span, as published: the annual cycle is left to the modes.
    reduced = reduce_field(loaded, split, modes=settings.modes, harmonics=(0,))
    seconds: dict[str, float] = {}
    network = _train(settings, config, reduced, run, seconds)
    starts = _starts(settings, config, reduced)
    stations = jax.random.permutation(jax.random.key(config.seed), loaded.flat.shape[1])
    stations = jnp.sort(stations[: max(1, round(settings.observed * loaded.flat.shape[1]))])
    problem = _problem(settings, reduced, network, starts, stations)
    seen = starts.truth[:, :, stations]
    half = jnp.where(jnp.arange(settings.leads)[:, None] < settings.leads // 2, seen, jnp.nan)
    begin = time.perf_counter()
    published = _fit_on_host(settings, problem, starts.inputs, seen)
    seconds["slsqp"] = time.perf_counter() - begin
    begin = time.perf_counter()
    fits = {"fit": published} | {
        name: _fit_together(problem, starts.inputs, values) for name, values in (("minimum", seen), ("half", half))
    }
    seconds["lbfgs"] = time.perf_counter() - begin
    errors = _errors(reduced, network, starts, fits)
    weights = reduced.weights
    mae = {name: np.asarray(jnp.mean(weights * jnp.abs(error), axis=(0, 2))) for name, error in errors.items()}
    hidden = np.setdiff1d(np.arange(len(weights)), np.asarray(stations))
    summary = _summary(settings, mae, _mae_at(errors["fit"], weights, hidden), fits, len(starts.inputs), seconds)
    return summary, pages.report(settings, run, mae, len(starts.inputs), len(stations))


def _train(settings: AieadaConfig, config: "WeatherConfig", reduced: ReducedField, run: Run, seconds: dict):
    training, validation = (
        pairs(reduced.coefficients[span], settings.inputs, settings.leads)
        for span in (reduced.split.train, reduced.split.validation)
    )
    begin = time.perf_counter()
    with progress(settings.network.epochs, "AIEADA network") as bar:

        def on_epoch(epoch: int, loss: float, rate: float) -> None:
            run.log({"validation_loss": loss, "learning_rate": rate}, epoch)
            bar.update(validation_loss=loss)

        trained = train_attention_lstm(
            training, validation, settings.network, key=jax.random.key(config.seed), on_epoch=on_epoch
        )
    seconds["train"] = time.perf_counter() - begin
    return cast_floating(trained.network, jnp.float64 if config.precision == "float64" else jnp.float32)


def _starts(settings: AieadaConfig, config: "WeatherConfig", reduced: ReducedField) -> Starts:
    test, loaded = reduced.split.test, reduced.field
    length = settings.inputs + settings.leads
    days = len(reduced.anomalies[test])
    require(days >= length, "data.test_days", f"{length} days or more", days)
    first = np.arange(0, days - length + 1, settings.every)
    train = reduced.split.train
    climatology = select_climatology(
        loaded.time[train], loaded.flat[train], loaded.area_weights, tuple(config.harmonics)
    )
    cycle = climatology(loaded.time[test]) - reduced.climatology(loaded.time[test])
    inside = first[:, None] + np.arange(settings.inputs)
    after = first[:, None] + settings.inputs + np.arange(settings.leads)
    anomalies = reduced.anomalies[test]
    return Starts(
        jnp.asarray(reduced.coefficients[test][inside]),
        jnp.asarray(anomalies[after]),
        jnp.asarray(anomalies[inside[:, -1]]),
        jnp.asarray(cycle[after]),
    )


def _problem(
    settings: AieadaConfig, reduced: ReducedField, network: Callable, starts: Starts, stations: Array
) -> Callable[[Array, Array], ForecastFit]:
    """A fit from an input window and what is observed of the days to come."""
    modes = reduced.pod.modes
    train = reduced.coefficients[reduced.split.train]
    scale = 1 / (len(stations) * float(train.max() - train.min()))  # the published divisor: it sets what 1e-3 means
    root = grid_root(modes, settings.inputs, scale)
    return lambda window, values: ForecastFit(network, Background(window, root), values, modes[stations], scale)


def _fit_on_host(settings: AieadaConfig, problem: Callable, inputs: Array, seen: Array) -> Fits:
    method = SLSQP(settings.iterations, settings.tolerance)
    found, lowered = [], []
    with progress(len(inputs), "SLSQP fits") as bar:
        for window, values in zip(inputs, seen, strict=True):
            solution = assimilate(problem(window, values), method)
            found.append(solution.value)
            lowered.append(float(solution.stats.cost) < float(solution.stats.initial_cost))
            bar.update(cost=float(solution.stats.cost))
    return Fits(jnp.stack(found), float(np.mean(lowered)))


def _fit_together(problem: Callable, inputs: Array, seen: Array) -> Fits:
    """All starts in one program, to the minimum."""

    @eqx.filter_jit
    def all_starts(inputs: Array, seen: Array) -> tuple[Array, Array]:
        solution = jax.vmap(lambda window, values: assimilate(problem(window, values), LBFGS(60, 1e-3)))(inputs, seen)
        return solution.value, solution.stats.cost < solution.stats.initial_cost

    forecast, lowered = all_starts(inputs, seen)
    return Fits(forecast, float(jnp.mean(lowered)))


def _errors(reduced: ReducedField, network: Callable, starts: Starts, fits: dict[str, Fits]) -> dict[str, Array]:
    forecasts = {name: reduced.pod.decode(fit.forecast) for name, fit in fits.items()} | {
        "emulator": reduced.pod.decode(jax.jit(jax.vmap(network))(starts.inputs)),
        "climatology": starts.climate,
        "persistence": starts.today[:, None],
    }
    return {name: forecast - starts.truth for name, forecast in forecasts.items()}


def _mae_at(error: Array, weights: np.ndarray, points: np.ndarray) -> float:
    """Area-weighted mean of the absolute error over some points; of all, where there are none."""
    points = points if len(points) else np.arange(len(weights))
    return float(jnp.mean(jnp.abs(error[:, :, points]) * weights[points]) / weights[points].mean())


def _summary(
    settings: AieadaConfig, mae: dict[str, np.ndarray], unobserved: float, fits: dict, starts: int, seconds: dict
) -> Summary:
    leads, late = settings.leads, slice(settings.leads // 2, None)
    metrics: dict[str, float] = {}
    for name in ("emulator", "fit", "minimum", "climatology", "persistence"):
        metrics[f"mae_{name}_m"] = float(mae[name].mean())
        metrics |= {f"mae_{name}_m_day{d}": float(mae[name][d - 1]) for d in (1, 5, 10, 15, 20) if d <= leads}
    metrics |= {
        "gain_of_fit_percent": 100 * float(1 - mae["fit"].mean() / mae["emulator"].mean()),
        "mae_fit_m_unobserved_points": unobserved,
        "mae_emulator_m_late_days": float(mae["emulator"][late].mean()),
        "mae_fit_to_early_days_m_late_days": float(mae["half"][late].mean()),
        "share_of_fits_that_lowered_the_cost": fits["fit"].lowered,
        "starts": float(starts),
        "seconds_per_fit": seconds["slsqp"] / starts,
    }
    references = {
        "gain_of_fit_percent": Reference(5.0, "published, another field and domain (78.8 to 74.85 m)"),
        "mae_fit_m": Reference(metrics["mae_emulator_m"], "the emulator before the fit", "lower"),
        "mae_emulator_m": Reference(metrics["mae_climatology_m"], "climatology", "lower"),
    }
    notes = (
        "This is a fit, not a forecast: the observations lie in the days that are verified and carry no noise. "
        "protocol=forecast is the honest experiment.",
        "Defects of the published code not repeated: value and gradient come of one cost, background included; windows "
        "of training and validation share no day; persistence is the last day of the input.",
        "B = R = I on the grid as published: no statistical meaning, so no posterior is given. The minimiser works on "
        "controls of unit prior variance, which the published one did not.",
        f"'minimum' is the same cost minimised by L-BFGS; 'late days' are {leads // 2 + 1} to {leads}, and the fit to "
        f"early days saw observations of days 1 to {leads // 2} only: what is left there is what the fit foresees.",
    )
    return Summary("assimilation", metrics, references, seconds, notes)

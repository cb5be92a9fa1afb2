"""Verification of daily analyses and of the forecasts they start, beside the methods that cost less."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.assimilation.bootstrap import Interval, interval, resampled_rmse
from jaxsci.assimilation.daily import DailyAnalyses
from jaxsci.emulators.baselines import damped_persistence, damping_factors, persistence
from jaxsci.emulators.delay import DirectEmulator, delay_states
from jaxsci.emulators.reduced import ReducedField
from jaxsci.emulators.skill import forecast_all
from jaxsci.emulators.verification import anomaly_correlation, coverage, rmse

BASELINES = ("climatology", "persistence", "damped_persistence", "linear", "emulator", "oi", "kalman")
ANALYSES = ("forecast", "oi", "kalman")
"""What has an analysis of its own: 4D-Var (under the name of its forecasts), interpolation, the Kalman filter."""


class Scores(NamedTuple):
    """Means over all networks, test days and points; RMSE in the units of the field."""

    analysis: float
    background: float
    interpolated: float
    filtered: float
    analysis_by_network: Float[np.ndarray, " networks"]
    interpolated_by_network: Float[np.ndarray, " networks"]
    networks_better_than_oi: float
    """Share of networks whose 4D-Var analysis has a smaller RMSE than the interpolation's."""
    coverage_90: float
    fit: float
    """Mean of `2 J / observations`."""
    rmse: dict[str, Float[np.ndarray, " leads"]]
    """By method and lead; `forecast` is the emulator from the 4D-Var analysis."""
    correlation: dict[str, Float[np.ndarray, " leads"]]
    intervals: dict[str, list[Interval]]
    """By method of `ANALYSES`: RMSE of the analysis, then of each lead, with bootstrap intervals over the days."""
    gains: dict[str, list[Interval]]
    """By rival of 4D-Var in `ANALYSES`: its RMSE less that of 4D-Var, above zero where 4D-Var is better."""


def score(
    reduced: ReducedField,
    linear: DirectEmulator,
    emulator: DirectEmulator,
    analyses: DailyAnalyses,
    truth: Float[Array, "days points"],
    leads: int,
) -> Scores:
    """`truth` are the test days' anomalies, day by day those of `analyses`."""
    weights, decode = jnp.asarray(reduced.weights), reduced.pod.decode
    analysis_error = decode(analyses.state[:, :, 0]) - truth
    interpolated_error = decode(analyses.interpolated[:, :, 0]) - truth
    filtered_error = decode(analyses.filtered[:, :, 0]) - truth
    ours, theirs = (
        np.array([rmse(error, weights) for error in errors]) for errors in (analysis_error, interpolated_error)
    )
    forecasts = _forecasts(reduced, linear, emulator, analyses, truth, leads)
    # Forecast `lead` made on day d verifies on day d + 1 + lead.
    pairs = {
        name: [(fc[lead][..., : len(truth) - 1 - lead, :], truth[1 + lead :]) for lead in range(leads)]
        for name, fc in forecasts.items()
    }
    by_method = {
        name: [error, *(forecast - target for forecast, target in pairs[name])]
        for name, error in zip(ANALYSES, (analysis_error, interpolated_error, filtered_error), strict=True)
    }
    intervals, gains = _resampled(by_method, reduced.weights)
    return Scores(
        float(rmse(analysis_error, weights)),
        float(rmse(decode(analyses.background) - truth, weights)),
        float(rmse(interpolated_error, weights)),
        float(rmse(filtered_error, weights)),
        ours,
        theirs,
        float(np.mean(ours < theirs)),
        float(coverage(analysis_error, analyses.spread, weights)),
        float(jnp.mean(analyses.fit)),
        {name: np.array([rmse(f - t, weights) for f, t in by_lead]) for name, by_lead in pairs.items()},
        {name: np.array([anomaly_correlation(f, t, weights) for f, t in by_lead]) for name, by_lead in pairs.items()},
        intervals,
        gains,
    )


def _resampled(
    errors: dict[str, list[Array]], weights: Float[np.ndarray, " points"]
) -> tuple[dict[str, list[Interval]], dict[str, list[Interval]]]:
    """Intervals and gains as in `Scores`, of errors (networks, days, points) by method and lead."""
    intervals: dict[str, list[Interval]] = {name: [] for name in errors}
    gains: dict[str, list[Interval]] = {name: [] for name in errors if name != "forecast"}
    for lead in range(len(errors["forecast"])):
        squares = {
            name: np.asarray(jnp.mean(weights * jnp.square(by_lead[lead]), axis=(0, 2)))
            for name, by_lead in errors.items()
        }
        value = {name: float(np.sqrt(np.mean(daily))) for name, daily in squares.items()}
        drawn = resampled_rmse(squares)
        for name in intervals:
            intervals[name].append(interval(value[name], drawn[name]))
        for name in gains:
            gains[name].append(interval(value[name] - value["forecast"], drawn[name] - drawn["forecast"]))
    return intervals, gains


def _forecasts(
    reduced: ReducedField,
    linear: DirectEmulator,
    emulator: DirectEmulator,
    analyses: DailyAnalyses,
    truth: Float[Array, "days points"],
    leads: int,
) -> dict[str, list[Array]]:
    """Anomaly forecasts on the grid by method and lead, made on each test day: ([networks,] days, points)."""
    train, first, days = reduced.anomalies[reduced.split.train], reduced.split.test.start, len(truth)
    factors = damping_factors(train, reduced.weights, leads)
    today = np.asarray(truth)

    def from_truth(model: DirectEmulator) -> list[Array]:
        states = delay_states(reduced.coefficients[first - model.lags + 1 : first + days], model.lags)
        return _by_lead(reduced, forecast_all(model, jnp.asarray(states)), leads)

    return {
        "forecast": _by_lead(reduced, forecast_all(emulator, analyses.state), leads),
        "climatology": [jnp.zeros_like(truth)] * leads,
        "persistence": list(jnp.asarray(persistence(today, leads))),
        "damped_persistence": list(jnp.asarray(damped_persistence(today, factors))),
        "linear": from_truth(linear),
        "emulator": from_truth(emulator),
        "oi": _by_lead(reduced, forecast_all(emulator, analyses.interpolated), leads),
        "kalman": _by_lead(reduced, forecast_all(linear, analyses.filtered), leads),
    }


def _by_lead(reduced: ReducedField, coefficients: Float[Array, "*cases leads modes"], leads: int) -> list[Array]:
    return [reduced.pod.decode(coefficients[..., lead, :]) for lead in range(leads)]

"""Assimilation of a shallow water run through a trained map from its parameters to all of its fields."""

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from experiments.assimilation_sources import ShallowWaterData, Surrogate
from experiments.reduced_order_data import RomData, make_data
from experiments.reduced_order_methods import NetworksConfig, first_member, fit_direct
from jaxsci.assimilation.background import Background
from jaxsci.assimilation.derivative_check import gradient_relative_error
from jaxsci.assimilation.observation import LinearOperator, observe
from jaxsci.assimilation.trajectory_window import TrajectoryWindow
from jaxsci.assimilation.variational import CONVERGED, GaussNewton, assimilate, posterior_root
from jaxsci.core.config import require
from jaxsci.core.errors import ConfigError
from jaxsci.core.figures import AMBER, BLUE, DIFFERENCE_MAP, GREY, ORANGE, new_figure, style
from jaxsci.core.precision import cast_floating
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.emulators.trajectory import TrajectoryEmulator, predict_all
from jaxsci.emulators.uncertainty import QUANTILE_90

if TYPE_CHECKING:
    from experiments.assimilation import Config


class Problem(NamedTuple):
    """The emulator and all that its windows share."""

    emulator: TrajectoryEmulator
    modes: Float[Array, "points modes"]
    mean: Float[Array, " points"]
    background: Background
    times: tuple[int, ...]
    residuals: Float[Array, "samples points"]
    """Depth that the emulator missed in the validation runs at the observed times: its error covariance."""


class Analysed(NamedTuple):
    parameters: Float[Array, " parameters"]
    spread: Float[Array, " parameters"]
    fit: Float[Array, ""]
    """Twice the least cost over the number of observations."""
    code: Array


def main(config: "Config", source: object, model: Surrogate | None, run: Run) -> tuple[Summary, Report]:
    if not isinstance(source, ShallowWaterData) or model is None:
        raise ConfigError(
            "model, data: networks such as model=na_blstm go with data=shallow_water, and daily fields with neither"
        )
    cells = source.simulation.cells**2
    require(config.stations <= cells, "stations", f"at most the {cells} cells", config.stations)
    seconds: dict[str, float] = {}
    with progress(4, "assimilation") as steps:
        begin = time.perf_counter()
        data = make_data(
            source.family,
            source.simulation,
            runs=source.runs,
            validation=source.validation_runs,
            test=source.test_runs,
            modes=config.modes,
            widest=config.modes,
            together=4,
            seed=config.seed,
            on_runs=lambda _: None,
        )
        seconds["generate"] = time.perf_counter() - begin
        steps.update(stage=f"{source.runs} runs simulated")
        problem = _prepare(config, source, model, data, run, seconds)
        steps.update(stage="emulator trained")
        windows = _draw(config, source, data)
        found, timing = _analyse(config, source, problem, windows, seconds)
        steps.update(stage=f"{len(windows.run)} windows analysed")
        scores = _verify(source, data, problem, windows, found)
        steps.update(stage="verified")
    summary = _summary(config, source, scores, found, timing, seconds)
    return summary, _report(config, source, model, run, data, windows, scores)


class Windows(NamedTuple):
    """Every test run seen by every network."""

    run: np.ndarray
    stations: Float[Array, "windows stations"]
    values: Float[Array, "windows observed stations"]


def _prepare(
    config: "Config", source: ShallowWaterData, model: Surrogate, data: RomData, run: Run, seconds: dict[str, float]
) -> Problem:
    trajectories, split = data.trajectories(), data.split
    networks = NetworksConfig(width=model.width, embedding=model.embedding)
    networks = replace(
        networks,
        direct=replace(networks.direct, steps=model.steps),
        perceptron=replace(networks.perceptron, steps=model.steps),
    )
    fit, validation = trajectories.select(split.fit), trajectories.select(split.validation)
    key = jax.random.key(config.seed)
    stacked, fitted = fit_direct(model.kind, fit, validation, data.family.encode, networks, key=key, on_log=run.log)
    seconds["emulator_compile"], seconds["emulator_train"] = fitted.compile_seconds, fitted.train_seconds
    dtype = jnp.asarray(0.0).dtype
    emulator, pod = cast_floating_arrays(first_member(stacked), dtype), data.pod
    assert pod.mean is not None
    times = tuple(range(source.first, source.first + source.observed))
    guessed = predict_all(emulator, jnp.asarray(validation.parameters, dtype))[:, np.array(times)]
    truth = data.depth[split.validation][:, np.array(times)].reshape(*guessed.shape[:2], -1)
    residuals = (jnp.asarray(truth) - pod.decode(guessed)).reshape(-1, truth.shape[-1])
    low, high = source.family.ranges.T
    spread = jnp.diag(jnp.asarray((high - low) / np.sqrt(12), dtype))  # of an even distribution over the range
    background = Background(jnp.asarray((low + high) / 2, dtype), spread)
    return Problem(emulator, pod.modes, pod.mean, background, times, residuals)


def cast_floating_arrays(model: TrajectoryEmulator, dtype: jnp.dtype) -> TrajectoryEmulator:
    """The emulator with its arrays in `dtype`; functions and sizes pass."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    return eqx.combine(cast_floating(arrays, dtype), rest)


def _draw(config: "Config", source: ShallowWaterData, data: RomData) -> Windows:
    truth = data.depth[data.split.test][:, source.first : source.first + source.observed]
    runs, observed, points = len(truth), source.observed, truth[0, 0].size
    rng = np.random.default_rng(config.seed)
    number = np.repeat(np.arange(runs), config.networks)
    stations = np.stack([rng.choice(points, config.stations, replace=False) for _ in number])
    seen = np.take_along_axis(truth.reshape(runs, observed, points)[number], stations[:, None], axis=2)
    noisy = seen + source.noise_std * rng.standard_normal(seen.shape)
    return Windows(number, jnp.asarray(stations), jnp.asarray(noisy))


def _analyse(
    config: "Config", source: ShallowWaterData, problem: Problem, windows: Windows, seconds: dict[str, float]
) -> tuple[Analysed, dict[str, float]]:
    method = GaussNewton(config.max_iterations, config.tolerance)
    low, high = source.family.ranges.T
    drawn = source.family.sample(source.starts, seed=config.seed)
    starts = jnp.asarray((drawn - (low + high) / 2) / ((high - low) / np.sqrt(12)))

    def window_of(stations: Array, values: Array) -> TrajectoryWindow:
        missed = problem.residuals[:, stations]
        # What the emulator misses hardly changes within a window: as many looks at it are no better than one.
        emulator = source.observed * missed.T @ missed / len(missed)
        covariance = source.noise_std**2 * jnp.eye(len(stations)) + emulator
        observations = observe(values - problem.mean[stations], LinearOperator(problem.modes[stations]), covariance)
        return TrajectoryWindow(problem.emulator, problem.background, observations, problem.times)

    def analyse(stations: Array, values: Array) -> Analysed:
        window = window_of(stations, values)
        solutions = jax.vmap(lambda start: assimilate(window, method, start=start))(starts)
        best = jnp.argmin(jnp.where(jnp.isfinite(solutions.stats.cost), solutions.stats.cost, jnp.inf))
        control = solutions.control[best]
        root = problem.background.root @ posterior_root(window, control)
        fit = 2 * solutions.stats.cost[best] / values.size
        spread = jnp.sqrt(jnp.sum(jnp.square(root), 1))
        return Analysed(problem.background(control), spread, fit, solutions.code[best])

    begin = time.perf_counter()
    program = jax.jit(lambda w: jax.lax.map(lambda one: analyse(*one), w)).lower(windows[1:]).compile()
    seconds["assimilation_compile"] = time.perf_counter() - begin
    begin = time.perf_counter()
    found = jax.block_until_ready(program(windows[1:]))
    seconds["assimilation"] = time.perf_counter() - begin
    first = window_of(windows.stations[0], windows.values[0])
    error = jax.jit(lambda v: gradient_relative_error(first.cost, v, key=jax.random.key(config.seed)))(starts[0])
    timing = {
        "gradient_relative_error": float(error),
        "seconds_4dvar_per_window": seconds["assimilation"] / len(windows.run),
    }
    return found, timing


class FlowScores(NamedTuple):
    analysis: Float[np.ndarray, "windows fields n n"]
    """Analysed and forecast depth, from the first observed field to the last of the run."""
    rmse: Float[np.ndarray, " fields"]
    climatology: Float[np.ndarray, " fields"]
    interpolated: float
    """RMSE of optimal interpolation at the last observed field, from the observations of that field."""
    parameter_error: Float[np.ndarray, "windows parameters"]
    coverage_90: float


def _verify(source: ShallowWaterData, data: RomData, problem: Problem, windows: Windows, found: Analysed) -> FlowScores:
    truth = data.depth[data.split.test][windows.run][:, source.first :]
    coefficients = predict_all(problem.emulator, found.parameters)[:, source.first :]
    analysis = np.asarray(problem.mean + coefficients @ problem.modes.T).reshape(truth.shape)
    climate = data.depth[data.split.train].mean(0)[source.first :]
    rms = lambda error: np.sqrt(np.mean(np.square(error), (0, 2, 3)))  # noqa: E731
    low, high = source.family.ranges.T
    error = np.asarray(found.parameters) - data.parameters[data.split.test][windows.run]
    around = np.where(source.family.periodic, (error / (high - low) + 0.5) % 1 - 0.5, error / (high - low))
    inside = np.abs(around) * (high - low) <= QUANTILE_90 * np.asarray(found.spread)
    return FlowScores(
        analysis,
        rms(analysis - truth),
        rms(climate - truth),
        _interpolation_error(source, data, windows, truth[:, source.observed - 1]),
        around * (high - low),
        float(inside.mean()),
    )


def _interpolation_error(source: ShallowWaterData, data: RomData, windows: Windows, truth: np.ndarray) -> float:
    """Optimal interpolation with the covariance of the training fields of the same time."""
    at = source.first + source.observed - 1
    fields = data.depth[data.split.train][:, at].reshape(-1, truth[0].size)
    mean, anomalies = fields.mean(0), fields - fields.mean(0)
    squares = []
    for stations, values, field in zip(windows.stations, windows.values[:, -1], truth, strict=True):
        seen = anomalies[:, np.asarray(stations)]
        covariance = seen.T @ seen / len(fields) + source.noise_std**2 * np.eye(seen.shape[1])
        weights = np.linalg.solve(covariance, np.asarray(values) - mean[np.asarray(stations)])
        squares.append(np.mean(np.square(mean + anomalies.T @ (seen @ weights) / len(fields) - field.ravel())))
    return float(np.sqrt(np.mean(squares)))


def _summary(
    config: "Config",
    source: ShallowWaterData,
    scores: FlowScores,
    found: Analysed,
    timing: dict[str, float],
    seconds: dict[str, float],
) -> Summary:
    last = source.observed - 1
    metrics = {
        "rmse_analysis": float(scores.rmse[last]),
        "rmse_climatology": float(scores.climatology[last]),
        "rmse_oi": scores.interpolated,
        "rmse_forecast_last": float(scores.rmse[-1]),
        "rmse_climatology_last": float(scores.climatology[-1]),
        "parameter_error_median": float(np.median(np.linalg.norm(scores.parameter_error, axis=1))),
        "coverage_90": scores.coverage_90,
        "cost_per_observation": float(np.mean(found.fit)),
        "converged_share": float(np.mean(np.asarray(found.code) == CONVERGED)),
        **timing,
    }
    references = {
        "rmse_analysis": Reference(scores.interpolated, "optimal interpolation of the last observed field", "lower"),
        "rmse_forecast_last": Reference(float(scores.climatology[-1]), "mean of the training runs", "lower"),
        "gradient_relative_error": Reference(1e-5, "central differences, float64", "lower"),
        "coverage_90": Reference(0.9, "nominal; of the parameters"),
        "cost_per_observation": Reference(1.0, "expected 2J/p where B and R are right"),
    }
    notes = (
        f"RMSE of the depth (m on a mean depth near 1): analysis at the last of {source.observed} observed fields, "
        "forecast at the last field of the run.",
        f"Each window is minimised from {source.starts} first guesses, the least cost counts.",
    )
    return Summary("assimilation", metrics, references, seconds, notes)


def _report(
    config: "Config",
    source: ShallowWaterData,
    model: Surrogate,
    run: Run,
    data: RomData,
    windows: Windows,
    scores: FlowScores,
) -> Report:
    page = Report(
        "A wave from a few gauges",
        f"Where did the wave start, and where will it be? {config.stations} gauges report the depth at "
        f"{source.observed} times with noise {source.noise_std:g}; 4D-Var finds the parameters of the run through the "
        f"network '{model.kind}', which gives all fields in one call. {len(windows.run)} windows.",
    )
    page.figure(
        "fields",
        run.figure("fields", fields(source, data, windows, scores)),
        "Truth, analysis (at the last observed time) and forecasts of the first window; dots are the gauges.",
    )
    page.figure(
        "rmse",
        run.figure("rmse", rmse_in_time(source, scores)),
        "Error of the depth over all windows; observations end at the shaded edge.",
    )
    return page.text(
        "The control is the vector of parameters; its background is the even distribution over the training range. R "
        "is the gauges' noise plus the covariance of what the emulator misses in the validation runs, times the number "
        "of observed times. Gauss-Newton starts from several first guesses, as positions on a circle have several "
        "minima; the posterior covariance is that of the last iteration.",
        title="How it is done",
    )


@style()
def fields(source: ShallowWaterData, data: RomData, windows: Windows, scores: FlowScores) -> Figure:
    truth = data.depth[data.split.test][windows.run[0], source.first :]
    last = len(truth) - 1
    at = sorted({source.observed - 1, (source.observed - 1 + last) // 2, last})
    figure, axes = new_figure(2, len(at), (3.2 * len(at), 6))
    stations = np.asarray(windows.stations[0])
    n = truth.shape[-1]
    for column, number in enumerate(at):
        middle = float(np.median(truth[number]))
        limit = float(np.abs(truth[number] - middle).max())
        for axis, picture in zip(axes[:, column], (truth[number], scores.analysis[0, number]), strict=True):
            image = axis.imshow(
                picture.T,
                origin="lower",
                cmap=DIFFERENCE_MAP,
                vmin=middle - limit,
                vmax=middle + limit,
                extent=(-0.5, 0.5, -0.5, 0.5),
            )
            axis.plot((stations // n + 0.5) / n - 0.5, (stations % n + 0.5) / n - 0.5, "k.", markersize=3)
            axis.grid(False)
            axis.set(xticks=[-0.5, 0, 0.5], yticks=[-0.5, 0, 0.5])
        axes[0, column].set_title(f"t = {source.simulation.times[source.first + number]:.2f}")
        figure.colorbar(image, ax=axes[:, column], location="bottom", label="depth", shrink=0.8)
    axes[0, 0].set_ylabel("truth")
    axes[1, 0].set_ylabel("analysis, forecast")
    return figure


@style()
def rmse_in_time(source: ShallowWaterData, scores: FlowScores) -> Figure:
    figure, axes = new_figure(1, 1, (8, 4.2))
    axis, times = axes[0, 0], source.simulation.times[source.first :]
    axis.axvspan(times[0], times[source.observed - 1], color="0.93", zorder=0)
    axis.plot(times, scores.rmse, color=BLUE, label="4D-Var: analysis, then forecast")
    axis.plot(times, scores.climatology, ":", color=GREY, label="mean of the training runs")
    axis.plot([times[source.observed - 1]], [scores.interpolated], "s", color=ORANGE, label="optimal interpolation")
    axis.axhline(source.noise_std, color=AMBER, linestyle="--", linewidth=1.2, label="noise of a gauge")
    axis.set(xlabel="time", ylabel="RMSE of the depth", ylim=(0, None), xlim=(times[0], times[-1]))
    axis.legend()
    return figure

"""A sharded transformer forecasts reduced weather, and stands in 4D-Var where the linear emulator stood."""

from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments import sequence_emulator_report as pages
from experiments import weather
from experiments.sequence_emulator_model import (
    NetworkConfig,
    TransformerEmulator,
    adjoint_relative_error,
    base_of,
    largest_difference,
    train,
)
from jaxsci.assimilation.bootstrap import Interval, interval, resampled_rmse
from jaxsci.assimilation.daily import DailyAnalyses
from jaxsci.assimilation.forced_emulator import ForcedEmulator
from jaxsci.assimilation.scores import Scores, score
from jaxsci.assimilation.timing import time_window
from jaxsci.core.config import positive, require
from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.emulators import DirectEmulator, LinearEmulator, ReducedField
from jaxsci.emulators.delay import delay_states
from jaxsci.emulators.skill import forecast_all
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.resume import MeshCheckpoints

NAMES = ("climatology", "persistence", "damped_persistence", "linear", "emulator")
"""Forecasts from the true state, as `Scores.rmse` calls them; `emulator` is the transformer."""


@dataclass(frozen=True, kw_only=True)
class Config(weather.WeatherConfig):
    """The transformer is trained over `mesh` and, with `unsharded`, once more on one device, to be compared.

    `networks` of `stations` observe; the linear emulator and the transformer analyse the same observations.
    """

    stations: int = 30
    network: NetworkConfig = field(default_factory=NetworkConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    unsharded: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "stations")
        require(self.window >= 1, "window", "1 day or more", self.window)
        require(
            self.network.lags >= self.emulator.linear.lags,
            "network.lags",
            "those of the linear map or more",
            self.network.lags,
        )
        require(self.emulator.ensemble == "none", "emulator.ensemble", "none here", self.emulator.ensemble)
        require(self.emulator.choose == "linear", "emulator.choose", "linear, the rival here", self.emulator.choose)


class Analysed(NamedTuple):
    analyses: DailyAnalyses
    scores: Scores


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    seconds: dict[str, float] = {}
    reduced = weather.load(config, config.stations)
    rival = weather.train(config, reduced, run, seconds)
    emulator, curves, difference = _train(config, reduced, rival.linear, run, seconds)
    ours = rival._replace(used=ForcedEmulator(emulator, config.window), chosen="transformer")
    analysed: dict[str, Analysed] = {}
    with progress(3, "4D-Var") as steps:
        for name, emulators in (("linear", rival), ("transformer", ours)):
            analyser = weather.analyser(config, config.stations, reduced, emulators)
            analyses, truth = weather.assimilate(config, analyser, reduced, seconds)
            found = score(reduced, rival.linear, emulators.used, analyses, jnp.asarray(truth), config.leads)
            analysed[name] = Analysed(analyses, found)
            steps.update(stage=f"analysed with the {name} emulator")
        key = jax.random.key(config.seed)
        timing = time_window(analyser, weather.observed_span(reduced), key=key)  # the transformer's
        adjoint = adjoint_relative_error(
            emulator, analysed["transformer"].analyses.state[0, 0, : emulator.lags], key=key
        )
        steps.update(stage="derivatives checked")
    gains = _gains(reduced, rival.linear, emulator, analysed, config.leads)
    metrics = {
        **_skill(config, analysed),
        "gradient_relative_error": timing.gradient_relative_error,
        "adjoint_relative_error": adjoint,
        "seconds_4dvar_per_window": timing.seconds_4dvar_per_window,
        **({} if difference is None else {"sharded_minus_unsharded": difference}),
        "devices": make_mesh(config.mesh).size,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(emulator.params)),
        "correction_kept": float(emulator.shrink),
    }
    for when, gain in gains.items():
        metrics |= {f"gain_over_linear_m_{when}": gain.value}
        metrics |= {f"gain_over_linear_m_{when}_low": gain.low, f"gain_over_linear_m_{when}_high": gain.high}
    summary = Summary("sequence_emulator", metrics, _references(analysed, difference), seconds, _notes(gains))
    return summary, pages.report(config, run, reduced, emulator, curves, analysed, gains, summary)


def _train(
    config: Config, reduced: ReducedField, linear: LinearEmulator, run: Run, seconds: dict[str, float]
) -> tuple[TransformerEmulator, pages.Curves, float | None]:
    """The emulator trained over the mesh, its curves, and how far one device alone comes out from it."""
    fit, validation = (reduced.coefficients[s] for s in (reduced.split.train, reduced.split.validation))
    model, base = config.network.model(config.modes), base_of(config.network, fit, linear)
    mesh, plan, curves = make_mesh(config.mesh), config.parallel, []
    with (
        MeshCheckpoints(run.checkpoint_directory, model, plan, mesh) as checkpoints,
        progress(config.network.steps, "steps") as bar,
    ):
        shown = 0

        def on_log(metrics: dict[str, float], at: int) -> None:
            nonlocal shown
            run.log(metrics, at)
            curves.append((at, metrics))
            bar.update(at - shown, **metrics)
            shown = at

        sharded = train(
            fit,
            validation,
            base,
            config.network,
            plan,
            mesh,
            checkpoints=checkpoints,
            best_path=run.checkpoint_directory / "best.npz",
            on_log=on_log,
            seed=config.seed,
        )
    stats = sharded.outcome.stats
    seconds |= {"network_compile": stats["compile_seconds"], "network_train": stats["train_seconds"]}
    if not config.unsharded or mesh.size == 1:
        return sharded.emulator, curves, None
    one = make_mesh(MeshConfig(data=1), list(mesh.devices.ravel()[:1]))
    alone = train(fit, validation, base, config.network, plan, one, seed=config.seed)
    seconds["network_train_unsharded"] = alone.outcome.stats["train_seconds"]
    return sharded.emulator, curves, largest_difference(sharded.last, alone.last, validation)


def _skill(config: Config, analysed: dict[str, Analysed]) -> dict[str, float]:
    ours, linear = analysed["transformer"].scores, analysed["linear"].scores
    days = range(1, config.leads + 1)
    return {
        "rmse_analysis_m": ours.analysis,
        "rmse_analysis_linear_m": linear.analysis,
        "rmse_background_m": ours.background,
        "rmse_background_linear_m": linear.background,
        "rmse_oi_m": ours.interpolated,
        **{f"rmse_forecast_m_day{d}": ours.rmse["forecast"][d - 1] for d in days},
        **{f"rmse_forecast_linear_m_day{d}": linear.rmse["forecast"][d - 1] for d in days},
        **{f"rmse_{name}_m_day{d}": ours.rmse[name][d - 1] for name in NAMES for d in days},
        "coverage_90": ours.coverage_90,
        "coverage_90_linear": linear.coverage_90,
        "cost_per_observation": ours.fit,
        "cost_per_observation_linear": linear.fit,
    }


def _gains(
    reduced: ReducedField,
    linear: DirectEmulator,
    emulator: TransformerEmulator,
    analysed: dict[str, Analysed],
    leads: int,
) -> dict[str, Interval]:
    """RMSE of the linear emulator less the transformer's on the test days: of each lead from the true state
    (`day1` ...), of the analysis and of the forecasts from it (`analysis`, `forecast_day1` ...)."""
    test = reduced.split.test
    days = analysed["linear"].analyses.state.shape[1]
    truth, weights = reduced.anomalies[test][:days], jnp.asarray(reduced.weights)

    def squares(coefficients: Float[Array, "... days modes"], lead: int) -> Float[np.ndarray, " days"]:
        """Each day's, of what is said `lead` days ahead."""
        said = reduced.pod.decode(coefficients[..., : days - lead, :])
        error = jnp.mean(weights * jnp.square(said - truth[lead:]), axis=-1)
        return np.asarray(error.reshape(-1, days - lead).mean(0))

    found: dict[str, dict[str, np.ndarray]] = {}
    for name, model in (("linear", linear), ("transformer", emulator)):
        states = jnp.asarray(
            delay_states(reduced.coefficients[test.start - model.lags + 1 : test.start + days], model.lags)
        )
        of_truth, of_analysis = (
            forecast_all(model, s) for s in (states, analysed[name].analyses.state[..., : model.lags, :])
        )
        found.setdefault("analysis", {})[name] = squares(analysed[name].analyses.state[..., 0, :], 0)
        for lead in range(1, leads + 1):
            found.setdefault(f"day{lead}", {})[name] = squares(of_truth[..., lead - 1, :], lead)
            found.setdefault(f"forecast_day{lead}", {})[name] = squares(of_analysis[..., lead - 1, :], lead)
    gains = {}
    for when, both in found.items():
        value = {name: float(np.sqrt(np.mean(daily))) for name, daily in both.items()}
        drawn = resampled_rmse(both)
        gains[when] = interval(value["linear"] - value["transformer"], drawn["linear"] - drawn["transformer"])
    return gains


def _references(analysed: dict[str, Analysed], difference: float | None) -> dict[str, Reference]:
    ours, linear = analysed["transformer"].scores, analysed["linear"].scores
    cheap = min(ours.rmse["persistence"][0], ours.rmse["climatology"][0])
    references = {
        "rmse_emulator_m_day1": Reference(linear.rmse["linear"][0], "the linear emulator, same days", "lower"),
        "rmse_linear_m_day1": Reference(cheap, "the better of persistence and climatology", "lower"),
        "rmse_analysis_m": Reference(linear.analysis, "4D-Var through the linear emulator", "lower"),
        "rmse_forecast_m_day1": Reference(
            linear.rmse["forecast"][0], "the linear emulator from its own analyses", "lower"
        ),
        "gradient_relative_error": Reference(1e-5, "central differences, float64", "lower"),
        "adjoint_relative_error": Reference(1e-10, "float64", "lower"),
        "coverage_90": Reference(0.9, "nominal"),
    }
    if difference is not None:
        references["sharded_minus_unsharded"] = Reference(1e-3, "float32 rounding, grown over the training", "lower")
    return references


def _notes(gains: dict[str, Interval]) -> tuple[str, ...]:
    kinds: dict[str, list[str]] = {"better": [], "worse": [], "not distinguishable": []}
    for when, gain in gains.items():
        kinds["better" if gain.low > 0 else "worse" if gain.high < 0 else "not distinguishable"].append(
            when.replace("_", " ").replace("day", "day ")
        )
    verdict = "; ".join(f"{kind}: {', '.join(where)}" for kind, where in kinds.items() if where)
    return (
        f"The transformer against the linear emulator (95 % of 2000 block bootstraps over the test days) - {verdict}.",
        "rmse_emulator, rmse_linear, rmse_persistence and rmse_climatology start from the true state; rmse_forecast "
        "from the 4D-Var analysis of noisy stations, made through the same emulator.",
        "correction_kept: how much of the network's correction the validation span supports, 0 to 1.",
    )

"""Twin experiments: a method must find a model's truth from noisy observations of it, for any system and method."""

import time
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments import twin_stabilized_ks, twin_systems  # noqa: F401  (their systems join the family)
from experiments.settings import Settings
from jaxsci.assimilation.methods import Method
from jaxsci.assimilation.systems import System
from jaxsci.assimilation.twin import TwinResult, climatology, scores, seed_keys, standard_error, twin_experiment
from jaxsci.core.config import between, positive, require, to_mapping
from jaxsci.core.figures import AMBER, BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary

CLIMATE_STEPS = 20_000  # of an independent run: its covariances are then known to about 2 %


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`observe_every` (model steps), `noise` (variance) and `burn_in` (time) are the system's own where null.

    `observed` lists the observed variables, null leaves them to the system; `missing` is the share of observations
    lost at random. `noise_scale` multiplies R in the method's eyes only, not the errors. `climate` is where
    climatological covariances come from: each seed's own truth (as DAPPER does) or an independent run.
    """

    model: System
    method: Method
    cycles: int = 1000
    seeds: int = 8
    observe_every: int | None = None
    noise: float | None = None
    burn_in: float | None = None
    observed: tuple[int, ...] | None = None
    missing: float = 0.0
    noise_scale: float = 1.0
    climate: Literal["truth", "independent"] = "truth"

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "cycles", "seeds", "observe_every", "noise", "noise_scale")
        between(self, "missing", 0.0, 0.99)
        require(self.burn_in is None or self.burn_in >= 0, "burn_in", "0 or more", self.burn_in)
        require(self.precision == "float64", "precision", "float64 for twin experiments", self.precision)


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    system, key = config.model, jax.random.key(config.seed)
    every = config.observe_every or system.observe_every
    noise = system.noise if config.noise is None else config.noise
    interval = every * system.dt
    burn_in = round((system.burn_in if config.burn_in is None else config.burn_in) / interval)
    burn_in = min(burn_in, config.cycles // 2)  # half a short experiment is scored, whatever its burn-in
    climate = None
    if config.climate == "independent":
        far = jax.random.fold_in(key, config.seeds)
        climate = climatology(system.truth(), system.start(), steps=CLIMATE_STEPS, spin_up=1000, key=far)
    experiment = twin_experiment(
        system.model(),
        config.method,
        start=system.start(),
        observe_every=every,
        noise=noise,
        cycles=config.cycles,
        observed=system.observed() if config.observed is None else config.observed,
        climate=climate,
        missing=config.missing,
        dt=system.dt,
        verify_members=True,
        truth_model=system.truth(),
        places=system.places(),
        noise_scale=config.noise_scale,
    )
    keys = seed_keys(config.seeds, key=key)
    with progress(2, "twin") as steps:
        begin = time.perf_counter()
        program = jax.jit(jax.vmap(experiment)).lower(keys).compile()
        seconds = {"compile": time.perf_counter() - begin}
        steps.update(stage="compiled")
        begin = time.perf_counter()
        result = scores(jax.block_until_ready(program(keys)), burn_in)
        seconds["run"] = time.perf_counter() - begin
        steps.update(stage=f"{config.seeds} seeds x {config.cycles} cycles")
    for seed in range(config.seeds):
        run.log({name: float(values[seed]) for name, values in _columns(result).items()}, seed)
    summary = _summary(config, result, noise, seconds)
    page = _report(config, run, result, noise, interval)
    return summary, page


def _columns(result: TwinResult) -> dict[str, np.ndarray]:
    return {
        "rmse_analysis": result.rmse_analysis,
        "rmse_forecast": result.rmse_forecast,
        "rmse_smoothed": result.rmse_smoothed,
        "spread": result.spread,
        "fit": result.fit,
        "lost_share": result.lost,
        "diverged": result.diverged.astype(float),
    }


def _summary(config: Config, result: TwinResult, noise: float, seconds: dict[str, float]) -> Summary:
    metrics: dict[str, float] = {}
    for name in ("rmse_analysis", "rmse_forecast", "rmse_smoothed", "spread"):
        values = _columns(result)[name]
        metrics[name] = float(np.mean(values))
        metrics[f"{name}_standard_error"] = standard_error(values)
    metrics |= {
        "rmse_analysis_worst_seed": float(np.max(result.rmse_analysis)),
        "rmse_climatology": float(np.mean(result.track.climate)),
        "fit": float(np.mean(result.fit)),
        "lost_share": float(np.mean(result.lost)),
        "diverged_share": float(np.mean(result.diverged)),
        "microseconds_per_cycle_and_seed": 1e6 * seconds["run"] / config.cycles / config.seeds,
    }
    if result.track.crps is not None:
        crps = np.asarray(result.track.crps)[:, result.burn_in :]
        metrics["crps"] = float(np.mean(crps[np.isfinite(crps)])) if np.isfinite(crps).any() else 0.0
        metrics["rank_outside_ratio"] = _outside(_ranks(result))
    references = {
        "rmse_analysis": Reference(float(np.sqrt(noise)), "the observations' own error", "lower"),
        "fit": Reference(1.0, "prior and R right"),
    }
    notes = [f"{result.burn_in} of {config.cycles} cycles are burn-in and do not count.", f"{result.result}."]
    if config.climate == "truth":
        notes.append("Climatological covariances come from each seed's own truth, as DAPPER takes them.")
    return Summary("twin", metrics, references, seconds, tuple(notes))


def _report(config: Config, run: Run, result: TwinResult, noise: float, interval: float) -> Report:
    page = Report(
        f"Twin experiment: {config.method.kind} on {config.model.kind}",
        f"How well does {config.method.kind} find the state of {config.model.kind} from observations every "
        f"{interval:g} time units with error variance {noise:g}? {config.seeds} independent truths, {config.cycles} "
        "cycles each.",
    )
    page.figure(
        "rmse",
        run.figure("rmse", rmse_over_time(result, float(np.sqrt(noise)), interval)),
        f"Analysis error of every seed and its mean, and the error the method believes in. Means over "
        f"{max(len(result.track.analysis[0]) // 100, 1)} cycles; the shaded burn-in does not count.",
    )
    if result.track.ranks is not None:
        page.figure(
            "rank_histogram",
            run.figure("rank_histogram", draw_ranks(_ranks(result))),
            "Where the truth lies among the analysed members, all variables, seeds and cycles after burn-in: flat "
            "where the ensemble is as wide as it is wrong, high at the ends where it is too narrow.",
        )
    columns = _columns(result)
    page.table(
        "Seeds",
        ("seed", *columns),
        [(seed, *(float(v[seed]) for v in columns.values())) for seed in range(config.seeds)],
        caption="lost_share: share of cycles not finite, or worse than climatology without the method knowing.",
    )
    page.table("Method", ("setting", "value"), [(k, str(v)) for k, v in to_mapping(config.method).items()])
    return page


def _ranks(result: TwinResult) -> np.ndarray:
    """Share of each rank, after burn-in."""
    counts = np.asarray(result.track.ranks)[:, result.burn_in :].sum(axis=(0, 1))
    return counts / counts.sum()


def _outside(share: np.ndarray) -> float:
    """How many times as often as expected the truth lies outside all members."""
    return float((share[0] + share[-1]) / (2 / len(share)))


@style()
def draw_ranks(share: np.ndarray) -> Figure:
    figure, axes = new_figure(1, 1, (7, 3.6))
    axes[0, 0].bar(np.arange(len(share)), share * len(share), width=0.9, color=BLUE)
    axes[0, 0].axhline(1.0, color=GREY, linestyle="--", label="reliable ensemble")
    axes[0, 0].set(xlabel="members below the truth", ylabel="frequency over expected")
    axes[0, 0].legend()
    return figure


@style()
def rmse_over_time(result: TwinResult, observation_error: float, interval: float) -> Figure:
    figure, axes = new_figure(1, 1, (9, 4.6))
    axis, errors = axes[0, 0], np.asarray(result.track.analysis)
    cycles = errors.shape[1]
    block = max(cycles // 100, 1)
    used = cycles // block * block
    time_axis = interval * (np.arange(used // block) + 0.5) * block

    def smooth(values: np.ndarray) -> np.ndarray:
        return np.asarray(values)[..., :used].reshape(*values.shape[:-1], -1, block).mean(axis=-1)

    for row in smooth(errors):
        axis.plot(time_axis, row, color=BLUE, alpha=0.25, linewidth=0.8)
    axis.plot(time_axis, smooth(errors).mean(axis=0), color=BLUE, label="analysis error")
    spread = smooth(np.asarray(result.track.spread)).mean(axis=0)
    axis.plot(time_axis, spread, color=ORANGE, linestyle="--", label="spread")
    climate = float(np.mean(result.track.climate))
    for level, label, colour in ((climate, "climatology", GREY), (observation_error, "observation error", AMBER)):
        axis.axhline(level, color=colour, linestyle=":", label=label)
    axis.axvspan(0, result.burn_in * interval, color="0.93", zorder=0)
    axis.set(xlabel="time (model units)", ylabel="RMSE (state units)", yscale="log", xlim=(0, interval * cycles))
    axis.legend(ncols=2)
    return figure

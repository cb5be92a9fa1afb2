"""Learned models of a decaying system: do they keep its spectrum and follow its shocks, from clean and noisy starts?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments import stabilized_ode_figures as figures
from jaxsci.core.config import positive, require
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.dynamics.attractor_statistics import energy, energy_spectrum, spectrum_error
from jaxsci.dynamics.burgers import shock
from jaxsci.dynamics.forecast_skill import relative_error
from jaxsci.emulators.stabilized_ode.evaluation import forecasts
from jaxsci.emulators.stabilized_ode.model import StabilizedOde
from jaxsci.emulators.stabilized_ode.trajectories import trajectories_from

if TYPE_CHECKING:
    from experiments.stabilized_ode import Config


@dataclass(frozen=True)
class TransientEvaluation:
    """`starts` forecasts over `time`; `noise` is that of the start, white, as a share of its RMS.

    The truth starts from the clean field: a good model forgets the noise.
    """

    starts: int = 16
    time: float = 1.0
    noise: tuple[float, ...] = (0.0, 0.01, 0.1)

    def __post_init__(self) -> None:
        positive(self, "starts", "time")
        require(len(self.noise) > 0 and min(self.noise) >= 0, "noise", "levels of 0 or more", self.noise)


class Truth(NamedTuple):
    u: Float[np.ndarray, "starts times n"]
    """The clean start first."""


def truth(config: "Config", *, key: jax.Array) -> Truth:
    system, ask = config.system, config.transient
    steps = round(ask.time / system.dt)
    starts = system.starts(ask.starts, key=key)
    return Truth(trajectories_from(system.step(), starts, settle=round(system.settle / system.dt), times=steps + 1))


def parts(
    models: StabilizedOde, config: "Config", truth: Truth, *, label: str, key: jax.Array
) -> dict[str, Callable[[dict], dict]]:
    """The evaluation, in one part."""
    return {"forecasts": lambda _: _forecasts(models, config, truth, label, key=key)}


def _forecasts(models: StabilizedOde, config: "Config", truth: Truth, label: str, *, key: jax.Array) -> dict:
    """Arrays `[noise seeds ..]`."""
    system, ask = config.system, config.transient
    clean, after = truth.u[:, 0], truth.u[:, 1:]
    place, steepness = (np.asarray(a) for a in shock(jnp.asarray(after), system.length))
    rows: list[dict[str, np.ndarray]] = []
    with progress(len(ask.noise), f"evaluating {label}") as bar:
        for level, share in enumerate(ask.noise):
            draw = jax.random.normal(jax.random.fold_in(key, level), clean.shape)
            start = clean + share * np.sqrt(np.mean(clean**2)) * np.asarray(draw)
            ahead = forecasts(models, jnp.asarray(start, jnp.float32), after.shape[1])
            finite = jnp.where(jnp.isfinite(ahead), ahead, 0.0)
            found, found_steepness = (np.asarray(a) for a in shock(finite, system.length))
            apart = np.abs(found - place)
            apart = np.minimum(apart, system.length - apart)
            bounded = np.asarray(jnp.all(energy(ahead) <= system.energy_limit, axis=-1))
            rows.append(
                {
                    "error": np.asarray(jnp.mean(jnp.minimum(relative_error(ahead, jnp.asarray(after)), 10.0), axis=1)),
                    "spectrum": np.asarray(jnp.mean(energy_spectrum(finite[:, :, -1]), axis=1), np.float64),
                    "shock_error": apart.mean(axis=(1, 2)),
                    "steepness_error": np.mean(
                        np.abs(np.log(np.maximum(found_steepness, 1e-6) / steepness)), axis=(1, 2)
                    ),
                    "bounded": bounded.mean(axis=1),
                    "example": np.asarray(ahead[0, 0]),
                }
            )
            bar.update(noise=share)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def scores(found: dict, truth: Truth) -> dict[str, float]:
    """Of the clean starts, then of every noise level by its number."""
    reference = np.asarray(energy_spectrum(jnp.asarray(truth.u[:, -1])).mean(axis=0))
    modes = slice(1, len(reference) * 2 // 3)
    result: dict[str, float] = {}
    for level in range(len(found["error"])):
        suffix = f"_level_{level}"
        spectra = [spectrum_error(s, reference, modes) for s in found["spectrum"][level]]
        result |= {
            f"spectrum_error_decades{suffix}": float(np.mean(spectra)),
            f"shock_error{suffix}": float(found["shock_error"][level].mean()),
            f"steepness_error{suffix}": float(found["steepness_error"][level].mean()),
            f"relative_error{suffix}": float(found["error"][level][:, -1].mean()),
            f"bounded_fraction{suffix}": float(found["bounded"][level].mean()),
        }
    return result


def extras(models: StabilizedOde, config: "Config", found: dict, truth: Truth, *, key: jax.Array) -> None:
    """Nothing: a decaying system has no exponents whose gaps would propose a dimension."""


def summary(
    config: "Config",
    results: dict[str, dict],
    truth: Truth,
    findings: None,
    seconds: dict[str, float],
    notes: tuple[str, ...],
) -> Summary:
    metrics = {
        f"{metric}_{name}": value for name, found in results.items() for metric, value in scores(found, truth).items()
    }
    references = {}
    if {"ours", "standard"} <= results.keys():
        for level in range(len(config.transient.noise)):
            for metric in ("spectrum_error_decades", "shock_error"):
                key = f"{metric}_level_{level}"
                references[f"{key}_ours"] = Reference(metrics[f"{key}_standard"], "standard neural ODE", "lower")
    levels = ", ".join(f"{n}: {share:g}" for n, share in enumerate(config.transient.noise))
    notes += (
        f"Noise levels, white, as a share of the start's RMS: {levels}.",
        "shock_error is the distance of the steepest descent from the true one, mean over times, starts and seeds; "
        "steepness_error the mean absolute logarithm of the ratio of steepnesses; spectra are those at the end.",
    )
    return Summary("stabilized_ode", metrics, references, seconds, notes)


def report(
    config: "Config",
    run: Run,
    results: dict[str, dict],
    truth: Truth,
    findings: None,
    symbols: dict[str, np.ndarray],
) -> Report:
    system, ask = config.system, config.transient
    page = Report(
        "Neural ODEs of decaying Burgers turbulence",
        f"Which learned right-hand side keeps the spectrum and follows the shocks of the viscous Burgers equation "
        f"({system.points} points, length {system.length:g}), from clean and from noisy starts? {config.seeds} "
        "networks of each kind.",
    )
    rows = []
    for name, found in results.items():
        s = scores(found, truth)
        for level, share in enumerate(ask.noise):
            keys = ("relative_error", "spectrum_error_decades", "shock_error", "steepness_error", "bounded_fraction")
            rows.append((name, share, *(s[f"{key}_level_{level}"] for key in keys)))
    columns = (
        "model",
        "noise",
        "relative error",
        "spectrum error (decades)",
        "shock error",
        "steepness error",
        "bounded",
    )
    page.table("Models", columns, rows, f"Relative and spectrum error (decades) at time {ask.time:g}.")
    pictures = {
        "space_time": (
            figures.space_time(truth.u[0, 1:], {n: f["example"][0] for n, f in results.items()}, system),
            "One forecast from a clean start, first seed. Blank where a model blew up.",
        ),
        "errors": (
            figures.errors({n: f["error"][0] for n, f in results.items()}, system.dt, None),
            f"Relative error from clean starts, mean over {ask.starts}; thin lines are seeds.",
        ),
        "spectra": (
            figures.spectra(truth.u[:, -1], {n: f["spectrum"][0] for n, f in results.items()}, symbols, system),
            f"Left: energy spectrum at time {ask.time:g}, from clean starts. Right: growth rates of the linear term.",
        ),
    }
    for name, (figure, caption) in pictures.items():
        page.figure(name, run.figure(name, figure), caption)
    return page

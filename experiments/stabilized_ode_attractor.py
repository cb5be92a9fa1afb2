"""Learned models of a system with an attractor: do they forecast, have its statistics and exponents, and stay on it?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments import stabilized_ode_coefficients as coefficients
from experiments import stabilized_ode_figures as figures
from experiments.stabilized_ode_coefficients import Findings
from jaxsci.core.config import between, positive, require
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.dynamics import lyapunov_spectrum
from jaxsci.dynamics.attractor_statistics import (
    Bins,
    Joint,
    balance,
    energy_spectrum,
    joint_density,
    joint_divergence,
    spectrum_error,
)
from jaxsci.dynamics.forecast_skill import correlation_time, relative_error, survival, valid_time
from jaxsci.dynamics.periodic import mode_noise
from jaxsci.emulators.stabilized_ode.evaluation import attractor_sample, forecasts, leading_exponents, long_run
from jaxsci.emulators.stabilized_ode.model import StabilizedOde
from jaxsci.emulators.stabilized_ode.trajectories import trajectories_from

if TYPE_CHECKING:
    from experiments.stabilized_ode import Config

BIN_TIME, CHUNK_TIME = 10.0, 1000.0  # energies are kept as their largest value in so much time
ALLOWED = 10.0  # time to recover from a disturbed start
SETTLE = 100.0  # time a model has to find its own attractor before its statistics are taken
SLACK = 1.01  # a clipped state lies on the limit, to within rounding


@dataclass(frozen=True)
class AttractorEvaluation:
    """Times are in time units of the system.

    - `forecast_starts`, `forecast_time`: of the valid times.
    - `sample_starts`, `sample_time`, `sample_every`: of the statistics, for each seed; the truth gets two such sets.
    - `exponents`, `exponent_time`: how many leading exponents, averaged over how long, from `sample_starts` states.
    - `horizon`: of the long runs; one trajectory of each seed and noise level, `noise` being the RMS of a random field
      in the Fourier modes `noise_modes` (first, last) added to its start. Models without a guard run for
      `unguarded_horizon`: a longer run could only lower their share of bounded trajectories.
    """

    forecast_starts: int = 64
    forecast_time: float = 110.0
    sample_starts: int = 8
    sample_time: float = 2000.0
    sample_every: float = 5.0
    exponents: int = 5
    exponent_time: float = 1500.0
    horizon: float = 1e5
    unguarded_horizon: float = 1e5
    noise: tuple[float, ...] = (0.0, 0.1, 1.0, 10.0)
    noise_modes: tuple[int, int] = (20, 31)

    def __post_init__(self) -> None:
        positive(self, "forecast_starts", "forecast_time", "sample_starts", "sample_time", "sample_every")
        positive(self, "exponents", "exponent_time", "horizon", "unguarded_horizon")
        require(len(self.noise) > 0 and min(self.noise) >= 0, "noise", "levels of 0 or more", self.noise)
        require(self.noise_modes[0] <= self.noise_modes[1], "noise_modes", "first and last", self.noise_modes)
        between(self, "exponents", 1, 64)


class Truth(NamedTuple):
    """What the models are held to."""

    forecast: Float[np.ndarray, "starts times n"]
    samples: Float[np.ndarray, "starts samples n"]
    joint: Joint
    floor: float
    """KL of two sets of samples of the truth."""
    exponents: Float[np.ndarray, " count"]
    exponents_error: Float[np.ndarray, " count"]


def _zero_mean(q: Array) -> Array:
    return q - jnp.mean(q)


def truth(config: "Config", *, key: jax.Array) -> Truth:
    system, ask = config.system, config.attractor
    settle = round(system.settle / system.dt)
    keys = jax.random.split(key, 3)
    starts = system.starts(ask.forecast_starts, key=keys[0])
    steps = round(ask.forecast_time / system.dt)
    forecast = trajectories_from(system.step(), starts, settle=settle, times=steps + 1)
    every, samples = round(ask.sample_every / system.dt), round(ask.sample_time / ask.sample_every)
    starts = system.starts(2 * ask.sample_starts, key=keys[1])
    dense = trajectories_from(system.step(), starts, settle=settle, times=every * (samples - 1) + 1)[:, ::every]
    first, second = dense[: ask.sample_starts], dense[ask.sample_starts :]
    joint = joint_density(first, system.length)
    floor = joint_divergence(joint, joint_density(second, system.length)).kl
    found = lyapunov_spectrum(
        system.step(),
        jnp.asarray(dense[:, -1]),
        dt=system.dt,
        count=ask.exponents,
        duration=ask.exponent_time,
        project=_zero_mean,
        key=keys[2],
    ).chaotic(0.03)
    return Truth(forecast, first, joint, floor, found.mean, found.standard_error)


def parts(
    models: StabilizedOde, config: "Config", truth: Truth, *, label: str, key: jax.Array
) -> dict[str, Callable[[dict], dict]]:
    """The evaluation in parts, each a function of what the parts before it found; arrays with a leading seed axis."""
    return {
        "forecasts": lambda _: _forecasts(models, config, truth),
        "statistics": lambda _: _sample(models, config, truth),
        "exponents": lambda found: _exponents(models, config, found["ends"], key=key),
        "survival": lambda _: _survival(models, config, _single(truth.samples[:, 0]), label, key=key),
    }


def _single(a: np.ndarray) -> Array:
    """In the precision of the networks."""
    return jnp.asarray(a, jnp.float32)


def _forecasts(models: StabilizedOde, config: "Config", truth: Truth) -> dict[str, np.ndarray]:
    after, dt = jnp.asarray(truth.forecast[:, 1:]), config.system.dt
    ahead = forecasts(models, _single(truth.forecast[:, 0]), after.shape[1])
    return {
        "valid_time": np.asarray(valid_time(ahead, after, dt)),
        "valid_time_half": np.asarray(valid_time(ahead, after, dt, 0.5)),
        "correlation_time": np.asarray(correlation_time(ahead, after, dt)),
        "error": np.asarray(jnp.mean(jnp.minimum(relative_error(ahead, after), 10.0), axis=1)),
        "example": np.asarray(ahead[0, 0]),
    }


def _sample(models: StabilizedOde, config: "Config", truth: Truth) -> dict[str, np.ndarray]:
    system, every = config.system, round(config.attractor.sample_every / config.system.dt)
    samples = attractor_sample(
        models,
        _single(truth.samples[:, 0]),
        samples=truth.samples.shape[1],
        every=every,
        settle=round(SETTLE / system.dt),
    )
    ends = np.where(np.isfinite(samples[:, :, -1]), samples[:, :, -1], truth.samples[None, :, -1])
    return _statistics(samples, truth, system.length) | {"ends": ends}


def _exponents(models: StabilizedOde, config: "Config", ends: np.ndarray, *, key: jax.Array) -> dict[str, np.ndarray]:
    exponents = leading_exponents(
        models,
        _single(ends),
        count=config.attractor.exponents,
        duration=config.attractor.exponent_time,
        settle=50.0,
        energy_limit=SLACK * config.system.energy_limit,
        project=_zero_mean,
        key=key,
    )
    return {"exponents": exponents.each, "exponent_time": exponents.time}


def _statistics(samples: np.ndarray, truth: Truth, length: float) -> dict[str, np.ndarray]:
    joints = [joint_density(seed, length) for seed in samples]
    against = [joint_divergence(truth.joint, joint) for joint in joints]
    sound = np.where(np.isfinite(samples), samples, 0.0)
    return {
        "kl": np.array([d.kl for d in against]),
        "missed": np.array([d.missed for d in against]),
        "invented": np.array([d.invented for d in against]),
        "density": np.array([joint.density for joint in joints]),
        "spectrum": np.asarray(jnp.mean(energy_spectrum(jnp.asarray(sound, jnp.float64)), axis=(1, 2))),
        "rms": np.sqrt(np.mean(sound**2, axis=(1, 2, 3))),
        "mean_drift": np.abs(sound[:, :, -1].mean(axis=-1)).max(axis=1),
        "balance": np.array([float(balance(jnp.asarray(s, jnp.float64), length)) for s in sound]),
        "series": samples[0, 0],
    }


def _survival(models: StabilizedOde, config: "Config", clean: Array, label: str, *, key: jax.Array) -> dict:
    system, ask = config.system, config.attractor
    starts = []
    for seed in range(config.seeds):
        for level, rms in enumerate(ask.noise):
            k = jax.random.fold_in(jax.random.fold_in(key, seed), level)
            modes = range(ask.noise_modes[0], ask.noise_modes[1] + 1)
            starts.append(clean[seed % len(clean)] + mode_noise(k, system.points, modes, rms, clean.dtype))
    begin = jnp.stack(starts).reshape(config.seeds, len(ask.noise), system.points)
    limit = SLACK * system.energy_limit
    horizon = ask.horizon if models.clip is not None else ask.unguarded_horizon
    per_bin, steps = max(round(BIN_TIME / system.dt), 1), round(horizon / system.dt)
    per_chunk = max(round(min(CHUNK_TIME, horizon) / BIN_TIME), 1)

    def lost(energies: np.ndarray) -> np.ndarray:
        return ~np.asarray(survival(jnp.asarray(energies), limit, BIN_TIME, ALLOWED).bounded)

    with Interrupt() as interrupt, progress(steps, f"long runs of {label}") as bar:

        def on_chunk(size: int) -> None:
            bar.update(size)
            if interrupt.requested():
                raise KeyboardInterrupt

        found = long_run(
            models, begin, steps=steps, steps_per_bin=per_bin, bins_per_chunk=per_chunk, lost=lost, on_chunk=on_chunk
        )
    outcome = survival(jnp.asarray(found.energies), limit, found.bin_time, ALLOWED)
    return {
        "bounded": np.asarray(outcome.bounded),
        "recovery_time": np.asarray(outcome.recovery_time),
        "energies": found.energies,
        "clipped": found.clipped,
        "end": found.end,
    }


def scores(found: dict, truth: Truth) -> dict[str, float]:
    """The numbers of one variant: means over seeds, and standard errors over seeds."""
    modes = slice(1, found["spectrum"].shape[-1] // 3 * 2)
    shape = energy_spectrum(jnp.asarray(truth.samples)).mean(axis=(0, 1))
    weights = found["exponent_time"][..., None]
    per_seed = np.sum(found["exponents"] * weights, axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
    values = {
        "kl_over_floor": found["kl"] / truth.floor,
        "lambda1": per_seed.max(axis=-1),
        "valid_time": found["valid_time"].mean(axis=1),
        "bounded_fraction": found["bounded"].astype(float).mean(axis=1),
    }
    result = {name: float(np.mean(value)) for name, value in values.items()}
    result |= {f"{name}_stderr": _standard_error(value) for name, value in values.items()}
    spectra = [spectrum_error(s, np.asarray(shape), modes) for s in found["spectrum"]]
    return result | {
        "kl": float(found["kl"].mean()),
        "mass_outside": float(found["invented"].mean()),
        "mass_missed": float(found["missed"].mean()),
        "spectrum_error_decades": float(np.mean(spectra)),
        "correlation_time": float(found["correlation_time"].mean()),
        "rms": min(float(found["rms"].mean()), 1e30),
        "clipped_share": float(found["clipped"].mean()),
        "mean_drift": min(float(found["mean_drift"].mean()), 1e30),
    }


def _standard_error(values: np.ndarray) -> float:
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def extras(models: StabilizedOde, config: "Config", found: dict, truth: Truth, *, key: jax.Array) -> Findings:
    """What only the learned linear term of `ours` can be asked."""
    return coefficients.judge(models, config, truth, found["exponents"].mean(axis=(0, 1)), key=key)


def summary(
    config: "Config",
    results: dict[str, dict],
    truth: Truth,
    findings: Findings | None,
    seconds: dict[str, float],
    notes: tuple[str, ...],
) -> Summary:
    ask = config.attractor
    metrics = {"kl_floor": truth.floor, "lambda1_truth": float(truth.exponents[0])}
    metrics["lambda1_truth_stderr"] = float(truth.exponents_error[0])
    for name, found in results.items():
        metrics |= {f"{metric}_{name}": value for metric, value in scores(found, truth).items()}
        for level, rms in enumerate(ask.noise):
            metrics[f"bounded_fraction_noise_{rms:g}_{name}"] = float(found["bounded"][:, level].mean())
    metrics |= findings.metrics if findings is not None else {}
    references = {}
    if "ours" in results:
        references["kl_over_floor_ours"] = Reference(3.0, "three times the floor of two samples of the truth", "lower")
        references["bounded_fraction_ours"] = Reference(1.0, "all seeds and noise levels", "higher")
        references["lambda1_ours"] = Reference(float(truth.exponents[0]), "the truth, same code; goal: within 15 %")
    if {"ours", "fixed_linear"} <= results.keys():
        bar = 0.8 * metrics["valid_time_fixed_linear"]
        references["valid_time_ours"] = Reference(bar, "80 % of the variant that is given the true symbol", "higher")
    levels = ", ".join(f"{rms:g}" for rms in ask.noise)
    notes += (
        f"Bounded: energy at most {SLACK * config.system.energy_limit:g} from {ALLOWED:g} time units on, for "
        f"{ask.horizon:g} ({ask.unguarded_horizon:g} for models without guard); one trajectory for each of "
        f"{config.seeds} seeds and noise of RMS {levels} in modes "
        f"{ask.noise_modes[0]} to {ask.noise_modes[1]}.",
        "An exponent is averaged only while its trajectory is bounded; intervals are standard errors over seeds.",
        "A guard makes bounded true by construction; clipped_share says how often it acted.",
    )
    return Summary("stabilized_ode", metrics, references, seconds, notes)


def report(
    config: "Config",
    run: Run,
    results: dict[str, dict],
    truth: Truth,
    findings: Findings | None,
    symbols: dict[str, np.ndarray],
) -> Report:
    system, ask = config.system, config.attractor
    page = Report(
        "Neural ODEs that stay on the attractor",
        f"Which learned right-hand side of the Kuramoto-Sivashinsky equation (length {system.length:g}, "
        f"{system.points} points) forecasts, has the right statistics and exponents, and never leaves the attractor? "
        f"{config.seeds} networks of each kind, trained on the same data.",
    )
    rows = []
    for name, found in results.items():
        s = scores(found, truth)
        with_error = lambda key, s=s: f"{s[key]:.3g} ± {s[key + '_stderr']:.2g}"  # noqa: E731
        four = ("kl_over_floor", "lambda1", "valid_time", "bounded_fraction")
        rows.append((name, *map(with_error, four), s["clipped_share"], s["spectrum_error_decades"]))
    rows.append(("truth", "1", f"{truth.exponents[0]:.3g} ± {truth.exponents_error[0]:.2g}", "", "1", None, None))
    columns = ("model", "KL / floor", "λ1", "valid time", "bounded", "share clipped", "spectrum error (decades)")
    page.table("Models", columns, rows, "Mean ± standard error over seeds; the KL floor is that of two true samples.")
    pictures = {
        "space_time": (
            figures.space_time(truth.forecast[0, 1:], {n: f["example"] for n, f in results.items()}, system),
            "One forecast from a state of the truth, first seed. Blank where a model blew up.",
        ),
        "errors": (
            figures.errors({n: f["error"] for n, f in results.items()}, system.dt, truth.exponents[0]),
            f"Relative error, mean over {ask.forecast_starts} starts; thin lines are seeds. Valid until 0.3.",
        ),
        "spectra": (
            figures.spectra(truth.samples, {n: f["spectrum"] for n, f in results.items()}, symbols, system),
            "Left: energy of each Fourier mode on the attractor. Right: learned growth rates of the linear term. The "
            "data hold nothing above mode 20; there the linear term alone decides.",
        ),
        "densities": (
            figures.densities(truth.joint.density, {n: f["density"][0] for n, f in results.items()}, Bins()),
            "Joint density of slope and curvature, first seed.",
        ),
        "survival": (
            figures.survival_curves(
                {n: f["energies"] for n, f in results.items()}, ask.noise, BIN_TIME, system.energy_limit * SLACK
            ),
            f"Share of seeds still bounded, by noise in modes {ask.noise_modes[0]} to {ask.noise_modes[1]}.",
        ),
    }
    for name, (figure, caption) in pictures.items():
        page.figure(name, run.figure(name, figure), caption)
    if findings is not None:
        coefficients.add_to(page, findings)
    return page

"""Scores of every arm of one seed, from the probabilities its stages kept."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.bayesnas_arms import Problem
from jaxsci.bayesnas.calibration import Scores, bootstrap, floor, negative_log, scores
from jaxsci.bayesnas.ensemble import mixture, nested, weighted_mixture
from jaxsci.bayesnas.ood import deep_ensemble_equivalent, detection, ood_scores
from jaxsci.bayesnas.selection import stacking
from jaxsci.bayesnas.temperature import fit_temperature, sharpen
from jaxsci.bayesnas.uncertainty import entropy_split, quadratic_split

ARMS = ("single", "chain", "deep_ensemble", "deep_ensemble_chain", "random_architectures", "nes", "joint")
NAMES = Scores._fields
Results = dict[str, dict[str, np.ndarray]]


class ArmScores(NamedTuple):
    """Arrays in the order of `calibration.Scores`; an arm of single networks has the mean over its networks."""

    clean: Float[np.ndarray, " scores"]
    calibrated: Float[np.ndarray, " scores"]
    """After one temperature fitted to the arm's prediction on the calibration part."""
    by_set: Float[np.ndarray, "sets scores"]
    """On each corrupted set."""
    floor: Float[np.ndarray, "2"]
    """ECE and adaptive ECE that perfect calibration would show on the clean set."""
    temperature: float


class SeedScores(NamedTuple):
    arms: dict[str, ArmScores]
    detection: dict[str, dict[str, float]]
    """AUROC of the joint ensemble by score, for each kind of unfamiliar input."""
    split: dict[str, float]
    """Mean over the clean test set of the uncertainty split of the joint ensemble."""
    split_by_set: Float[np.ndarray, "sets parts"]
    equivalent: float
    """Size of the deep ensemble of the best architecture with the joint's calibrated likelihood."""
    nll_gap: Float[np.ndarray, " examples"]
    """Joint less deep ensemble, of each test example."""
    search: dict[str, float]
    stacked: float
    """NLL of the joint's samples weighed by stacking on the calibration part."""
    intervals: dict[str, Float[np.ndarray, "2 scores"]]
    """Bootstrap intervals of the clean scores, low and high."""


def evaluate(
    problem: Problem, results: Results, architectures: int, parameter_free: tuple[int, ...], key
) -> SeedScores:
    """Every score of one seed."""
    test, calibration = problem.test.y, problem.calibration.y
    arms = {}
    for name, source, members in _sources(results):
        stage = results[source]
        prefix = "nes_" if name == "nes" else ""
        p, held = (jnp.asarray(stage[f"{prefix}{part}"]) for part in ("test", "calibration"))
        p, held = (_pooled(a, members) for a in (p, held))
        clean, calibrated, temperature, floors = _score_all(p, held, test, calibration, key)
        row = {"last": 0, "chain": 1}.get(members)
        if row is not None:
            by_set = stage["member_scores"][:, row]
        else:
            pairs = zip(stage[f"{prefix}corrupted"], problem.corrupted.values(), strict=True)
            by_set = np.stack([_row(jnp.asarray(q), data.y) for q, data in pairs])
        arms[name] = ArmScores(
            np.asarray(clean), np.asarray(calibrated), np.asarray(by_set), np.asarray(floors), float(temperature)
        )
    joint = nested(jnp.asarray(results["joint"]["test"]), architectures)
    gap = negative_log(mixture(joint), test) - negative_log(_mean(results["deep_ensemble"]["test"]), test)
    return SeedScores(
        arms,
        _detection(results["joint"], joint, architectures),
        _splits(joint),
        results["joint"]["corrupted_split"],
        _equivalent(results, problem, arms),
        np.asarray(gap),
        _search(results["search"], parameter_free),
        _stacked(results["joint"], problem),
        {arm: _interval(results[arm]["test"], test, key) for arm in ("deep_ensemble", "joint")},
    )


def _sources(results: Results) -> list[tuple[str, str, str]]:
    """(arm, stage, how members combine): single networks by themselves, chains by themselves, or all together."""
    return [
        ("single", "deep_ensemble", "last"),
        ("chain", "deep_ensemble_chain", "chain"),
        ("deep_ensemble", "deep_ensemble", "all"),
        ("deep_ensemble_chain", "deep_ensemble_chain", "all"),
        ("random_architectures", "random_architectures", "all"),
        ("nes", "random_architectures", "pooled"),
        ("joint", "joint", "all"),
    ]


def _pooled(p: Array, members: str) -> Float[Array, "predictions examples classes"]:
    if members == "pooled":
        return p[None]
    if members == "all":
        return jnp.mean(p, axis=(0, 1))[None]
    return p[:, -1] if members == "last" else jnp.mean(p, axis=1)


@jax.jit
def _score_all(p: Array, held: Array, y: Array, held_y: Array, key: Array):
    """Clean scores, scores at the arm's own temperature, that temperature, floors: means over predictions."""
    temperature = jax.vmap(partial(fit_temperature, y=held_y))(held)
    clean = jax.vmap(lambda p: jnp.stack(scores(p, y)))(p)
    calibrated = jax.vmap(lambda p, t: jnp.stack(scores(sharpen(p, t), y)))(p, temperature)
    floors = jax.lax.map(lambda p: jnp.stack(floor(jnp.max(p, axis=-1), draws=100, key=key))[jnp.array([0, 2])], p)
    return clean.mean(0), calibrated.mean(0), temperature.mean(), floors.mean(0)


@jax.jit
def _row(p: Array, y: Array) -> Array:
    return jnp.stack(scores(p, y))


def _mean(p: np.ndarray) -> Array:
    return jnp.mean(jnp.asarray(p), axis=(0, 1))


def _detection(stage: dict[str, np.ndarray], joint, architectures: int) -> dict[str, dict[str, float]]:
    familiar = {name: np.asarray(score) for name, score in ood_scores(joint).items()}
    found = {}
    for key, p in stage.items():
        if key.startswith("unfamiliar_"):
            strange = ood_scores(nested(jnp.asarray(p), architectures))
            found[key.removeprefix("unfamiliar_")] = {
                name: detection(familiar[name], np.asarray(score)).auroc for name, score in strange.items()
            }
    return found


def _splits(joint) -> dict[str, float]:
    plain, quadratic = entropy_split(joint), quadratic_split(joint)
    mean = lambda a: float(jnp.mean(a))  # noqa: E731
    return {
        **{f"entropy_{name}": mean(part) for name, part in plain._asdict().items()},
        **{f"quadratic_{name}": mean(part) for name, part in quadratic._asdict().items()},
    }


def _equivalent(results: Results, problem: Problem, arms: dict[str, ArmScores]) -> float:
    """Deep-ensemble equivalent of the joint, both calibrated on the same part."""
    stage = results["deep_ensemble"]
    members = jnp.asarray(stage["test"])[:, -1]
    held = jnp.asarray(stage["calibration"])[:, -1]
    sizes = jnp.arange(1, len(members) + 1)[:, None, None]
    running, running_held = jnp.cumsum(members, 0) / sizes, jnp.cumsum(held, 0) / sizes
    temperature = jax.vmap(partial(fit_temperature, y=problem.calibration.y))(running_held)
    sharpened = jax.vmap(sharpen)(running, temperature)
    curve = [float(jnp.mean(negative_log(p, problem.test.y))) for p in sharpened]
    return deep_ensemble_equivalent(float(arms["joint"].calibrated[NAMES.index("nll")]), np.array(curve))


def _stacked(stage: dict[str, np.ndarray], problem: Problem) -> float:
    flat = lambda p: jnp.asarray(p).reshape(-1, *p.shape[2:])  # noqa: E731
    weights = stacking(flat(stage["calibration"]), problem.calibration.y).weights
    return float(jnp.mean(negative_log(weighted_mixture(flat(stage["test"]), weights), problem.test.y)))


@jax.jit
def _interval(p: np.ndarray, y: Array, key: Array) -> Array:
    interval = bootstrap(lambda p, y: jnp.stack(scores(p, y)), jnp.mean(p, axis=(0, 1)), y, draws=200, key=key)
    return jnp.stack(interval)


def _search(stage: dict[str, np.ndarray], parameter_free: tuple[int, ...]) -> dict[str, float]:
    p = stage["probabilities"]
    return {
        "entropy": float(stage["entropy"][-1]),
        "skip_mass": float(p[:, list(parameter_free)].sum(-1).mean()),
        **{name: float(stage[name]) for name in ("accuracy_relaxed", "accuracy_argmax", "accuracy_sampled")},
    }

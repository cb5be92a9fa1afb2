"""From the self-supervised network to alarms: by job, worker and run, and what speaks for each.

Three scores, each a mean over the jobs of a worker or pooled by it already, and each replaced by its quantile among the
training jobs so that they can be added:

    evidence        log-odds that the worker is degraded in any of the ways of `pseudo.KINDS`
    density         distance of the latents from those of trusted jobs of the same kind
    reconstruction  root mean square of log(1 + error) of the decoded telemetry
"""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from jaxsci.core.config import require
from jaxsci.workflows.baselines import worker_mean
from jaxsci.workflows.batch import Runs
from jaxsci.workflows.density import LatentDensity, fit_density
from jaxsci.workflows.graph import Dag
from jaxsci.workflows.selfsupervised import Trusting, TwoView, View, squashed
from jaxsci.workflows.supervised import standardise

TERMS = ("evidence", "density", "reconstruction")
TOP_WORKERS = 3  # of a run, whose mean is its score


@dataclass(frozen=True)
class ScoreConfig:
    """Weights of the three terms."""

    evidence: float = 0.5
    density: float = 0.4
    reconstruction: float = 0.1

    def __post_init__(self):
        weights = [getattr(self, name) for name in TERMS]
        require(min(weights) >= 0 and sum(weights) > 0, "evidence", "weights of 0 or more, not all 0", weights)


@dataclass(frozen=True)
class Reading:
    """What the network makes of some runs, on the host. Shapes (runs, nodes, ...)."""

    z: Float[np.ndarray, "runs nodes latent"]
    residual: Float[np.ndarray, "runs nodes features"]
    kinds: Float[np.ndarray, "runs nodes kinds"]


@dataclass(frozen=True)
class Scorer:
    """A fitted detector: the network, its density, and the quantiles of the training scores."""

    model: TwoView
    own: Trusting
    density: LatentDensity
    ladder: dict[str, Float[np.ndarray, "sorted"]]
    config: ScoreConfig

    def terms(self, reading: Reading, runs: Runs) -> dict[str, Float[np.ndarray, "runs nodes"]]:
        """The three scores of every job's worker."""
        return raw_terms(reading, self.density, np.asarray(runs.worker))

    def combine(self, terms: dict[str, Float[np.ndarray, "runs nodes"]], on_worker: Float[np.ndarray, "runs nodes"]):
        """One score between 0 and 1 a job; 0 at the submit site."""
        total = sum(getattr(self.config, name) for name in TERMS)
        score = sum(getattr(self.config, name) * quantile(self.ladder[name], terms[name]) for name in TERMS) / total
        return np.where(on_worker > 0, score, 0.0)

    def scores(self, runs: Runs, dag: Dag) -> Float[np.ndarray, "runs nodes"]:
        reading = read(self.model, self.own, runs, dag)
        return self.combine(self.terms(reading, runs), np.asarray(runs.on_worker))


@eqx.filter_jit
def _views(model: TwoView, own: Trusting, runs: Runs, dag: Dag) -> tuple[View, jax.Array]:
    c = standardise(runs.columns, own.facts)
    view = model(c, runs, dag)
    residual = jnp.where(runs.observed, squashed(c) - jnp.swapaxes(view.decoded, 0, 1), 0.0)
    return view, residual


def read(model: TwoView, own: Trusting, runs: Runs, dag: Dag) -> Reading:
    """Apply the network, without dropout."""
    view, residual = _views(model, own, runs, dag)
    return Reading(
        np.asarray(jnp.swapaxes(view.z, 0, 1)),
        np.asarray(residual),
        np.asarray(jax.nn.log_softmax(jnp.swapaxes(view.worker, 0, 1))),
    )


def raw_terms(
    reading: Reading, density: LatentDensity, worker: Int[np.ndarray, "runs nodes"]
) -> dict[str, Float[np.ndarray, "runs nodes"]]:
    """The three scores before they are made comparable."""
    normal = np.exp(np.minimum(reading.kinds[..., 0], -1e-7).astype(np.float64))
    distance = np.asarray(density.distance(jnp.asarray(np.swapaxes(reading.z, 0, 1)))).T
    error = np.sqrt(np.mean(np.square(np.log1p(np.abs(reading.residual))), axis=-1))
    return {
        "evidence": np.log1p(-normal) - np.log(normal + 1e-300),
        "density": worker_mean(np.log1p(distance), worker),
        "reconstruction": worker_mean(error, worker),
    }


def quantile(ladder: Float[np.ndarray, "sorted"], values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Share of the ladder below each value; beyond its ends it goes on slowly, so that order is kept."""
    place = np.interp(values, ladder, np.linspace(0.0, 1.0, len(ladder)))
    width = max(float(ladder[-1] - ladder[0]), 1e-9)
    return place + 1e-3 * np.tanh((values - np.clip(values, ladder[0], ladder[-1])) / width)


def fit_scorer(
    model: TwoView,
    own: Trusting,
    runs: Runs,
    dag: Dag,
    kind: Int[np.ndarray, "nodes"],
    train_rows: Int[np.ndarray, "train"],
    config: ScoreConfig,
) -> Scorer:
    """Density and quantiles from the training runs alone."""
    known = runs.take(train_rows)
    reading = read(model, own, known, dag)
    trust = np.asarray(own.trust)[train_rows].T
    density = fit_density(np.swapaxes(reading.z, 0, 1), trust, kind)
    on_worker = np.asarray(known.on_worker) > 0
    terms = raw_terms(reading, density, np.asarray(known.worker))
    ladder = {name: np.quantile(values[on_worker], np.linspace(0, 1, 513)) for name, values in terms.items()}
    ladder = {name: np.maximum.accumulate(steps + 1e-12 * np.arange(513)) for name, steps in ladder.items()}
    return Scorer(model, own, density, ladder, config)


def run_scores(
    scores: Float[np.ndarray, "runs nodes"], worker: Int[np.ndarray, "runs nodes"]
) -> Float[np.ndarray, "runs"]:
    """Mean of the `TOP_WORKERS` highest worker scores of every run."""
    tops = []
    for row, owner in zip(scores, worker, strict=True):
        best = np.sort([row[owner == w].max() for w in np.unique(owner)])[-TOP_WORKERS:]
        tops.append(best.mean())
    return np.array(tops)

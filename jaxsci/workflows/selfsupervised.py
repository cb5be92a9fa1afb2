"""Anomalies without labels: reconstruct, contrast two views, tell degraded workers from others; then score by density.

Each training step makes two views of some runs. Both are slow as a whole, or on one machine, in ways that are nobody's
fault (`pseudo.nuisance`); in the second, some workers are degraded as well (`pseudo.pseudo_anomalies`, which also says
which: q). With latents z and z' of a job in the two views, d = |z - z'|:

    generative     error of the telemetry decoded from z
    contrastive    (1 - q) d^2 + q max(0, margin - d)^2        both views carry gradient
    discriminative cross-entropy of the kind of degradation, by job and pooled by worker (`supervised.Detector`)

Real anomalies hide in the training runs, a third of the jobs in some. So only the half of the jobs whose workers
deviate least (`baselines.z_worker_scores`) is trusted to be normal in these terms; degraded views are trusted to be
degraded.
The idea of one latent under generative and contrastive losses: arXiv:2310.01247.
"""

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.config import between, positive, require
from jaxsci.workflows.batch import Runs
from jaxsci.workflows.encoder import EncoderConfig, place
from jaxsci.workflows.graph import Dag
from jaxsci.workflows.learning import AfterEpoch, LearningConfig, train
from jaxsci.workflows.pseudo import KINDS, PseudoConfig, nuisance, pseudo_anomalies
from jaxsci.workflows.supervised import Detector, Facts, standardise


@dataclass(frozen=True)
class SelfSupervisedConfig:
    """Weights of the loss terms, any of which may be 0 for an ablation; `latent` dimensions; `margin` of the contrast;
    `trusted`, the share of the training jobs taken to be normal."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    pseudo: PseudoConfig = field(default_factory=PseudoConfig)
    latent: int = 8
    generative: float = 0.3
    contrastive: float = 0.3
    discriminative: float = 1.0
    margin: float = 2.0
    trusted: float = 0.5
    job_weight: float = 0.3

    def __post_init__(self):
        positive(self, "latent", "margin")
        between(self, "trusted", 0.1, 1.0)
        between(self, "job_weight", 0.0, 1.0)
        total = self.generative + self.contrastive + self.discriminative
        require(total > 0, "generative", "at least one term of the loss above 0", total)


class TwoView(eqx.Module):
    """Detector of degradation, with a latent that reconstructs and contrasts."""

    detector: Detector
    inward: Float[Array, "width latent"]
    outward: Float[Array, "latent hidden"]
    decode: Float[Array, "hidden features"]

    def __init__(self, config: SelfSupervisedConfig, nodes: int, features: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 4)
        width, latent = config.encoder.width, config.latent
        self.detector = Detector(config.encoder, nodes, features, len(KINDS), key=keys[0])
        self.inward = jax.random.normal(keys[1], (width, latent)) / jnp.sqrt(width)
        self.outward = jax.random.normal(keys[2], (latent, width)) / jnp.sqrt(latent)
        self.decode = jax.random.normal(keys[3], (width, features)) / jnp.sqrt(width)

    def __call__(
        self, c: Float[Array, "runs nodes features"], runs: Runs, dag: Dag, *, key: PRNGKeyArray | None = None
    ) -> "View":
        around = place(dag, runs)
        h = self.detector.encoder(c, runs, around, key=key)
        z = h @ self.inward
        job, worker = self.detector.judge(h, runs, around)
        return View(z, jax.nn.gelu(z @ self.outward) @ self.decode, job, worker)


class View(eqx.Module):
    """What the network makes of one view; node-major."""

    z: Float[Array, "nodes runs latent"]
    decoded: Float[Array, "nodes runs features"]
    job: Float[Array, "nodes runs kinds"]
    worker: Float[Array, "nodes runs kinds"]


class Trusting(eqx.Module):
    """A member's scaling, and which jobs of which runs it trusts to be normal."""

    facts: Facts
    trust: Float[Array, "runs nodes"]


def squashed(c: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """What is reconstructed: sign(c) log(1 + |c|)."""
    return jnp.sign(c) * jnp.log1p(jnp.abs(c))


def contrast(d: Float[Array, "*shape"], q: Float[Array, "*shape"], margin: float) -> Float[Array, "*shape"]:
    """Pull together what is alike (q = 0), push apart up to `margin` what is not (q = 1)."""
    return (1.0 - q) * jnp.square(d) + q * jnp.square(jnp.maximum(0.0, margin - d))


def trusted_jobs(
    deviation: Float[np.ndarray, "runs nodes"],
    on_worker: Float[np.ndarray, "runs nodes"],
    train_rows: Int[np.ndarray, "train"],
    share: float,
) -> Float[np.ndarray, "runs nodes"]:
    """1 for jobs whose `deviation` is within the lowest `share` of the training jobs that ran on workers."""
    known = deviation[train_rows][on_worker[train_rows] > 0]
    return (deviation <= np.quantile(known, share)).astype(np.float32)


def two_view_loss(
    model: TwoView, own: Trusting, runs: Runs, dag: Dag, rows: Int[Array, "batch"], config: SelfSupervisedConfig, *, key
) -> Float[Array, ""]:
    """The three terms on the runs `rows`."""
    keys = jax.random.split(key, 5)
    chosen = runs.take(rows)
    trust = own.trust[rows].T
    first = nuisance(chosen.columns, chosen, config.pseudo, key=keys[0])
    second = nuisance(chosen.columns, chosen, config.pseudo, key=keys[1])
    second, kind = pseudo_anomalies(second, chosen, config.pseudo, key=keys[2])
    kind, q = kind.T, (kind.T > 0).astype(jnp.float32)
    c = standardise(first, own.facts)
    plain = model(c, chosen, dag, key=keys[3])
    degraded = model(standardise(second, own.facts), chosen, dag, key=keys[4])
    weight = chosen.on_worker.T * jnp.where(q > 0, 1.0, trust)

    def mean(values, weight):
        return (values * weight).sum() / jnp.maximum(weight.sum(), 1.0)

    seen = jnp.swapaxes(chosen.observed, 0, 1)
    residual = jnp.where(seen, jnp.swapaxes(squashed(c), 0, 1) - plain.decoded, 0.0)
    generative = mean(jnp.square(residual).sum(-1) / jnp.maximum(seen.sum(-1), 1), trust)
    distance = jnp.sqrt(jnp.square(plain.z - degraded.z).sum(-1) + 1e-6)
    contrastive = mean(contrast(distance, q, config.margin), weight)
    truth = jax.nn.one_hot(kind, len(KINDS))

    def cross_entropy(logits):
        return mean(-(truth * jax.nn.log_softmax(logits)).sum(-1), weight)

    told = config.job_weight * cross_entropy(degraded.job) + (1 - config.job_weight) * cross_entropy(degraded.worker)
    return config.generative * generative + config.contrastive * contrastive + config.discriminative * told


def fit_two_view(
    runs: Runs,
    dag: Dag,
    own: Trusting,
    train_rows: Int[Array, "members train"],
    config: SelfSupervisedConfig,
    *,
    key: PRNGKeyArray,
    after_epoch: AfterEpoch | None = None,
    checkpoints: Checkpoints | None = None,
) -> TwoView:
    """One network per member (seed); `own` and `train_rows` have the leading member axis."""
    nodes, features = runs.columns.shape[1:]
    for_init, for_training = jax.random.split(key)
    keys = jax.random.split(for_init, len(train_rows))
    models = eqx.filter_vmap(lambda k: TwoView(config, nodes, features, key=k))(keys)

    def loss(model, known, rows, key):
        own, (runs, dag) = known
        return two_view_loss(model, own, runs, dag, rows, config, key=key)

    return train(
        models,
        loss,
        own,
        train_rows,
        config.learning,
        epochs=config.learning.epochs_for(nodes),
        key=for_training,
        data=(runs, dag),
        after_epoch=after_epoch,
        checkpoints=checkpoints,
    )

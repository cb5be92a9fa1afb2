"""Which anomaly, job by job and worker by worker, learned from labelled runs.

All jobs of a worker share one label, so their evidence is summed: with e_i the evidence of job i for each class,

    worker logits = b + sum_i e_i / sqrt(n)

in which independent evidence grows with sqrt(n), and evidence that repeats itself does not count n times over.
"""

from dataclasses import dataclass, field

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.config import between, positive
from jaxsci.workflows.batch import Runs
from jaxsci.workflows.encoder import Encoder, EncoderConfig, Place, place
from jaxsci.workflows.features import LIMIT, Scaling
from jaxsci.workflows.graph import Dag
from jaxsci.workflows.learning import AfterEpoch, LearningConfig, train

SUBMIT_SITE_LOGIT = 20.0  # jobs at the submit site run on no worker that could be degraded


@dataclass(frozen=True)
class SupervisedConfig:
    """`members` of the ensemble; `job_weight` of the loss of single jobs beside that of their workers."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    members: int = 5
    job_weight: float = 0.3

    def __post_init__(self):
        positive(self, "members")
        between(self, "job_weight", 0.0, 1.0)


class Detector(eqx.Module):
    """Encoder and evidence of each job for each class."""

    encoder: Encoder
    evidence: Float[Array, "width classes"]
    bias: Float[Array, "classes"]

    def __init__(self, config: EncoderConfig, nodes: int, features: int, classes: int, *, key: PRNGKeyArray):
        first, second = jax.random.split(key)
        self.encoder = Encoder(config, nodes, features, key=first)
        self.evidence = jax.random.normal(second, (config.width, classes)) / jnp.sqrt(config.width)
        self.bias = jnp.zeros(classes)

    def __call__(
        self, c: Float[Array, "runs nodes features"], runs: Runs, dag: Dag, *, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, "nodes runs classes"], Float[Array, "nodes runs classes"]]:
        """Logits of every job by itself, and of its worker."""
        around = place(dag, runs)
        return self.judge(self.encoder(c, runs, around, key=key), runs, around)

    def judge(
        self, h: Float[Array, "nodes runs width"], runs: Runs, around: Place
    ) -> tuple[Float[Array, "nodes runs classes"], Float[Array, "nodes runs classes"]]:
        """The same from what the encoder made of the runs."""
        evidence = h @ self.evidence
        count = jnp.maximum(around.worker.count(), 1.0)[..., None]
        pooled = around.worker.spread(around.worker.sum(evidence) / jnp.sqrt(count))
        at_submit_site = (1.0 - runs.on_worker.T)[..., None] * SUBMIT_SITE_LOGIT
        normal = jax.nn.one_hot(0, len(self.bias)) * at_submit_site
        return evidence + self.bias + normal, pooled + self.bias + normal


class Facts(eqx.Module):
    """What a member knows beside its parameters: the scaling of its own training runs."""

    centre: Float[Array, "nodes features"]
    scale: Float[Array, "nodes features"]


def facts_of(scaling: Scaling) -> Facts:
    """Centre and scale of the features as float32 arrays on the device."""
    return Facts(jnp.asarray(scaling.centre, jnp.float32), jnp.asarray(scaling.scale, jnp.float32))


def standardise(columns: Float[Array, "runs nodes features"], facts: Facts) -> Float[Array, "runs nodes features"]:
    """`Scaling.apply` on the device, where augmented columns are."""
    c = (jnp.sign(columns) * jnp.log1p(jnp.abs(columns)) - facts.centre) / facts.scale
    return jnp.clip(c, -LIMIT, LIMIT)


def worker_loss(
    model: Detector,
    own: Facts,
    runs: Runs,
    labels: Int[Array, "runs nodes"],
    dag: Dag,
    rows: Int[Array, "batch"] | Int[np.ndarray, "batch"],
    config: SupervisedConfig,
    *,
    key: PRNGKeyArray | None,
) -> Float[Array, ""]:
    """Cross-entropy of the jobs on workers of the runs `rows`, by themselves and as their workers. Without a `key` no
    dropout acts."""
    chosen = runs.take(rows)
    job, worker = model(standardise(chosen.columns, own), chosen, dag, key=key)
    truth = jax.nn.one_hot(labels[rows].T, len(model.bias))
    weight = chosen.on_worker.T

    def cross_entropy(logits):
        return -(weight * (truth * jax.nn.log_softmax(logits)).sum(-1)).sum() / weight.sum()

    return config.job_weight * cross_entropy(job) + (1 - config.job_weight) * cross_entropy(worker)


def fit_detectors(
    runs: Runs,
    y: Int[np.ndarray, "runs nodes"],
    classes: int,
    dag: Dag,
    facts: Facts,
    train_rows: Int[Array, "members train"],
    config: SupervisedConfig,
    *,
    key: PRNGKeyArray,
    after_epoch: AfterEpoch | None = None,
    checkpoints: Checkpoints | None = None,
) -> Detector:
    """One detector per member; `facts` and `train_rows` have the leading member axis."""
    nodes, features = runs.columns.shape[1:]
    for_init, for_training = jax.random.split(key)
    keys = jax.random.split(for_init, len(train_rows))
    models = eqx.filter_vmap(lambda k: Detector(config.encoder, nodes, features, classes, key=k))(keys)
    labels = jnp.asarray(y, jnp.int32)

    def loss(model, known, rows, key):
        own, (runs, labels, dag) = known
        return worker_loss(model, own, runs, labels, dag, rows, config, key=key)

    data = (runs, labels, dag)
    return train(
        models,
        loss,
        facts,
        train_rows,
        config.learning,
        epochs=config.learning.epochs_for(nodes),
        key=for_training,
        data=data,
        after_epoch=after_epoch,
        checkpoints=checkpoints,
    )


@eqx.filter_jit
def probabilities(models: Detector, facts: Facts, runs: Runs, dag: Dag) -> Float[Array, "members runs nodes classes"]:
    """Class probabilities of the worker of each job, by member."""

    def one(model, own):
        _, worker = model(standardise(runs.columns, own), runs, dag)
        return jax.nn.softmax(jnp.swapaxes(worker, 0, 1))

    return eqx.filter_vmap(one, in_axes=(0, 0))(models, facts)

"""Training an ensemble of classifiers on patterns made on demand, calibrating it, and what it then answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.config import between, positive
from jaxsci.core.errors import ConfigError
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.train import FitResult, fit, init_state, make_host_step
from jaxsci.diffraction import generator
from jaxsci.diffraction.classifier import Classifier, Kind, network_input, reflection_features, visible_class
from jaxsci.diffraction.generator import Label, Prior
from jaxsci.diffraction.scalars import seven_scalars

CHUNK = 48  # a multiple of 3 and 4 classes; patterns per call of the generator


class Patterns(NamedTuple):
    """Samples in host memory: what networks see (float16), what the baseline sees, and the truth."""

    inputs: Float[np.ndarray, "samples n n n"]
    scalars: Float[np.ndarray, "samples 7"]
    kind: Int[np.ndarray, " samples"]
    visibility: Float[np.ndarray, " samples"]
    target: Int[np.ndarray, " samples"]
    """`visible_class` of each."""
    reflection: Float[np.ndarray, "samples 4"]
    """`reflection_features` of each."""

    @property
    def visible(self) -> np.ndarray:
        """Perfect crystals, and defects that the reflection sees."""
        return (self.kind == generator.NONE) | (self.visibility > 0.5)


def make_patterns(
    priors: Sequence[Prior],
    samples: int,
    *,
    classes: int,
    key: Key[Array, ""],
    on_chunk: Callable[[int], None] | None = None,
) -> Patterns:
    """`samples` patterns, classes and priors (say, reflections) taking turns; sample i depends on `key` and i alone."""
    parts: list[tuple[np.ndarray, ...]] = []
    programs = [pattern_program(prior) for prior in priors]
    for first in range(0, samples, CHUNK):
        # A chunk is of one prior: its program is compiled for it.
        which = first // CHUNK % len(priors)
        number = jnp.arange(first, first + CHUNK)
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(number)
        made = jax.device_get(programs[which](keys, number % classes))
        features = np.tile(np.asarray(reflection_features(priors[which].reflection)), (CHUNK, 1))
        parts.append((*made, features))
        if on_chunk is not None:
            on_chunk(min(CHUNK, samples - first))
    columns = [np.concatenate(column)[:samples] for column in zip(*parts, strict=True)]
    return Patterns(*columns)


def pattern_program(prior: Prior) -> Callable:
    """(keys, kinds) -> what `Patterns` holds but the reflection; one program for each number of keys."""

    def one(argument: tuple[Array, Array]) -> tuple[Array, ...]:
        key, kind = argument
        return seen(*generator.sample(prior, kind, key=key))

    # One after another: each sample then stays in the cache.
    return jax.jit(lambda keys, kinds: jax.lax.map(one, (keys, kinds)))


def seen(counts: Float[Array, "n n n"], label: Label) -> tuple[Array, ...]:
    """What `Patterns` holds of one sample but the reflection."""
    inputs = network_input(counts).astype(jnp.float16)
    return inputs, seven_scalars(counts), label.kind, label.visibility, visible_class(label)


@dataclass(frozen=True)
class TrainingConfig:
    """`members` networks see the same data in different orders, `epochs` times."""

    kind: Kind = "slab"
    width: int = 32
    members: int = 2
    epochs: int = 6
    batch: int = 64
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            "adamw", learning_rate=2e-3, schedule="cosine", warmup_steps=50, weight_decay=1e-2, clip_norm=1.0
        )
    )

    def __post_init__(self) -> None:
        positive(self, "width", "members", "epochs", "batch")
        between(self, "members", 1, 64)

    def steps(self, samples: int) -> int:
        return self.epochs * max(samples // self.batch, 1)


class Ensemble(NamedTuple):
    """Networks and the temperature that calibrates their mean."""

    networks: tuple[Classifier, ...]
    temperature: float


def initial_networks(n: int, classes: int, config: TrainingConfig, *, key: Key[Array, ""]) -> tuple[Classifier, ...]:
    """Untrained members, each from its own key."""
    keys = [jax.random.fold_in(key, member) for member in range(config.members)]
    return tuple(Classifier(n, classes, kind=config.kind, width=config.width, key=k) for k in keys)


def train(
    networks: tuple[Classifier, ...],
    patterns: Patterns,
    config: TrainingConfig,
    *,
    seed: int,
    on_log: Callable[[dict[str, float], int], None] | None = None,
    checkpoints: Checkpoints | None = None,
) -> tuple[tuple[Classifier, ...], FitResult]:
    """Minimise the cross-entropy of `patterns.target`. Continues from `checkpoints` where they hold something.

    Members are a Python loop, not a vmap: batched kernels make convolutions ten times slower on a CPU. Raises
    `ConfigError` where there are fewer patterns than a batch.
    """
    count = len(patterns.kind)
    if count < config.batch:
        raise ConfigError(f"batch: expected at most the {count} patterns there are, got {config.batch}")
    per_epoch, steps = count // config.batch, config.steps(count)
    params, static = eqx.partition(networks, eqx.is_inexact_array)

    def load(number: int) -> tuple[np.ndarray, ...]:
        chosen = []
        for member in range(len(networks)):
            rng = np.random.default_rng([seed, member, number // per_epoch])
            order = rng.permutation(count)
            chosen.append(order[number % per_epoch * config.batch :][: config.batch])
        rows = np.stack(chosen)
        return patterns.inputs[rows], patterns.reflection[rows], patterns.target[rows]

    def loss(params, batch, *, key) -> tuple[Array, dict[str, Array]]:
        inputs, reflections, targets = batch
        total, right = jnp.zeros(()), jnp.zeros(())
        for member, network in enumerate(eqx.combine(params, static)):
            logits = jax.vmap(network)(inputs[member].astype(jnp.float32), reflections[member])
            total += optax.softmax_cross_entropy_with_integer_labels(logits, targets[member]).mean()
            right += (logits.argmax(-1) == targets[member]).mean()
        return total, {"training_accuracy": right / len(networks)}

    # One update a dispatch: gradients of convolutions inside a longer scan are many times slower on a CPU.
    optimizer = config.optimizer.build(steps)
    outcome = fit(
        init_state(params, optimizer, key=jax.random.key(seed)),
        make_host_step(loss, optimizer, load=load),
        steps=steps,
        log_every=max(min(25, steps // 4), 1),
        on_log=on_log,
        checkpoints=checkpoints,
        save_every=None if checkpoints is None else max(per_epoch, 1),
    )
    return eqx.combine(outcome.state.params, static), outcome


def member_probabilities(
    networks: tuple[Classifier, ...], patterns: Patterns, *, temperature: float = 1.0
) -> Float[np.ndarray, "members samples classes"]:
    """Softmax of each member's logits over `temperature`."""
    found = [[] for _ in networks]
    for first in range(0, len(patterns.kind), 4 * CHUNK):
        inputs = jnp.asarray(patterns.inputs[first : first + 4 * CHUNK], jnp.float32)
        reflections = jnp.asarray(patterns.reflection[first : first + 4 * CHUNK])
        for member, network in enumerate(networks):
            found[member].append(np.asarray(_logits(network, inputs, reflections)) / temperature)
    return np.asarray(jax.nn.softmax(np.stack([np.concatenate(part) for part in found]), axis=-1))


@eqx.filter_jit
def _logits(network: Classifier, inputs: Array, reflections: Array) -> Array:
    return jax.vmap(network)(inputs, reflections)


def calibrate(networks: tuple[Classifier, ...], validation: Patterns) -> Ensemble:
    """The temperature of smallest held-out loss (Guo et al., arXiv:1706.04599), from a logarithmic grid."""
    candidates = np.geomspace(0.25, 8.0, 41)
    losses = []
    for temperature in candidates:
        mean = member_probabilities(networks, validation, temperature=temperature).mean(axis=0)
        losses.append(-np.log(mean[np.arange(len(mean)), validation.target] + 1e-12).mean())
    return Ensemble(networks, float(candidates[int(np.argmin(losses))]))


def probabilities(ensemble: Ensemble, patterns: Patterns) -> Float[np.ndarray, "samples classes"]:
    """The calibrated mean of the members."""
    return member_probabilities(ensemble.networks, patterns, temperature=ensemble.temperature).mean(axis=0)

"""Learners of a stream of domains, replay by seed among them, and what to measure of a stream.

Every learner is one update rule on (parameters, optimizer state, memory). The replay buffer holds keys; patterns are
simulated again when they are wanted, so that a sample costs the buffer a few bytes.

Experience replay: Chaudhry et al., arXiv:1902.10486; DER++: Buzzega et al., arXiv:2004.07211; EWC: Kirkpatrick et al.,
doi:10.1073/pnas.1611835114; A-GEM: Chaudhry et al., arXiv:1812.00420.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PyTree

from jaxsci.core.config import between, positive
from jaxsci.diffraction.classifier import Classifier
from jaxsci.diffraction.learning import Patterns

Rule = Literal["fine_tune", "replay", "der", "ewc", "agem", "joint"]
RULES: tuple[Rule, ...] = ("fine_tune", "replay", "der", "ewc", "agem", "joint")


@dataclass(frozen=True)
class LearnerConfig:
    """`updates` of a batch for every domain; rules with a memory add as many patterns from it to each update.

    `memory`: share of a domain's samples that is remembered, as keys. `der_weight`: of the squared distance to old
    logits. `ewc_weight`: of the quadratic penalty. `average`: decay per update of the running mean of the weights,
    which is the network that answers; 0 takes the weights as they are.
    """

    updates: int = 120
    batch: int = 48
    learning_rate: float = 2e-3
    memory: float = 1.0
    der_weight: float = 0.5
    ewc_weight: float = 50.0
    average: float = 0.0

    def __post_init__(self) -> None:
        positive(self, "updates", "batch", "learning_rate")
        between(self, "memory", 0.0, 1.0)
        between(self, "average", 0.0, 0.9999)


class Memory(NamedTuple):
    """What a learner keeps of earlier domains; `logits` are those of the network when it left the domain."""

    patterns: Patterns
    logits: Float[np.ndarray, "samples classes"]


class StreamResult(NamedTuple):
    """What a learner knew of every domain after each of them."""

    accuracy: Float[np.ndarray, "after domain"]
    """R_ij: accuracy on domain j after learning domain i."""
    before: Float[np.ndarray, " domains"]
    """Of the untrained network: the chance level of forward transfer."""


class StreamScores(NamedTuple):
    """Lopez-Paz & Ranzato, arXiv:1706.08840; forgetting as in Chaudhry et al., arXiv:1801.10112."""

    final_accuracy: float
    backward_transfer: float
    forward_transfer: float
    forgetting: float
    """Mean over all domains but the last of the best accuracy ever had minus the final one."""


def stream_scores(result: StreamResult) -> StreamScores:
    """Summaries of R."""
    r = result.accuracy
    last, count = r[-1], len(r)
    if count < 2:
        return StreamScores(float(last.mean()), 0.0, 0.0, 0.0)
    earlier = np.arange(count - 1)
    forward = [r[j - 1, j] - result.before[j] for j in range(1, count)]
    return StreamScores(
        float(last.mean()),
        float((last[earlier] - r[earlier, earlier]).mean()),
        float(np.mean(forward)),
        float((r[:, earlier].max(axis=0) - last[earlier]).mean()),
    )


def join(parts: list[Patterns]) -> Patterns:
    """All samples of several sets."""
    return Patterns(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def take(patterns: Patterns, rows: np.ndarray) -> Patterns:
    """The samples `rows`."""
    return Patterns(*(column[rows] for column in patterns))


def accuracy(network: Classifier, patterns: Patterns) -> float:
    """Share of `target` named right."""
    return float(np.mean(logits_of(network, patterns).argmax(axis=1) == patterns.target))


def logits_of(network: Classifier, patterns: Patterns) -> Float[np.ndarray, "samples classes"]:
    """Of every sample, in blocks of one size so that one program serves all."""
    count, block = len(patterns.kind), 96
    rows = np.minimum(np.arange(-(-count // block) * block), count - 1).reshape(-1, block)
    found = [
        _logits(network, jnp.asarray(patterns.inputs[r], jnp.float32), jnp.asarray(patterns.reflection[r]))
        for r in rows
    ]
    return np.concatenate([np.asarray(part) for part in found])[:count]


@eqx.filter_jit
def _logits(network: Classifier, inputs: Array, reflections: Array) -> Array:
    return jax.vmap(network)(inputs, reflections)


def learn_stream(
    network: Classifier,
    domains: list[Patterns],
    tests: list[Patterns],
    update: "UpdateRule",
    config: LearnerConfig,
    *,
    seed: int,
    on_domain: Callable[[int], None] | None = None,
) -> StreamResult:
    """Learn the domains one after another. `joint` has all domains so far at hand each time: an upper bound.

    `update` is from `make_rule`; one serves all seeds, so that it is compiled once.
    """
    rule = update.rule
    params, static = eqx.partition(network, eqx.is_inexact_array)
    state = update.optimizer.init(params)
    before = np.array([accuracy(network, test) for test in tests])
    average, updates = params, jnp.zeros((), jnp.int32)
    memory: Memory | None = None
    anchor, fisher = params, jax.tree.map(jnp.zeros_like, params)
    rows = []
    for number, domain in enumerate(domains):
        rng = np.random.default_rng([seed, number])
        pool = join(domains[: number + 1]) if rule == "joint" else domain
        for _ in range(config.updates):
            fresh = take(pool, rng.integers(0, len(pool.kind), config.batch))
            # Without a memory yet, or for rules that have none, the fresh batch stands in at weight zero.
            old, logits, weight = fresh, np.zeros((config.batch, network.classes)), 0.0
            if memory is not None:
                chosen = rng.integers(0, len(memory.logits), config.batch)
                old, logits, weight = take(memory.patterns, chosen), memory.logits[chosen], 1.0
            params, state = update.apply(
                params, state, _batch(fresh), _batch(old), jnp.asarray(logits, jnp.float32), weight, anchor, fisher
            )
            average, updates = running_mean(average, params, updates, config.average)
        network = eqx.combine(average, static)
        rows.append([accuracy(network, test) for test in tests])
        if rule in ("replay", "der", "agem"):
            kept = take(domain, rng.permutation(len(domain.kind))[: max(int(config.memory * len(domain.kind)), 1)])
            new = Memory(kept, logits_of(network, kept))
            memory = (
                new
                if memory is None
                else Memory(join([memory.patterns, new.patterns]), np.concatenate([memory.logits, new.logits]))
            )
        elif rule == "ewc":
            sample = take(domain, rng.integers(0, len(domain.kind), config.batch))
            anchor = params
            fisher = jax.tree.map(jnp.add, fisher, update.fisher(params, _batch(sample)))
        if on_domain is not None:
            on_domain(number)
    return StreamResult(np.array(rows), before)


@jax.jit
def running_mean(average: PyTree, params: PyTree, updates: Array, decay: Array) -> tuple[PyTree, Array]:
    """The mean after one more update, of few at first so that it forgets the untrained network."""
    kept = jnp.minimum(decay, updates / (updates + 10.0))
    return jax.tree.map(lambda a, p: kept * a + (1 - kept) * p, average, params), updates + 1


class UpdateRule(NamedTuple):
    """An update of a learner of streams, compiled: `apply(...)` gives parameters and state of the optimizer."""

    rule: Rule
    optimizer: optax.GradientTransformation
    apply: Callable[..., tuple[PyTree, PyTree]]
    fisher: Callable[[PyTree, tuple], PyTree]
    """Diagonal of the empirical Fisher matrix at a batch."""


def make_rule(network: Classifier, rule: Rule, config: LearnerConfig) -> UpdateRule:
    """The jitted update of a rule: (params, state, fresh, old, old logits, weight of old, anchor, fisher) -> new."""
    _, static = eqx.partition(network, eqx.is_inexact_array)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.learning_rate))

    def forward(params: PyTree, batch: tuple) -> Array:
        return jax.vmap(eqx.combine(params, static))(batch[0].astype(jnp.float32), batch[1])

    def loss_of(params: PyTree, batch: tuple) -> Array:
        return optax.softmax_cross_entropy_with_integer_labels(forward(params, batch), batch[2]).mean()

    def objective(params, fresh, old, logits, weight, anchor, fisher) -> Array:
        total = loss_of(params, fresh)
        if rule == "replay":
            total += weight * loss_of(params, old)
        if rule == "der":
            now = forward(params, old)
            distance = jnp.mean(jnp.square(now - logits))
            repeated = optax.softmax_cross_entropy_with_integer_labels(now, old[2]).mean()
            total += weight * (config.der_weight * distance + repeated)
        if rule == "ewc":
            pull = jax.tree.map(lambda p, a, f: jnp.sum(f * jnp.square(p - a)), params, anchor, fisher)
            total += 0.5 * config.ewc_weight * sum(jax.tree.leaves(pull))
        return total

    @jax.jit
    def apply(params, state, fresh, old, logits, weight, anchor, fisher):
        gradient = jax.grad(objective)(params, fresh, old, logits, weight, anchor, fisher)
        if rule == "agem":
            guard = jax.grad(loss_of)(params, old)
            inner = optax.tree.vdot(gradient, guard)
            against = jnp.minimum(inner, 0.0) * weight / jnp.maximum(optax.tree.vdot(guard, guard), 1e-12)
            gradient = jax.tree.map(lambda g, m: g - against * m, gradient, guard)
        change, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, change), state

    @jax.jit
    def fisher(params, batch):
        # The square of a batch's gradient, times the batch: in the mean that of single samples', for independent ones.
        gradient = jax.grad(loss_of)(params, batch)
        return jax.tree.map(lambda g: config.batch * jnp.square(g), gradient)

    return UpdateRule(rule, optimizer, apply, fisher)


def _batch(patterns: Patterns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return patterns.inputs, patterns.reflection, patterns.target

"""Regression: networks that predict a mean and a spread, each with its own architecture, learning rate and decay."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.bayesnas.batches import batch_indices
from jaxsci.bayesnas.space import Space
from jaxsci.core.config import between, positive, require

LOG_2PI = 1.8378770664093453
LEAST_STD = 1e-3  # of a standardised target


@dataclass(frozen=True)
class RegressionConfig:
    """A catalogue of `members` networks trained side by side, of which greedy selection keeps a weighted part.

    The scheme of AutoDEUQ (arXiv:2110.13511): architectures and training hyperparameters are drawn together, here
    log-uniformly from the given ranges and independently, so a member's learning rate and decay are numbers in one
    compiled program. `validation` is the share of the training rows that selection uses. Afterwards the members'
    networks are used as they are: nothing is trained on those rows.
    """

    members: int = 24
    restarts: int = 2
    steps: int = 3000
    batch_size: int = 64
    learning_rates: tuple[float, float] = (1e-3, 1e-2)
    weight_decays: tuple[float, float] = (1e-5, 1e-1)
    validation: float = 0.15
    rounds: int = 20

    def __post_init__(self) -> None:
        positive(self, "steps", "batch_size", "rounds")
        require(self.restarts >= 2, "restarts", "2 or more, to tell architecture from initialisation", self.restarts)
        fits = self.members >= 2 * self.restarts and self.members % self.restarts == 0
        require(fits, "members", f"a multiple of restarts={self.restarts}, twice that or more", self.members)
        between(self, "validation", 0.02, 0.5)
        for name in ("learning_rates", "weight_decays"):
            low, high = getattr(self, name)
            require(0 < low <= high, name, "two values above 0, the smaller first", (low, high))


class Member(NamedTuple):
    """What tells one member from another, as data."""

    z: Float[Array, "decisions ops"]
    learning_rate: Float[Array, ""]
    weight_decay: Float[Array, ""]
    key: Key[Array, ""]


class Normal(NamedTuple):
    """A predictive normal distribution for every example."""

    mean: Float[Array, "*batch"]
    std: Float[Array, "*batch"]


class Rows(NamedTuple):
    """Training and other rows in arrays of fixed length, so that splits of unequal length share a program."""

    x: Float[Array, "rows columns"]
    y: Float[Array, " rows"]


def heteroscedastic(outputs: Float[Array, "*batch 2"]) -> Normal:
    """Mean and spread from two outputs; the spread is a softplus, at least 1e-3 of the target's."""
    return Normal(outputs[..., 0], jax.nn.softplus(outputs[..., 1]) + LEAST_STD)


def normal_nll(p: Normal, y: Float[Array, "*examples"]) -> Float[Array, "*members_and_examples"]:
    """Negative log density in nats; `y` is broadcast over members."""
    return 0.5 * jnp.square((y - p.mean) / p.std) + jnp.log(p.std) + 0.5 * LOG_2PI


def mixture_nll(
    p: Normal, weights: Float[Array, " members"], y: Float[Array, " examples"]
) -> Float[Array, " examples"]:
    """Of the weighted mixture of the members' normals (leading axis), not of one normal fitted to it."""
    return -jax.scipy.special.logsumexp(-normal_nll(p, y), axis=0, b=weights[:, None])


def draw_members(
    space: Space, config: RegressionConfig, choices: Int[Array, "architectures decisions"], *, key: Key[Array, ""]
) -> Member:
    """Every architecture `restarts` times, restarts of one sharing its hyperparameters: they are part of it."""
    count = len(choices)
    low_high = lambda pair: (jnp.log(pair[0]), jnp.log(pair[1]))  # noqa: E731
    rate, decay, chains = jax.random.split(key, 3)
    uniform = lambda key, pair: jnp.exp(jax.random.uniform(key, (count,), minval=pair[0], maxval=pair[1]))  # noqa: E731
    repeat = lambda a: jnp.repeat(a, config.restarts, axis=0)  # noqa: E731
    keys = jax.vmap(lambda m: jax.random.fold_in(chains, m))(jnp.arange(count * config.restarts))
    return Member(
        repeat(jax.nn.one_hot(choices, len(space.ops))),
        repeat(uniform(rate, low_high(config.learning_rates))),
        repeat(uniform(decay, low_high(config.weight_decays))),
        keys,
    )


def train_member(
    space: Space, config: RegressionConfig, member: Member, train: Rows, count: int
) -> tuple[PyTree, Float[Array, " steps"]]:
    """Adam with decoupled decay down a cosine on the heteroscedastic likelihood; returns weights and losses.

    `train` may be padded: only the first `count` rows are drawn. `vmap` over members and over splits.
    """
    weights_key, order = jax.random.split(member.key)
    params = space.init(train.x.shape[1:], 2, key=weights_key)
    rule = optax.chain(optax.clip_by_global_norm(5.0), optax.scale_by_adam())
    rows = batch_indices(count, min(config.batch_size, count), config.steps, key=order)
    scaled = lambda step: 0.5 * member.learning_rate * (1 + jnp.cos(jnp.pi * step / config.steps))  # noqa: E731

    def loss(params: PyTree, row: Array) -> Array:
        return jnp.mean(normal_nll(heteroscedastic(space.apply(params, member.z, train.x[row])), train.y[row]))

    def step(carry: tuple[PyTree, PyTree], at: tuple[Array, Array]) -> tuple[tuple[PyTree, PyTree], Array]:
        (params, state), (number, row) = carry, at
        value, gradient = jax.value_and_grad(loss)(params, row)
        change, state = rule.update(gradient, state)
        rate = scaled(number)
        params = jax.tree.map(lambda p, c: p - rate * (c + member.weight_decay * p), params, change)
        return (params, state), value

    (params, _), losses = jax.lax.scan(step, (params, rule.init(params)), (jnp.arange(config.steps), rows))
    return params, losses


def select(p: Normal, y: Float[Array, " examples"], rounds: int, *, architectures: int) -> Float[Array, " members"]:
    """Greedy selection of architectures by held-out likelihood of the mixture (Caruana et al. 2004), with repetition.

    A candidate is an architecture with all its restarts, so that what is kept can still be split into architecture and
    weights. Returns the weights of members (axis 0 of `p`), summing to one.
    """
    members = len(p.mean)
    likelihood = jnp.exp(-normal_nll(p, y))
    by_architecture = jnp.mean(likelihood.reshape(architectures, members // architectures, -1), axis=1)

    def add(carry: tuple[Array, Array], number: Array) -> tuple[tuple[Array, Array], None]:
        counts, total = carry
        losses = -jnp.mean(jnp.log((total + by_architecture) / (number + 1) + 1e-30), axis=-1)
        best = jnp.argmin(losses)
        return (counts.at[best].add(1), total + by_architecture[best]), None

    start = (jnp.zeros(architectures), jnp.zeros(len(y)))
    (counts, _), _ = jax.lax.scan(add, start, jnp.arange(rounds, dtype=jnp.float32))
    per_member = jnp.repeat(counts / rounds, members // architectures)
    return per_member / (members // architectures)

"""A committee of small networks on worker vectors: fast enough to be fitted again after every experiment.

Each member starts elsewhere and sees its own bootstrap of the *runs* (workers of one run are not independent). One
program fits all members in a fixed number of steps on rows drawn by index, so that it is compiled once, however much
data there is.
"""

import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.core.config import positive
from jaxsci.core.host_random import generator
from jaxsci.workflows.worker_features import WIDTH

LEAST_ROWS = 1024  # tables are padded to this times a power of two, so that few programs are compiled


@dataclass(frozen=True)
class CommitteeConfig:
    """`members` networks of `width` hidden units, `steps` of Adam on `batch` workers each."""

    members: int = 6
    width: int = 32
    steps: int = 250
    batch: int = 256
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2

    def __post_init__(self):
        positive(self, "members", "width", "steps", "batch", "learning_rate")


class Member(eqx.Module):
    """Two hidden layers on standardised worker vectors."""

    centre: Float[Array, "width_in"]
    scale: Float[Array, "width_in"]
    first: Float[Array, "width_in hidden"]
    second: Float[Array, "hidden hidden"]
    out: Float[Array, "hidden classes"]
    biases: tuple[Float[Array, "hidden"], Float[Array, "hidden"], Float[Array, "classes"]]

    def __init__(self, width: int, classes: int, *, key: PRNGKeyArray):
        keys = jax.random.split(key, 3)
        self.centre, self.scale = jnp.zeros(WIDTH), jnp.ones(WIDTH)
        self.first = jax.random.normal(keys[0], (WIDTH, width)) / jnp.sqrt(WIDTH)
        self.second = jax.random.normal(keys[1], (width, width)) / jnp.sqrt(width)
        self.out = jax.random.normal(keys[2], (width, classes)) / jnp.sqrt(width)
        self.biases = (jnp.zeros(width), jnp.zeros(width), jnp.zeros(classes))

    def __call__(self, x: Float[Array, "n width_in"]) -> Float[Array, "n classes"]:
        h = (x - self.centre) / self.scale
        h = jax.nn.gelu(h @ self.first + self.biases[0])
        h = jax.nn.gelu(h @ self.second + self.biases[1])
        return h @ self.out + self.biases[2]


def initial_committee(config: CommitteeConfig, classes: int, *, key: PRNGKeyArray) -> Member:
    """Untrained members along the leading axis."""
    return eqx.filter_vmap(lambda k: Member(config.width, classes, key=k))(jax.random.split(key, config.members))


def fit_committee(
    x: Float[np.ndarray, "n width_in"],
    y: Int[np.ndarray, "n"],
    run: Int[np.ndarray, "n"],
    classes: int,
    config: CommitteeConfig,
    *,
    key: PRNGKeyArray,
) -> Member:
    """A committee fitted to workers `x` of classes `y`, bootstrapped over `run`."""
    for_init, for_bags, for_steps = jax.random.split(key, 3)
    committee = initial_committee(config, classes, key=for_init)
    padded = padded_rows(len(x))
    bags, sizes = np.zeros((config.members, padded), np.int64), np.zeros(config.members, np.int64)
    for member, k in enumerate(jax.random.split(for_bags, config.members)):
        bag = _bag(run, k)
        bags[member, : len(bag)], sizes[member] = bag, len(bag)
    table, labels = np.zeros((padded, x.shape[1]), np.float32), np.zeros(padded, np.int64)
    table[: len(x)], labels[: len(x)] = x, y
    centre, scale = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-3)
    members = config.members
    committee = eqx.tree_at(
        lambda c: (c.centre, c.scale),
        committee,
        (jnp.tile(jnp.asarray(centre), (members, 1)), jnp.tile(jnp.asarray(scale), (members, 1))),
    )
    keys = jax.random.split(for_steps, members)
    arrays = (jnp.asarray(table), jnp.asarray(labels), jnp.asarray(bags), jnp.asarray(sizes))
    return _fit(committee, *arrays, keys, config)


@eqx.filter_jit
def _fit(committee, table, labels, bags, sizes, keys, config: CommitteeConfig):
    """Only the first `sizes` entries of each bag count: what is padded is never drawn."""

    optimizer = optax.adamw(
        optax.cosine_decay_schedule(config.learning_rate, config.steps), weight_decay=config.weight_decay
    )

    def fit(member, bag, size, key):
        def loss(member, rows):
            return optax.softmax_cross_entropy_with_integer_labels(member(table[rows]), labels[rows]).mean()

        def step(carry, number):
            member, moments = carry
            rows = bag[jax.random.randint(jax.random.fold_in(key, number), (config.batch,), 0, size)]
            gradient = jax.grad(loss)(member, rows)
            fixed = lambda g: eqx.tree_at(  # noqa: E731
                lambda m: (m.centre, m.scale), g, (jnp.zeros_like(g.centre), jnp.zeros_like(g.scale))
            )
            updates, moments = optimizer.update(fixed(gradient), moments, member)
            return (eqx.apply_updates(member, fixed(updates)), moments), None

        (member, _), _ = jax.lax.scan(step, (member, optimizer.init(member)), jnp.arange(config.steps))
        return member

    return jax.vmap(fit)(committee, bags, sizes, keys)


@eqx.filter_jit
def _probabilities(committee: Member, x):
    return jax.vmap(lambda member: jax.nn.softmax(member(x)))(committee)


def committee_probabilities(
    committee: Member, x: Float[np.ndarray, "n width_in"]
) -> Float[np.ndarray, "members n classes"]:
    """Padded to few shapes, so that few programs are compiled."""
    padded = padded_rows(len(x))
    table = np.zeros((padded, x.shape[1]), np.float32)
    table[: len(x)] = x
    return np.asarray(_probabilities(committee, jnp.asarray(table)))[:, : len(x)]


def padded_rows(rows: int) -> int:
    """`LEAST_ROWS` times a power of two, at least `rows`."""
    return LEAST_ROWS * 2 ** max(0, math.ceil(math.log2(rows / LEAST_ROWS)))


def _bag(run: Int[np.ndarray, "n"], key: PRNGKeyArray) -> Int[np.ndarray, "rows"]:
    """Rows of as many runs as there are, drawn with replacement; shuffled, and cut to n rows where they are more.

    Drawn on the host: a program for every number of rows would be compiled otherwise.
    """
    names, number = np.unique(run, return_inverse=True)
    rng = generator(key)
    times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
    return rng.permutation(np.repeat(np.arange(len(run)), times[number]))[: len(run)]

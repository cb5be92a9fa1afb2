"""The network of AIEADA 1.0: an LSTM encoder, its state repeated to every lead, and attention between two LSTMs.

Kept apart from `sequence.DirectRecurrent`, which corrects a linear forecast: this one learns the whole map.
Source: Maulik et al. 2022, Geosci. Model Dev. 15, 3433-3445, and the code published with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.core.config import between, positive, require

Scaled = Float[Array, "inputs modes"]


class Lstm(eqx.Module):
    """An LSTM whose cell and output pass through `activation` (swish in the source) in place of tanh."""

    inputs: Float[Array, "4width in"]
    recurrent: Float[Array, "4width width"]
    bias: Float[Array, " 4width"]
    activation: Callable[[Array], Array] = eqx.field(static=True)

    def __init__(
        self, size: int, width: int, activation: Callable[[Array], Array] = jax.nn.swish, *, key: PRNGKeyArray
    ):
        first, second = jax.random.split(key)
        glorot, orthogonal = jax.nn.initializers.glorot_uniform(), jax.nn.initializers.orthogonal()
        self.inputs = glorot(first, (4 * width, size))
        self.recurrent = jnp.concatenate([orthogonal(k, (width, width)) for k in jax.random.split(second, 4)])
        self.bias = jnp.zeros(4 * width).at[width : 2 * width].set(1.0)  # the forget gate begins open
        self.activation = activation

    def __call__(self, sequence: Float[Array, "times in"]) -> Float[Array, "times width"]:
        """The output at every time."""
        rest = jnp.zeros(self.recurrent.shape[1], sequence.dtype)

        def step(state: tuple[Array, Array], driven: Array) -> tuple[tuple[Array, Array], Array]:
            output, cell = state
            into, forget, candidate, out = jnp.split(driven + self.recurrent @ output, 4)
            cell = jax.nn.sigmoid(forget) * cell + jax.nn.sigmoid(into) * self.activation(candidate)
            output = jax.nn.sigmoid(out) * self.activation(cell)
            return (output, cell), output

        return jax.lax.scan(step, (rest, rest), sequence @ self.inputs.T + self.bias)[1]


class AttentionLstm(eqx.Module):
    """`inputs` days of coefficients, oldest first, to the `leads` days that follow, all at once.

    Coefficients are mapped to [0, 1] by `low` and `span` before, and back after.
    """

    encoder: Lstm
    query: Lstm
    value: Lstm
    head: eqx.nn.Linear
    low: Float[Array, " modes"]
    span: Float[Array, " modes"]
    leads: int = eqx.field(static=True)

    def __init__(
        self, low: Float[Array, " modes"], span: Float[Array, " modes"], leads: int, width: int, *, key: PRNGKeyArray
    ):
        keys = jax.random.split(key, 4)
        self.encoder = Lstm(len(low), width, key=keys[0])
        self.query, self.value = Lstm(width, width, key=keys[1]), Lstm(width, width, key=keys[2])
        self.head = eqx.nn.Linear(width, len(low), key=keys[3])
        self.low, self.span, self.leads = low, span, leads

    def scaled(self, window: Scaled) -> Float[Array, "leads modes"]:
        """The same in scaled coefficients."""
        repeated = jnp.broadcast_to(self.encoder(window)[-1], (self.leads, self.encoder.recurrent.shape[1]))
        query, value = self.query(repeated), self.value(repeated)
        return jax.vmap(self.head)(jax.nn.softmax(query @ value.T, axis=-1) @ value)

    def __call__(self, window: Float[Array, "inputs modes"]) -> Float[Array, "leads modes"]:
        return self.low + self.span * self.scaled((window - self.low) / self.span)


@dataclass(frozen=True)
class AttentionLstmConfig:
    """The learning rate halves after `patience` epochs without gain; training ends below `smallest_rate`.

    As published, but for `batches` of an epoch and `epochs` (5 and at most 500 there): as many steps, in a quarter of
    the time.
    """

    width: int = 50
    epochs: int = 120
    batches: int = 20
    learning_rate: float = 1e-3
    patience: int = 10
    smallest_rate: float = 1e-5

    def __post_init__(self) -> None:
        positive(self, "width", "epochs", "batches", "learning_rate", "patience", "smallest_rate")
        between(self, "batches", 1, 10**6)
        require(self.smallest_rate <= self.learning_rate, "smallest_rate", "at most learning_rate", self.smallest_rate)


class Pairs(NamedTuple):
    """Windows of consecutive days and the days that follow them."""

    inputs: Float[np.ndarray, "samples inputs modes"]
    targets: Float[np.ndarray, "samples leads modes"]


def pairs(coefficients: Float[np.ndarray, "days modes"], inputs: int, leads: int) -> Pairs:
    """All windows that lie in the span with the days that follow them. Windows of two spans share no day."""
    require(len(coefficients) >= inputs + leads, "data.path", f"spans of {inputs + leads} days", len(coefficients))
    windows = np.lib.stride_tricks.sliding_window_view(coefficients, inputs + leads, axis=0).transpose(0, 2, 1)
    return Pairs(windows[:, :inputs], windows[:, inputs:])


class TrainedAttention(NamedTuple):
    """A trained network and its validation loss."""

    network: AttentionLstm
    """As it was at its smallest validation loss."""
    validation_loss: float
    """Mean squared error of scaled coefficients."""
    epochs: int


def train_attention_lstm(
    training: Pairs,
    validation: Pairs,
    config: AttentionLstmConfig,
    *,
    key: PRNGKeyArray,
    on_epoch: Callable[[int, float, float], None] = lambda epoch, loss, rate: None,
) -> TrainedAttention:
    """Adam on the mean squared error of scaled coefficients, float32. `on_epoch(epoch, validation loss, rate)`."""
    low, high = (f(training.inputs, axis=(0, 1)) for f in (np.min, np.max))
    low, span = jnp.asarray(low, jnp.float32), jnp.asarray(high - low, jnp.float32)
    inputs, targets, checks, truths = ((jnp.asarray(a, jnp.float32) - low) / span for a in (*training, *validation))
    first, order = jax.random.split(key)
    begun = AttentionLstm(low, span, targets.shape[1], config.width, key=first)
    begun = jax.tree.map(lambda a: a.astype(jnp.float32) if eqx.is_inexact_array(a) else a, begun)
    learned = eqx.tree_at(lambda n: (n.low, n.span), jax.tree.map(eqx.is_inexact_array, begun), (False, False))
    params, static = eqx.partition(begun, learned)
    rule = optax.scale_by_adam()
    size = max(1, len(inputs) // config.batches)

    def loss(params, given: Array, wanted: Array) -> Array:
        return jnp.mean(jnp.square(jax.vmap(eqx.combine(params, static).scaled)(given) - wanted))

    @jax.jit
    def one_epoch(params, memory, rate, key):
        shuffled = jax.random.permutation(key, len(inputs))[: size * config.batches].reshape(config.batches, size)

        def step(carry, chosen):
            params, memory = carry
            gradient = jax.grad(loss)(params, inputs[chosen], targets[chosen])
            updates, memory = rule.update(gradient, memory)
            return (jax.tree.map(lambda p, u: p - rate * u, params, updates), memory), None

        (params, memory), _ = jax.lax.scan(step, (params, memory), shuffled)
        return params, memory, loss(params, checks, truths)

    best, waited, rate, memory, epoch = (np.inf, params), 0, config.learning_rate, rule.init(params), 0
    for epoch in range(1, config.epochs + 1):
        params, memory, found = one_epoch(params, memory, rate, jax.random.fold_in(order, epoch))
        on_epoch(epoch, float(found), rate)
        waited = 0 if found < best[0] else waited + 1
        best = (float(found), params) if found < best[0] else best
        if waited >= config.patience:
            rate, waited = rate / 2, 0
            if rate < config.smallest_rate:
                break
    return TrainedAttention(eqx.combine(best[1], static), best[0], epoch)

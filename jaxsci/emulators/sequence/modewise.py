"""Non-autoregressive LSTMs: the recurrence runs over the POD modes, and each mode's whole time series comes at once."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.emulators.sequence.layers import dropped, scan_lstm, zero_linear


class NaLstm(eqx.Module):
    """`features -> (times, modes)`: step k of the LSTM emits the time series of mode k, in one call for all times.

    What reaches step k are the features, embedded by a perceptron, and a learned code of the mode; the hidden state carries information from the
    modes before it, and, with `both_ways` (the NA-BLSTM), a second LSTM from those after it. Time is nowhere a
    recurrence: the number of times is the width of the head.
    Source: Maulik, Lusch and Balaprakash 2020, arXiv:2006.14725, section 3 (layer sizes are our own).
    """

    codes: Float[Array, "modes code"]
    embed: list[eqx.nn.Linear]
    forward: eqx.nn.LSTMCell
    backward: eqx.nn.LSTMCell | None
    head: eqx.nn.Linear
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        features: int,
        times: int,
        modes: int,
        *,
        width: int = 64,
        embedding: int = 128,
        code: int = 16,
        both_ways: bool = False,
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, 6)
        dtype = jnp.float32
        self.codes = jax.random.normal(keys[0], (modes, code), dtype)
        self.embed = [
            eqx.nn.Linear(features, embedding, dtype=dtype, key=keys[1]),
            eqx.nn.Linear(embedding, embedding, dtype=dtype, key=keys[5]),
        ]
        self.forward = eqx.nn.LSTMCell(embedding + code, width, dtype=dtype, key=keys[2])
        self.backward = eqx.nn.LSTMCell(embedding + code, width, dtype=dtype, key=keys[3]) if both_ways else None
        self.head = zero_linear(width * (1 + both_ways), times, key=keys[4])
        self.dropout = dropout

    def __call__(
        self, features: Float[Array, " features"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "times modes"]:
        embedded = features
        for layer in self.embed:
            embedded = jax.nn.gelu(layer(embedded))
        inputs = jnp.concatenate(
            [jnp.broadcast_to(embedded, (len(self.codes), len(embedded))), self.codes], axis=1
        )
        hidden = scan_lstm(self.forward, inputs)
        if self.backward is not None:
            hidden = jnp.concatenate([hidden, scan_lstm(self.backward, inputs, reverse=True)], axis=1)
        hidden = dropped(hidden, self.dropout, key)
        return (hidden @ self.head.weight.T + self.head.bias).T

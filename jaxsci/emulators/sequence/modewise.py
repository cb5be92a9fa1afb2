"""Non-autoregressive LSTMs: the recurrence runs over the POD modes, and each mode's whole time series comes at once."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.emulators.sequence.layers import dropped, scan_lstm, zero_linear


class NaLstm(eqx.Module):
    """`features -> (times, modes)`: step k of the LSTM emits the time series of mode k, in one call for all times.

    What reaches step k is a projection, the mode's own, of the embedded features; the hidden state carries information
    from the modes before it, and, with `both_ways` (the NA-BLSTM), a second LSTM from those after it. The head sees the
    hidden states and, past them, the projection itself. Time is nowhere a recurrence: the number of times is the width
    of the head.
    Source: Maulik, Lusch and Balaprakash 2020, arXiv:2006.14725, section 3 (layer sizes are our own).
    """

    embed: list[eqx.nn.Linear]
    projections: Float[Array, "modes inputs embedding"]
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
        width: int = 48,
        embedding: int = 256,
        both_ways: bool = False,
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, 6)
        dtype = jnp.float32
        self.embed = [
            eqx.nn.Linear(features, embedding, dtype=dtype, key=keys[0]),
            eqx.nn.Linear(embedding, embedding, dtype=dtype, key=keys[1]),
        ]
        self.projections = jax.random.normal(keys[2], (modes, width, embedding), dtype) / embedding**0.5
        self.forward = eqx.nn.LSTMCell(width, width, dtype=dtype, key=keys[3])
        self.backward = eqx.nn.LSTMCell(width, width, dtype=dtype, key=keys[4]) if both_ways else None
        self.head = zero_linear(width * (2 + both_ways), times, key=keys[5])
        self.dropout = dropout

    def __call__(
        self, features: Float[Array, " features"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "times modes"]:
        embedded = features
        for layer in self.embed:
            embedded = jax.nn.gelu(layer(embedded))
        inputs = self.projections @ dropped(embedded, self.dropout, key)
        hidden = [inputs, scan_lstm(self.forward, inputs)]
        if self.backward is not None:
            hidden.append(scan_lstm(self.backward, inputs, reverse=True))
        return jax.vmap(self.head)(jnp.concatenate(hidden, axis=1)).T

"""What the networks of this folder share: dropout and a recurrence over a sequence."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def dropped(x: Array, rate: float, key: PRNGKeyArray | None) -> Array:
    """Dropout by `rate` with a key, `x` itself without one (inference)."""
    if key is None or rate == 0:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0)


def scan_lstm(
    cell: eqx.nn.LSTMCell, inputs: Float[Array, "length inputs"], *, reverse: bool = False
) -> Float[Array, "length width"]:
    """Hidden states of an LSTM started at rest, in the order of the inputs whichever way it ran.

    The inputs' part of the gates is one product for the whole sequence; only the hidden part waits for its turn.
    """
    given = inputs @ cell.weight_ih.T
    if cell.bias is not None:
        given = given + cell.bias
    rest = jnp.zeros(cell.hidden_size, given.dtype)

    def advance(state: tuple[Array, Array], gates: Array) -> tuple[tuple[Array, Array], Array]:
        hidden, memory = state
        i, f, g, o = jnp.split(gates + cell.weight_hh @ hidden, 4)
        memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(memory)
        return (hidden, memory), hidden

    return jax.lax.scan(advance, (rest, rest), given, reverse=reverse)[1]


def zero_linear(inputs: int, outputs: int, *, key: PRNGKeyArray) -> eqx.nn.Linear:
    """A linear layer that gives zero before training: the network starts from whatever it is added to."""
    layer = eqx.nn.Linear(inputs, outputs, dtype=jnp.float32, key=key)
    return jax.tree.map(jnp.zeros_like, layer)

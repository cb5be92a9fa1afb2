"""The autoregressive LSTM: the last few states give the next one, which is fed back."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.emulators.sequence.layers import dropped, scan_lstm


class AutoregressiveLstm(eqx.Module):
    """`(window, modes), features -> (modes,)`: stacked LSTMs read the window, oldest first, a linear layer answers.

    Three layers of 50 and a window of ten are the published choice (Maulik et al. 2021, Phys. Fluids 33, 037106). The
    answer is added to the newest state: without it the network would have to learn the identity first.
    """

    cells: list[eqx.nn.LSTMCell]
    head: eqx.nn.Linear
    dropout: float = eqx.field(static=True)

    def __init__(
        self, features: int, modes: int, *, width: int = 50, depth: int = 3, dropout: float = 0.0, key: PRNGKeyArray
    ):
        *keys, last = jax.random.split(key, depth + 1)
        sizes = [modes + features] + [width] * depth
        self.cells = [
            eqx.nn.LSTMCell(a, b, dtype=jnp.float32, key=k) for a, b, k in zip(sizes, sizes[1:], keys, strict=False)
        ]
        self.head = eqx.nn.Linear(width, modes, dtype=jnp.float32, key=last)
        self.dropout = dropout

    def __call__(
        self,
        window: Float[Array, "window modes"],
        features: Float[Array, " features"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, " modes"]:
        given = jnp.broadcast_to(features, (len(window), len(features)))
        hidden = jnp.concatenate([window, given], axis=1)
        for cell in self.cells:
            hidden = scan_lstm(cell, hidden)
        return window[-1] + self.head(dropped(hidden[-1], self.dropout, key))

    def continue_from(
        self, window: Float[Array, "window modes"], features: Float[Array, " features"], steps: int
    ) -> Float[Array, "steps modes"]:
        """The states after the window, each from those before it."""

        def advance(states: Array, _: None) -> tuple[Array, Array]:
            new = self(states, features)
            return jnp.concatenate([states[1:], new[None]]), new

        return jax.lax.scan(advance, window, length=steps)[1]

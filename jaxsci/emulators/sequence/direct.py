"""Direct (non-autoregressive) recurrent forecaster: all leads from one delay state, none fed back."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.emulators.delay import advance


class DirectRecurrent(eqx.Module):
    """LSTM encoder over the lags, its last hidden state repeated to every lead, LSTM decoder over the leads.

    The output is `skip(state) + scale * head(decoder)`: a per-lead linear map, held fixed, plus a recurrent correction
    whose head starts at zero, so training starts from the linear forecast. Inputs are divided by `scale` (one number a
    mode).
    Source of the encoder-repeat-decoder form: Maulik et al. 2022, Geosci. Model Dev. 15, 3433-3445.
    """

    skip: Float[Array, "leads inputs modes"]
    scale: Float[Array, " modes"]
    encoder: eqx.nn.LSTMCell
    decoder: eqx.nn.LSTMCell
    head: eqx.nn.Linear
    lags: int = eqx.field(static=True)
    leads: int = eqx.field(static=True)

    def __init__(
        self,
        skip: Float[Array, "leads inputs modes"],
        scale: Float[Array, " modes"],
        width: int,
        *,
        key: PRNGKeyArray,
    ):
        leads, inputs, modes = skip.shape
        keys = jax.random.split(key, 3)
        dtype = jnp.float32
        self.skip, self.scale = skip.astype(dtype), scale.astype(dtype)
        self.encoder = eqx.nn.LSTMCell(modes, width, dtype=dtype, key=keys[0])
        self.decoder = eqx.nn.LSTMCell(width, width, dtype=dtype, key=keys[1])
        head = eqx.nn.Linear(width, modes, dtype=dtype, key=keys[2])
        self.head = jax.tree.map(jnp.zeros_like, head)
        self.lags, self.leads = inputs // modes, leads

    def forecast(self, state: Float[Array, "lags modes"]) -> Float[Array, "leads modes"]:
        """The following days, first lead first."""
        return self.first(state, self.leads)

    def first(self, state: Float[Array, "lags modes"], leads: int) -> Float[Array, "{leads} modes"]:
        """The first `leads` of the forecast, without the work of the later ones."""
        rest = jnp.zeros_like(state, shape=self.encoder.hidden_size)
        encoded, _ = jax.lax.scan(lambda c, x: (self.encoder(x, c), None), (rest, rest), state[::-1] / self.scale)

        def lead(carry: tuple, _: None) -> tuple[tuple, Array]:
            carry = self.decoder(encoded[0], carry)
            return carry, self.head(carry[0])

        _, correction = jax.lax.scan(lead, encoded, length=leads)
        return state.reshape(-1) @ jax.lax.stop_gradient(self.skip[:leads]) + self.scale * correction

    def __call__(self, state: Float[Array, "lags modes"]) -> Float[Array, "lags modes"]:
        return advance(self.first(state, 1), state)


class EmulatorMean(eqx.Module):
    """The mean forecast of an ensemble of direct emulators stacked along a leading member axis."""

    members: DirectRecurrent
    lags: int = eqx.field(static=True)
    leads: int = eqx.field(static=True)

    def __init__(self, members: DirectRecurrent):
        self.members, self.lags, self.leads = members, members.lags, members.leads

    def forecast(self, state: Float[Array, "lags modes"]) -> Float[Array, "leads modes"]:
        """The following days, mean over members."""
        return eqx.filter_vmap(lambda member: member.forecast(state))(self.members).mean(0)

    def __call__(self, state: Float[Array, "lags modes"]) -> Float[Array, "lags modes"]:
        tomorrow = eqx.filter_vmap(lambda member: member.first(state, 1))(self.members).mean(0)
        return advance(tomorrow, state)

"""A non-autoregressive temporal convolution network."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.emulators.sequence.fourier import cosines
from jaxsci.emulators.sequence.layers import dropped, zero_linear

TAPS = 3


class DilatedBlock(eqx.Module):
    """`x + gelu(causal convolution of x)`: output n sees inputs n, n - d and n - 2 d.

    Three products in place of a convolution primitive, which is slow on CPUs under `vmap`.
    """

    weight: Float[Array, "taps width width"]
    bias: Float[Array, " width"]
    dilation: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, "times width"]) -> Float[Array, "times width"]:
        padded = jnp.pad(x, ((self.dilation * (TAPS - 1), 0), (0, 0)))
        taps = [padded[self.dilation * i : self.dilation * i + len(x)] @ self.weight[i] for i in range(TAPS)]
        return x + jax.nn.gelu(sum(taps, self.bias))


class NaTcn(eqx.Module):
    """`features -> (times, modes)`: dilations 1, 2, 4, ... reach back over the whole series; none of it is fed back.

    Every time sees the features and a code of its own time (cosines). Source of the architecture: Bai, Kolter and
    Koltun 2018, arXiv:1803.01271, section 3.
    """

    embed: eqx.nn.Linear
    blocks: list[DilatedBlock]
    head: eqx.nn.Linear
    times: int = eqx.field(static=True)
    waves: int = eqx.field(static=True)
    dropout: float = eqx.field(static=True)

    def __init__(
        self,
        features: int,
        times: int,
        modes: int,
        *,
        width: int = 64,
        waves: int = 16,
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ):
        depth = max(int(np.ceil(np.log2(times))), 1)
        first, last, *keys = jax.random.split(key, depth + 2)
        dtype = jnp.float32
        self.embed = eqx.nn.Linear(features + waves, width, dtype=dtype, key=first)
        scale = 1 / np.sqrt(TAPS * width)
        self.blocks = [
            DilatedBlock(scale * jax.random.normal(k, (TAPS, width, width), dtype), jnp.zeros(width, dtype), 2**i)
            for i, k in enumerate(keys)
        ]
        self.head = zero_linear(width, modes, key=last)
        self.times, self.waves, self.dropout = times, waves, dropout

    def __call__(
        self, features: Float[Array, " features"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "times modes"]:
        clock = np.sqrt(self.times / 2) * cosines(self.times, self.waves)
        inputs = jnp.concatenate([jnp.broadcast_to(features, (self.times, len(features))), clock], axis=1)
        hidden = jax.vmap(self.embed)(inputs)
        for block in self.blocks:
            hidden = block(hidden)
        return jax.vmap(self.head)(dropped(hidden, self.dropout, key))

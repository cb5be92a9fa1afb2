"""A non-autoregressive perceptron whose outputs are amplitudes of cosines in time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.emulators.sequence.layers import dropped, zero_linear


class NaMlp(eqx.Module):
    """`features -> (times, modes)` by `a_k(t_n) = sum_j c_kj cos(pi j (n + 1/2) / times)`, `c` from a perceptron.

    The cosines are those of the discrete cosine transform (type II), which needs no period: with as many `waves` as
    times any series can be written, with fewer only smooth ones.
    """

    layers: list[eqx.nn.Linear]
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
        width: int = 128,
        depth: int = 3,
        waves: int = 32,
        dropout: float = 0.0,
        key: PRNGKeyArray,
    ):
        *keys, last = jax.random.split(key, depth + 1)
        sizes = [features] + [width] * depth
        self.layers = [
            eqx.nn.Linear(a, b, dtype=jnp.float32, key=k) for a, b, k in zip(sizes, sizes[1:], keys, strict=False)
        ]
        self.times, self.waves = times, min(waves, times)
        self.head = zero_linear(width, modes * self.waves, key=last)
        self.dropout = dropout

    def __call__(
        self, features: Float[Array, " features"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "times modes"]:
        keys = [None] * len(self.layers) if key is None else jax.random.split(key, len(self.layers))
        hidden = features
        for layer, one in zip(self.layers, keys, strict=True):
            hidden = dropped(jax.nn.gelu(layer(hidden)), self.dropout, one)
        return jnp.asarray(cosines(self.times, self.waves)) @ self.head(hidden).reshape(self.waves, -1)


def cosines(times: int, waves: int) -> Float[np.ndarray, "times waves"]:
    """Columns of the orthonormal discrete cosine transform (but for the first, longer by sqrt 2)."""
    phase = np.pi * np.arange(waves) * (np.arange(times)[:, None] + 0.5) / times
    return (np.sqrt(2 / times) * np.cos(phase)).astype(np.float32)

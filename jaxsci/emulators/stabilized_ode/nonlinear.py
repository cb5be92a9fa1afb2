"""Nonlinear terms: a dense network, a circular convolutional one, and forms that conserve the mean or the energy."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.core.config import require


class Nonlinear(eqx.Module):
    """A map from the state to a field; where `flux` is true the term is minus the derivative of that field."""

    @property
    def flux(self) -> bool:
        return False

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        raise NotImplementedError


class Layers(eqx.Module):
    """Affine maps with a smooth activation between them. Applies to the last axis."""

    weights: tuple[Float[Array, "inputs outputs"], ...]
    biases: tuple[Float[Array, " outputs"], ...]

    def __init__(self, sizes: Sequence[int], *, key: PRNGKeyArray):
        keys = jax.random.split(key, len(sizes) - 1)
        pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
        self.weights = tuple(jax.random.normal(k, (a, b), jnp.float32) / math.sqrt(a) for k, a, b in pairs)
        self.biases = tuple(jnp.zeros(b, jnp.float32) for b in sizes[1:])

    def __call__(self, x: Float[Array, "*batch inputs"]) -> Float[Array, "*batch outputs"]:
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = jnp.tanh(x @ weight.astype(x.dtype) + bias.astype(x.dtype))
        return x @ self.weights[-1].astype(x.dtype) + self.biases[-1].astype(x.dtype)


class Mlp(Nonlinear):
    """A dense network of the whole state: no symmetry is built in, and the mean may drift."""

    layers: Layers

    def __init__(self, points: int, width: int, depth: int, *, key: PRNGKeyArray):
        self.layers = Layers((points, *[width] * depth, points), key=key)

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.layers(u)


class Local(eqx.Module):
    """A circular convolution of `2 reach + 1` taps followed by point-wise layers, channels last.

    Written as a matrix product over shifted copies: gradients of convolutions inside a scan are slow on CPU.
    """

    layers: Layers
    reach: int = eqx.field(static=True)

    def __init__(self, reach: int, width: int, depth: int, channels: int, *, key: PRNGKeyArray):
        require(reach >= 0, "reach", "0 or more", reach)
        self.layers = Layers((2 * reach + 1, *[width] * depth, channels), key=key)
        self.reach = reach

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, "n channels"]:
        shifted = jnp.stack([jnp.roll(u, -j) for j in range(-self.reach, self.reach + 1)], axis=-1)
        return self.layers(shifted)


class CircularCnn(Nonlinear):
    """A local network of the neighbourhood of each point: commutes with translations."""

    local: Local

    def __init__(self, reach: int, width: int, depth: int, *, key: PRNGKeyArray):
        self.local = Local(reach, width, depth, 1, key=key)

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.local(u)[:, 0]


class FluxCnn(Nonlinear):
    """`-d/dx f(u)` with a local network f: conserves the mean exactly."""

    local: Local

    def __init__(self, reach: int, width: int, depth: int, *, key: PRNGKeyArray):
        self.local = Local(reach, width, depth, 1, key=key)

    @property
    def flux(self) -> bool:
        return True

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.local(u)[:, 0]


class SkewCnn(Nonlinear):
    """`S(u) u` with a skew-symmetric band matrix S whose entries a local network gives: conserves `<u^2>` exactly.

    `(S u)_i = sum_(j=1..reach) a_j(i) u_(i+j) - a_j(i-j) u_(i-j)`.
    """

    local: Local

    def __init__(self, reach: int, width: int, depth: int, *, key: PRNGKeyArray):
        require(reach >= 1, "reach", "1 or more for the skew form", reach)
        self.local = Local(reach, width, depth, reach, key=key)

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        a = self.local(u)
        total = jnp.zeros_like(u)
        for j in range(1, self.local.reach + 1):
            band = a[:, j - 1]
            total = total + band * jnp.roll(u, -j) - jnp.roll(band * u, j)
        return total

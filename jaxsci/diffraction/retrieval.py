"""Phase retrieval: the object whose far field has the measured moduli, by projections and by gradients.

Error reduction and hybrid input-output (Fienup, Appl. Opt. 21, 2758 (1982)) with shrink-wrap (Marchesini et al., Phys.
Rev. B 68, 140101 (2003)). Objects lie about the array's centre, intensities have their peak there.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Complex, Float, Key

from jaxsci.core.config import between, positive, require


@dataclass(frozen=True)
class RetrievalConfig:
    """`cycles` of `er` steps of error reduction and `hio` of hybrid input-output, then `final_er` of the former.

    Every `shrink_every` steps the support becomes where the object, smoothed over `sigma` voxels (falling linearly from
    the first value to the second), exceeds `shrink_threshold` of its maximum. The first support is the box half the
    autocorrelation's extent at `box_level` of its maximum. Good values are those given here.
    """

    cycles: int = 3
    er: int = 20
    hio: int = 120
    final_er: int = 30
    beta: float = 0.9
    shrink_every: int = 5
    shrink_threshold: float = 0.1
    sigma: tuple[float, float] = (2.0, 1.0)
    box_level: float = 0.04

    def __post_init__(self) -> None:
        positive(self, "cycles", "final_er", "shrink_every")
        require(self.er >= 0 and self.hio >= 0, "er", "0 or more", self.er)
        between(self, "beta", 0.0, 1.0)
        between(self, "shrink_threshold", 0.0, 1.0)
        between(self, "box_level", 0.0, 1.0)

    def schedule(self) -> Bool[np.ndarray, " steps"]:
        """Whether each step is hybrid input-output."""
        cycle = [False] * self.er + [True] * self.hio
        return np.array(cycle * self.cycles + [False] * self.final_er)


class Retrieved(NamedTuple):
    """A reconstruction and how it came about."""

    object: Complex[Array, "x y z"]
    """Zero outside the support."""
    support: Bool[Array, "x y z"]
    chi_square: Float[Array, ""]
    """sum over I > 0 of (|F rho| - sqrt I)^2, by sum I."""
    course: Float[Array, " steps"]
    """The same of every step's iterate, before its projection."""


def to_momentum(field: Complex[Array, "x y z"]) -> Complex[Array, "x y z"]:
    """The unitary transform of an object about the centre, the direct beam in the centre."""
    return jnp.fft.fftshift(jnp.fft.fftn(jnp.fft.ifftshift(field), norm="ortho"))


def to_object(field: Complex[Array, "x y z"]) -> Complex[Array, "x y z"]:
    """The inverse of `to_momentum`."""
    return jnp.fft.fftshift(jnp.fft.ifftn(jnp.fft.ifftshift(field), norm="ortho"))


def chi_square(field: Complex[Array, "x y z"], intensity: Float[Array, "x y z"]) -> Float[Array, ""]:
    """How far an object is from the data, voxels without counts left out."""
    return _misfit(to_momentum(field), intensity)


def autocorrelation_box(intensity: Float[Array, "x y z"], level: float) -> Bool[Array, "x y z"]:
    """The box of half the extent of the autocorrelation above `level` of its maximum: an object's first support."""
    correlation = jnp.abs(to_object(intensity.astype(jnp.complex64)))
    above = correlation > level * jnp.max(correlation)
    box = jnp.ones((), bool)
    for axis, size in enumerate(intensity.shape):
        occupied = jnp.any(above, axis=tuple(i for i in range(3) if i != axis))
        distance = jnp.abs(jnp.arange(size) - size // 2)
        half = jnp.max(jnp.where(occupied, distance, 0)) / 2
        box &= (distance <= jnp.maximum(half, 2)).reshape([-1 if i == axis else 1 for i in range(3)])
    return box


def retrieve(intensity: Float[Array, "x y z"], config: RetrievalConfig, *, key: Key[Array, ""]) -> Retrieved:
    """An object for the intensity, from random phases. One jitted program; run several keys and keep the best.

    Arrays are kept with their centres at index 0 inside, where transforms need no shifts.
    """
    data = jnp.fft.ifftshift(intensity.astype(jnp.float32))
    modulus = jnp.sqrt(data)
    phases = jax.random.uniform(key, data.shape, maxval=2 * jnp.pi)
    start = _inverse(modulus * jnp.exp(1j * phases))
    support = jnp.fft.ifftshift(autocorrelation_box(intensity, config.box_level))
    hybrid = config.schedule()
    steps = len(hybrid)
    sigma = jnp.linspace(*config.sigma, steps, dtype=jnp.float32)

    def step(state: tuple, at: tuple) -> tuple[tuple, Array]:
        rho, support = state
        is_hybrid, number, width = at
        field = _forward(rho)
        error = _misfit(field, data)
        projected = _inverse(_with_modulus(field, modulus))
        outside = jnp.where(is_hybrid, rho - config.beta * projected, 0.0)
        shrink = (number % config.shrink_every == 0) & (number > 0)
        support = jax.lax.cond(shrink, lambda: _shrunk(projected, width, config.shrink_threshold), lambda: support)
        return (jnp.where(support, projected, outside), support), error

    at = (jnp.asarray(hybrid), jnp.arange(steps), sigma)
    (rho, support), course = jax.lax.scan(step, (start * support, support), at)
    rho = rho * support
    error = _misfit(_forward(rho), data)
    return Retrieved(jnp.fft.fftshift(rho), jnp.fft.fftshift(support), error, course)


def refine(
    found: Retrieved, counts: Float[Array, "x y z"], *, steps: int = 50, learning_rate: float = 0.02
) -> Retrieved:
    """Continue by Adam on the Poisson likelihood lambda - n log lambda inside the support, voxels with counts only.

    `learning_rate` is in units of the object's rms inside the support. `chi_square` of the result is its own.
    """
    inside = found.support
    scale = jnp.sqrt(jnp.sum(jnp.square(jnp.abs(found.object))) / jnp.maximum(jnp.sum(inside), 1))
    measured = counts > 0

    def field_of(parts: Float[Array, "2 x y z"]) -> Complex[Array, "x y z"]:
        return scale * inside * jax.lax.complex(parts[0], parts[1])

    def loss(parts: Float[Array, "2 x y z"]) -> Float[Array, ""]:
        field = to_momentum(field_of(parts))
        expected = jnp.square(field.real) + jnp.square(field.imag) + 1e-3
        return jnp.sum(jnp.where(measured, expected - counts * jnp.log(expected), 0.0)) / jnp.sum(counts)

    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def update(state: tuple, _: None) -> tuple[tuple, Array]:
        parts, memory = state
        change, memory = optimizer.update(jax.grad(loss)(parts), memory)
        parts = parts + change
        return (parts, memory), chi_square(field_of(parts), counts)

    start = jnp.stack([found.object.real, found.object.imag]) / scale
    (parts, _), course = jax.lax.scan(update, (start, optimizer.init(start)), None, length=steps)
    field = field_of(parts)
    return Retrieved(field, inside, chi_square(field, counts), course)


def _forward(rho: Complex[Array, "x y z"]) -> Complex[Array, "x y z"]:
    return jnp.fft.fftn(rho, norm="ortho")


def _inverse(field: Complex[Array, "x y z"]) -> Complex[Array, "x y z"]:
    return jnp.fft.ifftn(field, norm="ortho")


def _with_modulus(field: Complex[Array, "x y z"], modulus: Float[Array, "x y z"]) -> Complex[Array, "x y z"]:
    length = jnp.abs(field)
    return jnp.where(length > 0, field * (modulus / jnp.where(length > 0, length, 1.0)), modulus)


def _misfit(field: Complex[Array, "x y z"], data: Float[Array, "x y z"]) -> Float[Array, ""]:
    gap = jnp.where(data > 0, jnp.square(jnp.abs(field) - jnp.sqrt(data)), 0.0)
    return jnp.sum(gap) / jnp.sum(data)


def _shrunk(rho: Complex[Array, "x y z"], sigma: Float[Array, ""], threshold: float) -> Bool[Array, "x y z"]:
    spectrum = jnp.fft.fftn(jnp.abs(rho))
    for axis, size in enumerate(rho.shape):
        damping = jnp.exp(-2 * jnp.square(jnp.pi * sigma * jnp.fft.fftfreq(size)))
        spectrum = spectrum * damping.reshape([-1 if i == axis else 1 for i in range(3)])
    smooth = jnp.fft.ifftn(spectrum).real
    return smooth > threshold * jnp.max(smooth)

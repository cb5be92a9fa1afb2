"""Which corruptions there are and what severities 1 to 5 mean.

`CIFAR10` has the parameters of the published CIFAR-10-C generator (Hendrycks and Dietterich, arXiv:1903.12261) for 14
of its 15 types; frost needs photographs. Those published files are one draw without a seed, so what is made here is
called CIFAR-10-C-regen: same distributions, other numbers. `motion_blur` and `snow` are approximations.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from jaxsci.bayesnas.corruption import blur, digital, noise, weather
from jaxsci.core.config import require

SEVERITIES = (1, 2, 3, 4, 5)


class Corruption(NamedTuple):
    """A type of corruption and what its severities mean."""

    apply: Callable[..., Array]
    """(image in [0, 1], *parameters, key) -> image, not yet clipped."""
    parameters: tuple[tuple, ...]
    """Of each severity; fewer than five where the type begins at a higher one."""


def _ones(*values: float) -> tuple[tuple[float], ...]:
    return tuple((value,) for value in values)


def _elastic(*rows: tuple[float, ...]) -> tuple[tuple[float, float, float], ...]:
    return tuple((32.0 * a, 32.0 * s, 32.0 * f) for a, s, f in rows)


CIFAR10: Mapping[str, Corruption] = {
    "gaussian_noise": Corruption(noise.gaussian_noise, _ones(0.04, 0.06, 0.08, 0.09, 0.10)),
    "shot_noise": Corruption(noise.shot_noise, _ones(500.0, 250.0, 100.0, 75.0, 50.0)),
    "impulse_noise": Corruption(noise.impulse_noise, _ones(0.01, 0.02, 0.03, 0.05, 0.07)),
    "defocus_blur": Corruption(blur.defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))),
    "glass_blur": Corruption(blur.glass_blur, ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))),
    "motion_blur": Corruption(blur.motion_blur, ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))),
    "zoom_blur": Corruption(blur.zoom_blur, _ones(1.06, 1.11, 1.16, 1.21, 1.26)),
    "snow": Corruption(
        weather.snow,
        (
            (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
            (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
        ),
    ),
    "fog": Corruption(weather.fog, ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))),
    "brightness": Corruption(weather.brightness, _ones(0.05, 0.1, 0.15, 0.2, 0.3)),
    "contrast": Corruption(weather.contrast, _ones(0.75, 0.5, 0.4, 0.3, 0.15)),
    "elastic": Corruption(
        digital.elastic,
        _elastic((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)),
    ),
    "pixelate": Corruption(digital.pixelate, _ones(0.95, 0.9, 0.85, 0.75, 0.65)),
    "jpeg": Corruption(digital.jpeg, ((80,), (65,), (58,), (50,), (40,))),
}

CIFAR10_EXTRA: Mapping[str, Corruption] = {
    "speckle_noise": Corruption(noise.speckle_noise, _ones(0.06, 0.1, 0.12, 0.16, 0.2)),
    "gaussian_blur": Corruption(blur.gaussian_blur, _ones(0.4, 0.6, 0.7, 0.8, 1.0)),
    "mud_spatter": Corruption(weather.mud_spatter, ((0.65, 0.1, 0.7, 0.69, 0.6), (0.65, 0.1, 0.5, 0.68, 0.6))),
    "saturate": Corruption(weather.saturate, ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))),
}

# For 8 x 8 grey images: chosen so that accuracy falls from a few to some tens of percent.
DIGITS: Mapping[str, Corruption] = {
    "gaussian_noise": Corruption(noise.gaussian_noise, _ones(0.1, 0.15, 0.2, 0.275, 0.35)),
    "impulse_noise": Corruption(noise.impulse_noise, _ones(0.02, 0.05, 0.1, 0.15, 0.2)),
    "gaussian_blur": Corruption(blur.gaussian_blur, _ones(0.4, 0.5, 0.6, 0.7, 0.8)),
    "contrast": Corruption(weather.contrast, _ones(0.75, 0.6, 0.45, 0.35, 0.25)),
}


def corrupt(
    family: Mapping[str, Corruption],
    kind: str,
    severity: int,
    images: Float[Array, "n height width colours"],
    *,
    key: Key[Array, ""],
) -> Float[Array, "n height width colours"]:
    """Images in [0, 1] corrupted and clipped. Image i draws from `fold_in(type, severity, i)`, whatever else is drawn.

    Raises `ConfigError` for a type or severity that the family does not have.
    """
    require(kind in family, "corruption", f"one of {', '.join(family)}", kind)
    corruption = family[kind]
    lowest = 6 - len(corruption.parameters)
    require(lowest <= severity <= 5, "severity", f"{lowest} to 5 for {kind}", severity)
    number = _number(kind)
    key = jax.random.fold_in(jax.random.fold_in(key, number), severity)
    return _apply(corruption.apply, corruption.parameters[severity - lowest], images, key)


def corrupt_bytes(
    family: Mapping[str, Corruption],
    kind: str,
    severity: int,
    images: UInt8[Array, "n height width colours"],
    *,
    key: Key[Array, ""],
) -> UInt8[Array, "n height width colours"]:
    """The same for `uint8` images, truncated to whole grey levels as the published files are."""
    x = jnp.asarray(images, jnp.float32) / 255
    # A hair above the level it stands for, so that what is meant to be whole is not truncated below itself.
    return jnp.floor(corrupt(family, kind, severity, x, key=key) * 255 + 1e-3).astype(jnp.uint8)


@partial(jax.jit, static_argnums=(0, 1))
def _apply(apply: Callable[..., Array], parameters: tuple, images: Array, key: Key[Array, ""]) -> Array:
    def one(number: Array, image: Array) -> Array:
        return jnp.clip(apply(image, *parameters, key=jax.random.fold_in(key, number)), 0, 1)

    return jax.vmap(one)(jnp.arange(len(images)), images)


def _number(kind: str) -> int:
    """A number that belongs to the name, not to its place in a table."""
    return sum(ord(letter) * 31**place for place, letter in enumerate(kind)) % (2**31 - 1)

"""Weather and light: snow, fog, brightness, contrast, spatter, saturation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxsci.bayesnas.corruption import filters
from jaxsci.bayesnas.corruption.filters import Image

MUD = (63 / 255, 42 / 255, 20 / 255)


def snow(
    x: Image,
    loc: float,
    scale: float,
    zoom: float,
    threshold: float,
    radius: int,
    sigma: float,
    mix: float,
    *,
    key: Key[Array, ""],
) -> Image:
    """Streaks of blown noise over a whitened image. An approximation: the published generator calls ImageMagick."""
    flakes, wind = jax.random.split(key)
    layer = loc + scale * jax.random.normal(flakes, (*x.shape[:2], 1))
    if zoom > 1:
        layer = filters.zoom_centre(layer, zoom)
    layer = jnp.clip(jnp.where(layer < threshold, 0.0, layer), 0, 1)
    angle = jnp.deg2rad(jax.random.uniform(wind, minval=-135.0, maxval=-45.0))
    layer = filters.filter_image(jnp.floor(layer * 255) / 255, filters.motion_kernel(radius, sigma, angle), "edge")
    grey = jnp.mean(x * jnp.array([0.299, 0.587, 0.114]), axis=-1, keepdims=True) * 3 if x.shape[-1] == 3 else x
    whitened = mix * x + (1 - mix) * jnp.maximum(x, 1.5 * grey + 0.5)
    return whitened + layer + jnp.rot90(layer, 2)


def fog(x: Image, amount: float, decay: float, *, key: Key[Array, ""]) -> Image:
    """Haze from a plasma fractal of roughness `decay`, `amount` thick, rescaled so that the brightest value stays."""
    brightest = jnp.max(x)
    haze = filters.plasma(x.shape[0], decay, key=key)[..., None]
    return (x + amount * haze) * brightest / (brightest + amount)


def brightness(x: Image, shift: float, *, key: Key[Array, ""]) -> Image:
    """The value channel of HSV raised by `shift`; `key` is not used."""
    return filters.to_hsv_value(x, shift)


def contrast(x: Image, factor: float, *, key: Key[Array, ""]) -> Image:
    """Distances from each colour's mean multiplied by `factor`; `key` is not used."""
    mean = jnp.mean(x, axis=(0, 1), keepdims=True)
    return (x - mean) * factor + mean


def saturate(x: Image, scale: float, offset: float, *, key: Key[Array, ""]) -> Image:
    """The saturation of HSV multiplied by `scale` and raised by `offset`; `key` is not used."""
    return filters.saturate(x, scale, offset)


def mud_spatter(
    x: Image, loc: float, scale: float, sigma: float, threshold: float, soften: float, *, key: Key[Array, ""]
) -> Image:
    """Severities 4 and 5 of spatter; the lower ones need an edge detector and a distance transform."""
    liquid = filters.gaussian_blur(loc + scale * jax.random.normal(key, (*x.shape[:2], 1)), sigma)
    mask = filters.gaussian_blur((liquid > threshold).astype(x.dtype), soften)
    mask = jnp.where(mask < 0.8, 0.0, mask)
    return x * (1 - mask) + mask * jnp.asarray(MUD)

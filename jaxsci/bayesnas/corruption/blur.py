"""Blurs: focus, glass, motion, zoom."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jaxsci.bayesnas.corruption import filters
from jaxsci.bayesnas.corruption.filters import Image


def gaussian_blur(x: Image, sigma: float, *, key: Key[Array, ""]) -> Image:
    """A Gaussian of standard deviation `sigma` pixels; `key` is not used."""
    return filters.gaussian_blur(x, sigma)


def defocus_blur(x: Image, radius: float, alias: float, *, key: Key[Array, ""]) -> Image:
    """A disk of `radius` pixels, its edge softened by a Gaussian of `alias` pixels; `key` is not used."""
    return filters.filter_image(x, jnp.asarray(filters.disk(radius, alias)))


def glass_blur(x: Image, sigma: float, reach: int, iterations: int, *, key: Key[Array, ""]) -> Image:
    """Pixels replaced one after the other, from the lower right, by a near one, between two slight blurs.

    The published generator means to swap, but its two names are views of one array: the neighbour is copied.
    """
    height, width, _ = x.shape
    start = jnp.floor(filters.gaussian_blur(x, sigma) * 255) / 255
    rows = np.arange(height - reach, reach, -1)
    columns = np.arange(width - reach, reach, -1)
    order = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    order = jnp.asarray(np.tile(order, (iterations, 1)))
    offsets = jax.random.randint(key, order.shape, -reach, reach)

    def move(image: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
        (row, column), (down, right) = at
        return image.at[row, column].set(image[row + down, column + right]), None

    moved, _ = jax.lax.scan(move, start, (order, offsets))
    return filters.gaussian_blur(moved, sigma)


def motion_blur(x: Image, radius: int, sigma: float, *, key: Key[Array, ""]) -> Image:
    """An approximation: the published generator calls ImageMagick."""
    angle = jnp.deg2rad(jax.random.uniform(key, minval=-45.0, maxval=45.0))
    return filters.filter_image(x, filters.motion_kernel(radius, sigma, angle), "edge")


def zoom_blur(x: Image, furthest: float, *, key: Key[Array, ""]) -> Image:
    """Mean of the image and its centre enlarged by 1, 1.01, ... to below `furthest`."""
    zoomed = [filters.zoom_centre(x, float(factor)) for factor in np.arange(1, furthest, 0.01)]
    return (x + sum(zoomed[1:], zoomed[0])) / (len(zoomed) + 1)

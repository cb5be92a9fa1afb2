"""Filters and resampling that the corruptions are made of; images are (height, width, colours), one at a time."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Image = Float[Array, "height width colours"]


def gaussian_weights(sigma: float, truncate: float = 4.0) -> np.ndarray:
    """A normalised Gaussian cut off at `truncate` standard deviations."""
    radius = int(truncate * sigma + 0.5)
    x = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * np.square(x / max(sigma, 1e-12)))
    return weights / weights.sum()


def gaussian_blur(image: Float[Array, "height width *rest"], sigma: float, truncate: float = 4.0) -> Array:
    """Separable, edges repeated."""
    weights = gaussian_weights(sigma, truncate)
    for axis in (0, 1):
        image = filter_axis(image, weights, axis, "edge")
    return image


def filter_axis(image: Array, weights: np.ndarray, axis: int, mode: str) -> Array:
    """Correlation along one axis with an odd number of weights."""
    radius = len(weights) // 2
    pad = [(0, 0)] * image.ndim
    pad[axis] = (radius, radius)
    padded = jnp.pad(image, pad, mode=mode)
    size = image.shape[axis]
    parts = [w * jax.lax.slice_in_dim(padded, k, k + size, axis=axis) for k, w in enumerate(weights)]
    return jnp.sum(jnp.stack(parts), axis=0)


def filter_image(image: Image, kernel: Float[Array, "k k"], mode: str = "reflect") -> Image:
    """Correlation of every colour with a kernel of odd size."""
    radius = kernel.shape[0] // 2
    padded = jnp.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode=mode)
    planes = jnp.moveaxis(padded, -1, 0)[:, None]  # (colours, 1, height, width)
    kernel = jnp.asarray(kernel, image.dtype)[None, None]
    filtered = jax.lax.conv_general_dilated(planes, kernel, (1, 1), "VALID", dimension_numbers=("NCHW", "OIHW", "NCHW"))
    return jnp.moveaxis(filtered[:, 0], 0, -1)


def disk(radius: float, alias: float) -> np.ndarray:
    """The blur of a lens out of focus: a disk on a 17 x 17 grid (radius up to 8), softened by a 3 x 3 Gaussian."""
    x = np.arange(-8, 9)
    inside = (x[None] ** 2 + x[:, None] ** 2 <= radius**2).astype(np.float64)
    inside /= inside.sum()
    soft = np.exp(-0.5 * np.square(np.arange(-1, 2) / alias))
    soft /= soft.sum()
    padded = np.pad(inside, 1, mode="reflect")
    rows = np.sum([soft[k] * padded[k : k + 17] for k in range(3)], axis=0)
    return np.sum([soft[k] * rows[:, k : k + 17] for k in range(3)], axis=0)


def motion_kernel(radius: int, sigma: float, angle: Float[Array, ""]) -> Float[Array, "k k"]:
    """A one-sided Gaussian along `angle` (radians), spread over the four pixels around each of its points."""
    steps = jnp.arange(radius + 1, dtype=jnp.float32)
    weights = jnp.exp(-0.5 * jnp.square(steps / sigma))
    rows, columns = radius + steps * jnp.sin(angle), radius + steps * jnp.cos(angle)
    kernel = jnp.zeros((2 * radius + 1, 2 * radius + 1))
    for down in (0, 1):
        for right in (0, 1):
            r, c = jnp.floor(rows).astype(int) + down, jnp.floor(columns).astype(int) + right
            share = (1 - jnp.abs(rows - r)) * (1 - jnp.abs(columns - c))
            kernel = kernel.at[r, c].add(weights * share)
    return kernel / jnp.sum(kernel)


def sample(image: Image, rows: Float[Array, "h w"], columns: Float[Array, "h w"], mode: str = "reflect") -> Image:
    """Bilinear values at the given positions; beyond the border by `mode` (`reflect`, `mirror`, `nearest`)."""
    at = lambda plane: jax.scipy.ndimage.map_coordinates(plane, [rows, columns], order=1, mode=mode)  # noqa: E731
    return jnp.moveaxis(jax.vmap(at, in_axes=-1)(image), 0, -1)


def grid(height: int, width: int) -> tuple[Float[Array, "height width"], Float[Array, "height width"]]:
    """Row and column numbers of all pixels."""
    rows, columns = jnp.meshgrid(
        jnp.arange(height, dtype=jnp.float32), jnp.arange(width, dtype=jnp.float32), indexing="ij"
    )
    return rows, columns


def box_matrix(source: int, target: int) -> np.ndarray:
    """(target, source) weights of the area average that PIL's BOX filter takes, also when it enlarges."""
    scale = source / target
    support = 0.5 * max(scale, 1.0)
    matrix = np.zeros((target, source))
    for row in range(target):
        centre = (row + 0.5) * scale
        low, high = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), source)
        position = (np.arange(low, high) + 0.5 - centre) / max(scale, 1.0)
        inside = ((position > -0.5) & (position <= 0.5)).astype(np.float64)
        matrix[row, low:high] = inside / inside.sum()
    return matrix


def zoom_centre(image: Image, factor: float) -> Image:
    """The middle of the image enlarged by `factor` to the image's own size, bilinear (scipy's zoom, order 1)."""
    height, width, _ = image.shape
    inner = int(np.ceil(height / factor))
    top = (height - inner) // 2
    out = int(round(inner * factor))
    trim = (out - height) // 2
    positions = (np.arange(height) + trim) * (inner - 1) / max(out - 1, 1)
    rows, columns = jnp.meshgrid(jnp.asarray(top + positions), jnp.asarray(top + positions), indexing="ij")
    return sample(image, rows.astype(jnp.float32), columns.astype(jnp.float32), mode="nearest")


def plasma(size: int, decay: float, *, key: Array) -> Float[Array, "size size"]:
    """Diamond-square noise from 0 to 1 on a torus, its side a power of two; amplitude falls by `decay` a level."""
    field = jnp.zeros((size, size))
    step, wibble, level = size, 100.0, 0
    while step >= 2:
        corners, edges = jax.random.split(jax.random.fold_in(key, level))
        half = step // 2
        count = size // step
        noise = lambda key, shape, wibble=wibble: wibble * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)  # noqa: E731
        base = field[::step, ::step]
        total = base + jnp.roll(base, -1, 0)
        square = (total + jnp.roll(total, -1, 1)) / 4 + wibble * noise(corners, (count, count))
        field = field.at[half::step, half::step].set(square)
        draws = noise(edges, (2, count, count))
        horizontal = (square + jnp.roll(square, 1, 0) + base + jnp.roll(base, -1, 1)) / 4 + wibble * draws[0]
        vertical = (square + jnp.roll(square, 1, 1) + base + jnp.roll(base, -1, 0)) / 4 + wibble * draws[1]
        field = field.at[::step, half::step].set(horizontal).at[half::step, ::step].set(vertical)
        step, wibble, level = half, wibble / decay, level + 1
    field = field - jnp.min(field)
    return field / jnp.max(field)


def to_hsv_value(image: Image, shift: float) -> Image:
    """The image with `shift` added to the V of its HSV form, clipped to [0, 1]: every colour is scaled by V'/V."""
    value = jnp.max(image, axis=-1, keepdims=True)
    shifted = jnp.clip(value + shift, 0, 1)
    return jnp.where(value > 0, image * shifted / jnp.maximum(value, 1e-12), shifted)


def saturate(image: Image, scale: float, offset: float) -> Image:
    """The image with its HSV saturation S replaced by clip(scale S + offset): colours move along the line to V."""
    value = jnp.max(image, axis=-1, keepdims=True)
    least = jnp.min(image, axis=-1, keepdims=True)
    spread = value - least
    s = jnp.where(value > 0, spread / jnp.maximum(value, 1e-12), 0.0)
    wanted = jnp.clip(scale * s + offset, 0, 1)
    # A grey pixel has hue 0, red: raising its saturation lowers green and blue.
    grey = jnp.concatenate([value, value * (1 - wanted), value * (1 - wanted)], axis=-1)
    ratio = jnp.where(s > 0, wanted / jnp.maximum(s, 1e-12), 0.0)
    return jnp.where(spread > 0, value - (value - image) * ratio, grey)

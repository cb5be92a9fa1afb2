"""Dislocations in a reconstructed object: lines about which the phase winds, found without unwrapping it.

For every elementary square W = (1/2 pi) sum wrap(dphi) around its four corners is a whole number; where it is not zero
a line with g.b = W passes through. Smooth strain, however large, has W = 0 unless it turns by pi between voxels.
"""

from typing import NamedTuple, cast

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Complex, Float, Int
from scipy import ndimage


class Windings(NamedTuple):
    """Squares normal to one axis at a time; the square at (i, j, k) starts there."""

    numbers: Int[Array, "3 x y z"]
    """W, zero for squares that are not wholly inside the support."""
    inside: Bool[Array, "3 x y z"]
    """Which squares are."""


def windings(field: Complex[Array, "x y z"], support: Bool[Array, "x y z"], *, erode: int = 1) -> Windings:
    """W of all squares inside the support, less its outer `erode` voxels, where noise winds the phase of nothing."""
    for _ in range(erode):
        support = _eroded(support)
    phase = jnp.angle(field)
    numbers, inside = [], []
    for axis in range(3):
        one, two = (i for i in range(3) if i != axis)
        around = _step(phase, one) + jnp.roll(_step(phase, two), -1, one)
        around -= jnp.roll(_step(phase, one), -1, two) + _step(phase, two)
        corners = support & jnp.roll(support, -1, one) & jnp.roll(support, -1, two)
        corners &= jnp.roll(support, (-1, -1), (one, two))
        sign = -1 if axis == 1 else 1  # (x, z) is left-handed about y
        turns = jnp.round(sign * around / (2 * jnp.pi)).astype(jnp.int32)
        numbers.append(jnp.where(corners, turns, 0))
        inside.append(corners)
    return Windings(jnp.stack(numbers), jnp.stack(inside))


def _step(phase: Float[Array, "x y z"], axis: int) -> Float[Array, "x y z"]:
    change = jnp.roll(phase, -1, axis) - phase
    return change - 2 * jnp.pi * jnp.round(change / (2 * jnp.pi))


def _eroded(support: Bool[Array, "x y z"]) -> Bool[Array, "x y z"]:
    for axis in range(3):
        support = support & jnp.roll(support, 1, axis) & jnp.roll(support, -1, axis)
    return support


def longest_line(found: Windings) -> float:
    """The largest extent (voxels) of a connected set of squares with W not zero; 0 where there are none.

    A dislocation cannot end inside a crystal: it threads it from surface to surface, or closes. Noise winds the phase
    about loops of a voxel or two, mostly near the surface.
    """
    numbers = np.asarray(found.numbers)
    touched = np.zeros(numbers.shape[1:], bool)
    for axis in range(3):  # a line through the square at i passes from one dual cube to the next
        square = numbers[axis] != 0
        touched |= square | np.roll(square, -1, axis)
    labels, count = cast(tuple[np.ndarray, int], ndimage.label(touched, structure=np.ones((3, 3, 3))))
    if count == 0:
        return 0.0
    extents = [max(part.stop - part.start for part in box) for box in ndimage.find_objects(labels)]
    return float(max(extents))


def thickness(support: Bool[Array, "x y z"]) -> int:
    """The smallest extent of a support along an axis (voxels)."""
    occupied = np.asarray(support)
    return min(int(occupied.any(axis=tuple(i for i in range(3) if i != axis)).sum()) for axis in range(3))

"""Displacement of dislocation loops and curved lines as sums over triangles, in an isotropic medium.

Barnett, Philos. Mag. A 51, 383 (1985); Barnett & Balluffi, Philos. Mag. Lett. 87, 943 (2007). The sign of the solid
angle's term belongs to the orientation of the solid angle used here: a circuit linked with A -> B closes with +b.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def triangle_displacement(
    corners: Float[Array, "3 3"], burgers: Float[Array, "3"], points: Float[Array, "*shape 3"], *, poisson: float
) -> Float[Array, "*shape 3"]:
    """u(r) of the loop A -> B -> C -> A that bounds the flat triangle `corners` with Burgers vector `burgers`.

    The cut is the triangle itself. Points on its edges have no displacement (the logarithm diverges there).
    """
    away = corners - points[..., None, :]
    distance = jnp.linalg.norm(away, axis=-1)
    unit = away / distance[..., None]
    a, b, c = unit[..., 0, :], unit[..., 1, :], unit[..., 2, :]
    volume = jnp.sum(a * jnp.cross(b, c), -1)
    solid_angle = 2 * jnp.arctan2(volume, 1 + jnp.sum(a * b, -1) + jnp.sum(b * c, -1) + jnp.sum(c * a, -1))
    logarithms, rotations = jnp.zeros_like(points), jnp.zeros_like(points)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        tangent = (corners[j] - corners[i]) / jnp.linalg.norm(corners[j] - corners[i])
        one, two = unit[..., i, :], unit[..., j, :]
        ratio = distance[..., j] * (1 + two @ tangent) / (distance[..., i] * (1 + one @ tangent))
        logarithms += jnp.log(ratio)[..., None] * jnp.cross(burgers, tangent)
        weight = (jnp.cross(one, two) @ burgers) / (1 + jnp.sum(one * two, -1))
        rotations += weight[..., None] * (one + two)
    elastic = (rotations - (1 - 2 * poisson) * logarithms) / (8 * jnp.pi * (1 - poisson))
    return solid_angle[..., None] * burgers / (4 * jnp.pi) + elastic


def loop_displacement(
    corners: Float[Array, "corners 3"], burgers: Float[Array, "3"], points: Float[Array, "*shape 3"], *, poisson: float
) -> Float[Array, "*shape 3"]:
    """u(r) of a closed polygonal loop, as a fan of triangles about its centroid; their inner edges cancel.

    A long line is a loop whose far side lies outside the crystal.
    """
    centre = jnp.mean(corners, axis=0)
    following = jnp.roll(corners, -1, axis=0)
    triangles = jnp.stack([jnp.broadcast_to(centre, corners.shape), corners, following], axis=1)
    each = jax.vmap(lambda triangle: triangle_displacement(triangle, burgers, points, poisson=poisson))(triangles)
    return jnp.sum(each, axis=0)

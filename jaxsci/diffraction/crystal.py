"""Crystals: faceted bodies with soft faces on a grid, and atoms on lattice sites inside a body.

Lengths are in voxels on grids and in angstrom for atoms. A body is an intersection of half-spaces n.r < d, its faces
rounded over a width w: S(r) = prod_i sigmoid((d_i - n_i.r) / w).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxsci.diffraction.lattice import Centring, equivalent_directions

BASIS = {
    "fcc": np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]),
    "bcc": np.array([[0, 0, 0], [0.5, 0.5, 0.5]]),
}


class Body(NamedTuple):
    """A convex faceted body."""

    normals: Float[Array, "facets 3"]
    """Outward unit normals."""
    distances: Float[Array, " facets"]
    """Of the facets from the origin."""


def family_normals(*families: tuple[int, int, int]) -> Float[np.ndarray, "facets 3"]:
    """Both signs of every plane of the families, such as (1, 1, 1) and (1, 0, 0): 8 + 6 unit normals."""
    found = [sign * v / np.linalg.norm(v) for f in families for v in equivalent_directions(f) for sign in (1, -1)]
    return np.array(found)


def wulff(
    *,
    radius: Float[Array, ""] | float,
    ratio: Float[Array, ""] | float,
    jitter: float = 0.25,
    key: Key[Array, ""],
) -> Body:
    """A truncated octahedron of {111} facets at `radius` and {100} facets at `ratio * radius`, irregular.

    `ratio` is the surface energies' (Wulff), good values 1.05 to 1.35; every distance is scaled by U(1 - jitter,
    1 + jitter).
    """
    normals = family_normals((1, 1, 1), (1, 0, 0))
    factors = jax.random.uniform(key, (len(normals),), minval=1 - jitter, maxval=1 + jitter)
    relative = jnp.concatenate([jnp.ones(8), jnp.full(6, ratio)])
    return Body(jnp.asarray(normals, jnp.float32), jnp.asarray(radius * relative * factors, jnp.float32))


def random_cuts(*, radius: float, facets: int, jitter: float = 0.25, key: Key[Array, ""]) -> Body:
    """A body cut by planes of random orientation at about the same distance: no crystallographic habit at all."""
    turn, scale = jax.random.split(key)
    normals = jax.random.normal(turn, (facets, 3))
    normals /= jnp.linalg.norm(normals, axis=1, keepdims=True)
    return Body(normals, radius * jax.random.uniform(scale, (facets,), minval=1 - jitter, maxval=1 + jitter))


def on_substrate(body: Body, normal: Float[Array, "3"], depth: float) -> Body:
    """The Winterbottom shape: `body` cut by a substrate of outward direction `normal` at distance `depth`."""
    return Body(jnp.concatenate([body.normals, normal[None]]), jnp.append(body.distances, depth))


def rotated(body: Body, rotation: Float[Array, "3 3"]) -> Body:
    """The body turned by a rotation matrix that acts on column vectors."""
    return body._replace(normals=body.normals @ rotation.T)


def support(body: Body, points: Float[Array, "*shape 3"], *, softness: float = 0.35) -> Float[Array, "*shape"]:
    """S(r) at any points. Good values of `softness`: 0.35 to 0.5 voxel."""
    depth = (body.distances - points @ body.normals.T) / softness
    return jnp.exp(jnp.sum(jax.nn.log_sigmoid(depth), axis=-1))


def superellipsoid(
    axes: Float[Array, "3"], exponent: float, points: Float[Array, "*shape 3"], *, softness: float = 0.35
) -> Float[Array, "*shape"]:
    """The body |x/a|^e + |y/b|^e + |z/c|^e < 1, faces soft over about `softness`; e = 2 is an ellipsoid."""
    radius = jnp.sum(jnp.abs(points / axes) ** exponent, axis=-1) ** (1 / exponent)
    return jax.nn.sigmoid((1 - radius) * jnp.min(axes) / softness)


def grid_points(axis: Float[np.ndarray, " n"]) -> Float[np.ndarray, "4 points"]:
    """x, y, z and 1 of all points of `axis` x `axis` x `axis`, the last coordinate running fastest.

    Distances from planes are then one matrix product, and what follows runs along flat arrays.
    """
    places = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    return np.concatenate([places, np.ones_like(places[:1])]).astype(np.float32)


def support_on_grid(
    body: Body, grid: Float[np.ndarray, "4 points"], *, softness: float = 0.35
) -> Float[Array, " points"]:
    """S(r) at `grid_points`: as `support`, facet after facet."""
    depths = jnp.concatenate([-body.normals, body.distances[:, None]], axis=1) / softness @ grid
    result = jax.nn.sigmoid(depths[0])
    for depth in depths[1:]:
        result *= jax.nn.sigmoid(depth)
    return result


def lattice_sites(
    centring: Centring, a: float, inside: Callable[[np.ndarray], np.ndarray], extent: float
) -> Float[np.ndarray, "atoms 3"]:
    """Sites (angstrom) of a lattice with a site at the origin, those for which `inside(sites)` holds.

    `extent` bounds the coordinates looked at.
    """
    cells = int(np.ceil(extent / a)) + 1
    corners = np.stack(np.meshgrid(*[np.arange(-cells, cells + 1)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    sites = a * (corners + BASIS[centring]).reshape(-1, 3)
    return sites[inside(sites)]


def atoms_in_body(body: Body, centring: Centring, a: float) -> Float[np.ndarray, "atoms 3"]:
    """The lattice sites inside a faceted body (angstrom, the body in the cubic axes)."""
    normals, distances = np.asarray(body.normals, float), np.asarray(body.distances, float)
    reach = 3 * float(distances.max())
    return lattice_sites(centring, a, lambda sites: np.all(sites @ normals.T < distances, axis=1), reach)

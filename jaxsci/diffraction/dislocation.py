"""Displacement of straight dislocations in an isotropic medium: edge, screw, mixed, and pairs of partials.

Hirth & Lothe, Theory of Dislocations (1982), eqs. 3-2 and 3-45. Displacements have the unit of the Burgers vector,
positions any unit of length: the field depends on directions and on ratios of distances alone.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.diffraction.trigonometry import angle

PI = jnp.pi


class Line(NamedTuple):
    """A straight dislocation.

    A right-handed circuit about `direction` closes with +b; (b, t) and (-b, -t) are the same defect.
    """

    burgers: Float[Array, "3"]
    """In the glide plane, that is perpendicular to `normal`."""
    direction: Float[Array, "3"]
    """Unit vector t."""
    normal: Float[Array, "3"]
    """Unit normal of the glide plane, perpendicular to `direction`; the branch cut lies in this plane."""
    core: Float[Array, "3"]
    """A point of the line."""


def displacement(
    line: Line, points: Float[Array, "*shape 3"], *, poisson: float, core_radius: float = 0.0
) -> Float[Array, "*shape 3"]:
    """u(r) of a dislocation of any character: its edge part along `normal x t` and its screw part along t.

    With x along normal x t, y along the normal, rho^2 = x^2 + y^2 + core_radius^2 and theta = atan2(y, x):

        u_x =  b_e/2pi [theta + x y / (2(1-nu) rho^2)]
        u_y = -b_e/2pi [(1-2nu)/(4(1-nu)) ln rho^2 + (x^2-y^2) / (4(1-nu) rho^2)]
        u_t =  b_s/2pi theta

    `core_radius` (good values: half a voxel to |b|) rounds the core off; at 0 the field is the exact one.
    """
    axis = jnp.cross(line.normal, line.direction)
    away = points - line.core
    along_x, along_y, along_t = in_plane(
        away @ axis,
        away @ line.normal,
        line.burgers @ axis,
        line.burgers @ line.direction,
        poisson=poisson,
        core_radius=core_radius,
    )
    return along_x[..., None] * axis + along_y[..., None] * line.normal + along_t[..., None] * line.direction


def in_plane(
    x: Float[Array, "*shape"],
    y: Float[Array, "*shape"],
    edge: Float[Array, ""],
    screw: Float[Array, ""],
    *,
    poisson: float,
    core_radius: float,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"], Float[Array, "*shape"]]:
    """The three components of u in the line's own frame, from the coordinates across it."""
    theta = angle(y, x)
    squared = x * x + y * y + core_radius**2
    safe = jnp.where(squared > 0, squared, 1.0)
    ratio = 1.0 / (4 * (1 - poisson) * safe)
    along_x = edge / (2 * PI) * (theta + 2 * x * y * ratio)
    shear = (1 - 2 * poisson) / (4 * (1 - poisson))
    along_y = -edge / (2 * PI) * (shear * jnp.log(safe) + (x * x - y * y) * ratio)
    return along_x, along_y, screw / (2 * PI) * theta


def partials(line: Line, separation: float) -> tuple[Line, Line]:
    """The two Shockley partials a/2<110> -> a/6<211> + a/6<12-1> of an fcc dislocation on its {111} glide plane.

    They lie `separation` apart in the glide plane, about the perfect line. Both cuts lie in that plane on the same
    side, so that only the ribbon between them is a stacking fault.
    """
    across = jnp.cross(line.normal, line.direction)
    # In the plane, b/2 +- |b|/(2 sqrt 3) perpendicular to b: the partials' vectors, 30 degrees either side of b.
    aside = jnp.cross(line.normal, line.burgers) / (2 * jnp.sqrt(3.0))
    half = 0.5 * separation * across
    # Of the two orders one has the fault of stacking, the other that of like planes; which of them depends on
    # whether `normal` points with or against the stacking, not on anything a continuum knows.
    leading = line._replace(burgers=line.burgers / 2 + aside, core=line.core + half)
    trailing = line._replace(burgers=line.burgers / 2 - aside, core=line.core - half)
    return leading, trailing


def displacement_of_partials(
    line: Line,
    points: Float[Array, "*shape 3"],
    *,
    separation: float,
    poisson: float,
    core_radius: float = 0.0,
) -> Float[Array, "*shape 3"]:
    """u(r) of a dissociated dislocation: the sum of its partials' fields."""
    leading, trailing = partials(line, separation)
    kind = {"poisson": poisson, "core_radius": core_radius}
    return displacement(leading, points, **kind) + displacement(trailing, points, **kind)

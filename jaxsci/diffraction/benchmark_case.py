"""The reference case of continuum against atoms: a gold sphere of 60 angstrom radius with a screw dislocation."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.diffraction import scattering
from jaxsci.diffraction.crystal import lattice_sites
from jaxsci.diffraction.dislocation import Line, displacement

A, RADIUS, LENGTH, N = 4.08, 60.0, 240.0, 32
OFFSET = 0.1  # of the sphere's centre from a site, along each axis: no shell of sites lies on the surface
REFLECTION = (1.0, 1.0, 1.0)


def gold_sphere() -> tuple[Float[np.ndarray, "atoms 3"], Line]:
    """Sites (angstrom) and the line b = a/2[110] through (.7, .3, .2), with b in angstrom."""
    sites = lattice_sites("fcc", A, lambda r: np.linalg.norm(r + OFFSET, axis=1) < RADIUS, RADIUS + 1)
    direction = jnp.array([1.0, 1.0, 0.0]) / jnp.sqrt(2.0)
    burgers = A / 2 * jnp.array([1.0, 1.0, 0.0])
    normal = jnp.cross(direction, jnp.array([0.0, 0.0, 1.0]))  # the branch cut along [001]
    return sites, Line(burgers, direction, normal, jnp.array([0.7, 0.3, 0.2]))


def amplitudes_of_gold_sphere(
    oversamplings: Sequence[int],
) -> tuple[Float[Array, "n n n"], list[Float[Array, "n n n"]]]:
    """Intensity of the sum over atoms, and of hard-edged continua of so many points per voxel; the peaks are at 1."""
    sites, line = gold_sphere()
    g = jnp.asarray(REFLECTION)
    positions = jnp.asarray(sites, jnp.float32)
    field = scattering.atomistic(positions, displacement(line, positions, poisson=0.42), g, a=A, n=N, length=LENGTH)
    continua = [_continuum(line, g, m) for m in oversamplings]
    atoms = scattering.intensity(field)
    return atoms / jnp.max(atoms), [c / jnp.max(c) for c in continua]


def _continuum(line: Line, g: Float[Array, "3"], oversampling: int) -> Float[Array, "n n n"]:
    voxel = LENGTH / N
    axis = voxel * jnp.asarray(scattering.fine_axis(2 * RADIUS / voxel + 2, oversampling), jnp.float32)
    points = jnp.stack(jnp.meshgrid(axis, axis, axis, indexing="ij"), -1)
    inside = jnp.linalg.norm(points + OFFSET, axis=-1) < RADIUS
    phase = 2 * jnp.pi / A * (displacement(line, points, poisson=0.42) @ g)
    field = jnp.where(inside, jnp.exp(1j * phase), 0)
    return scattering.intensity(scattering.far_field(field.astype(jnp.complex64), N, oversampling))

"""Common-neighbour analysis: which atoms stand as in fcc, which as in hcp (a stacking fault), which as in neither.

Honeycutt & Andersen, doi:10.1021/j100303a014; for each of an atom's twelve neighbours the number of common neighbours,
of bonds among them and the longest chain of those: twelve (421) are fcc, six (421) and six (422) are hcp.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.diffraction.neighbours import BLOCK, Capacity, capacity_for, neighbour_list

FCC, HCP, OTHER = range(3)
NEAREST = 12


def structure(positions: Float[np.ndarray, "atoms 3"], a: float) -> Int[np.ndarray, " atoms"]:
    """FCC, HCP or OTHER for each atom; `a` is the fcc lattice parameter, in the unit of the positions.

    Atoms count as neighbours within 0.854 a, halfway from the first shell to the second.
    """
    radius = 0.5 * (np.sqrt(0.5) + 1.0) * a
    capacity = capacity_for(positions, radius, slack=1.5)
    return np.asarray(_structure(jnp.asarray(positions), radius, capacity))


@partial(jax.jit, static_argnames=("radius", "capacity"))
def _structure(positions: Float[Array, "atoms 3"], radius: float, capacity: Capacity) -> Int[Array, " atoms"]:
    index = neighbour_list(positions, radius=radius, capacity=capacity).index.T
    # More than twelve neighbours are neither structure; fewer are padded with the atom itself.
    twelve = index[:, :NEAREST]
    atoms = jnp.arange(len(positions))
    whole = jnp.sum(index != atoms[:, None], axis=1) == NEAREST

    def classify(atom: Int[Array, ""]) -> Int[Array, ""]:
        near = twelve[atom]
        bonded = jnp.any(index[near][:, None, :] == near[None, :, None], axis=-1) & ~jnp.eye(NEAREST, dtype=bool)
        common = bonded  # row i: which of the twelve are neighbours of neighbour i too
        among = common[:, :, None] & common[:, None, :] & bonded[None]
        bonds = jnp.sum(among, axis=(1, 2)) // 2
        branched = jnp.any(jnp.sum(among, axis=2) > 1, axis=1)
        pairs = (jnp.sum(common, axis=1) == 4) & (bonds == 2)
        apart, chained = jnp.sum(pairs & ~branched), jnp.sum(pairs & branched)
        hcp = jnp.where((apart == 6) & (chained == 6), HCP, OTHER)
        return jnp.where(apart == NEAREST, FCC, hcp)

    found = jax.lax.map(classify, atoms, batch_size=BLOCK)
    return jnp.where(whole, found, OTHER)

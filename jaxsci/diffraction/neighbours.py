"""Who is near whom: neighbour lists of fixed capacity by cells, in one jitted program, rebuilt inside loops.

Cells have the list's radius as edge, so that neighbours lie in the 27 cells about an atom's own. Atoms that leave the
box of cells count to the outermost ones, which keeps the list right.
"""

from functools import partial
from itertools import product
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.spatial import KDTree

BLOCK = 512  # atoms whose candidates are looked through at a time


class Capacity(NamedTuple):
    """What is fixed when a list is compiled."""

    cells: tuple[int, int, int]
    per_cell: int
    neighbours: int


class Neighbours(NamedTuple):
    """The atoms within a radius of each."""

    index: Int[Array, "capacity atoms"]
    """The atom's own number where there is no further neighbour."""
    positions: Float[Array, "atoms 3"]
    """Where the atoms were when the list was made."""
    overflow: Bool[Array, ""]
    """Whether a cell or an atom had more than the capacity, so that some are missing."""


def capacity_for(positions: Float[np.ndarray, "atoms 3"], radius: float, *, slack: float = 1.2) -> Capacity:
    """Capacities for atoms about as dense as these are: `slack` times what the fullest cell and atom need now."""
    positions = np.asarray(positions)
    extent = positions.max(axis=0) - positions.min(axis=0)
    x, y, z = (int(edge / radius) + 1 for edge in extent)
    counts = x, y, z
    own = np.minimum((positions - positions.min(axis=0)) / radius, np.array(counts) - 1).astype(int)
    most = np.unique(own, axis=0, return_counts=True)[1].max()
    near = np.max(KDTree(positions).query_ball_point(positions, radius, return_length=True)) - 1
    return Capacity(counts, int(slack * most) + 1, min(int(slack * near) + 1, len(positions)))


@partial(jax.jit, static_argnames=("radius", "capacity"))
def neighbour_list(positions: Float[Array, "atoms 3"], *, radius: float, capacity: Capacity) -> Neighbours:
    """The list, an atom not being its own neighbour."""
    atoms = len(positions)
    shape = jnp.asarray(capacity.cells)
    own = jnp.floor((positions - positions.min(axis=0)) / radius).astype(jnp.int32)
    own = jnp.clip(own, 0, shape - 1)
    total = int(np.prod(capacity.cells))
    table, crowded = members(_flat(own, capacity.cells), total, capacity.per_cell)
    table = jnp.concatenate([table, jnp.full((1, capacity.per_cell), atoms)])  # the cell of those outside
    around = jnp.asarray(list(product((-1, 0, 1), repeat=3)))

    def near(atom: Int[Array, ""]) -> tuple[Int[Array, " capacity"], Int[Array, ""]]:
        cells = own[atom] + around
        outside = jnp.any((cells < 0) | (cells >= shape), axis=1)
        candidates = table[jnp.where(outside, total, _flat(cells, capacity.cells))].reshape(-1)
        away = positions.at[candidates].get(mode="clip") - positions[atom]
        close = (jnp.sum(away * away, axis=-1) < radius**2) & (candidates < atoms) & (candidates != atom)
        place = jnp.where(close, jnp.cumsum(close) - 1, capacity.neighbours)
        row = jnp.full(capacity.neighbours, atom).at[place].set(candidates, mode="drop")
        return row, jnp.sum(close)

    rows, counts = jax.lax.map(near, jnp.arange(atoms, dtype=jnp.int32), batch_size=BLOCK)
    return Neighbours(rows.T, positions, crowded | jnp.any(counts > capacity.neighbours))


def members(
    group: Int[Array, " items"], groups: int, capacity: int
) -> tuple[Int[Array, "groups capacity"], Bool[Array, ""]]:
    """The items of each group, filled up with the number of items; and whether one has more than `capacity`."""
    items = len(group)
    order = jnp.argsort(group).astype(jnp.int32)
    sizes = jnp.bincount(group, length=groups)
    rank = jnp.arange(items) - (jnp.cumsum(sizes) - sizes)[group[order]]
    table = jnp.full((groups, capacity), items, jnp.int32).at[group[order], rank].set(order, mode="drop")
    return table, jnp.any(sizes > capacity)


def has_moved(positions: Float[Array, "atoms 3"], found: Neighbours, skin: float) -> Bool[Array, ""]:
    """Whether an atom went so far that a list made with `skin` to spare may miss a pair."""
    return jnp.any(jnp.sum(jnp.square(positions - found.positions), axis=1) > (skin / 2) ** 2)


def _flat(cells: Int[Array, "*shape 3"], shape: tuple[int, int, int]) -> Int[Array, "*shape"]:
    return (cells[..., 0] * shape[1] + cells[..., 1]) * shape[2] + cells[..., 2]

"""Which line defect a crystal of atoms holds, read from the atoms: what a label is worth after relaxation.

Dislocations glide out of small crystals, dissociate or blow up, and their labels go with them. Two witnesses: the
Burgers circuit, from the windings of G.u for four reflections; and the atoms' surroundings (`common_neighbours`).
"""

from collections import Counter
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import KDTree

from jaxsci.diffraction.common_neighbours import FCC, HCP, NEAREST, OTHER, structure
from jaxsci.diffraction.generator import CLASSES, EDGE, MIXED, NONE, SCREW
from jaxsci.diffraction.winding import windings

REFLECTIONS = np.array([[1, 1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, -1]])
SCREW_BELOW, EDGE_ABOVE = 20.0, 70.0  # degrees between b and the line


class Witness(NamedTuple):
    """What was found in the atoms."""

    kind: int
    """Index into CLASSES."""
    burgers: tuple[float, float, float]
    """In units of a, to halves; (0, 0, 0) for none. A right-handed circuit about `direction` closes with it."""
    direction: tuple[float, float, float]
    """Unit vector along the line, straight as it may be."""
    planes: int
    """How many planes of cells the line was found to cross."""
    hcp: int
    """Interior atoms in a stacking fault."""
    other: int
    """Interior atoms that stand as in neither fcc nor hcp: the core."""

    @property
    def name(self) -> str:
        """What was found, in words."""
        return CLASSES[self.kind]


def witness(
    sites: Float[np.ndarray, "atoms 3"], displacements: Float[np.ndarray, "atoms 3"], a: float, *, depth: float = 1.7
) -> Witness:
    """The defect of an fcc crystal with atoms at `sites` + `displacements` (angstrom), sites at multiples of a/2.

    `depth` (in units of a, 7 angstrom of gold): atoms nearer to the surface are not asked for their surroundings.
    """
    found = structure(sites + displacements, a)
    inside = interior(sites, a, depth * a)
    counts = {kind: int(np.sum(inside & (found == kind))) for kind in (FCC, HCP, OTHER)}
    burgers, direction, planes = burgers_circuit(sites, displacements, a)
    return Witness(_kind(burgers, direction), burgers, direction, planes, counts[HCP], counts[OTHER])


def burgers_circuit(
    sites: Float[np.ndarray, "atoms 3"], displacements: Float[np.ndarray, "atoms 3"], a: float
) -> tuple[tuple[float, float, float], tuple[float, float, float], int]:
    """Burgers vector (units of a), unit line direction, and the number of planes of cells that it was found in.

    The phase of mean exp(i G.u) in every whole cubic cell winds by 2 pi g.b about a dislocation; the sums of windings
    over the squares of a plane of cells, for four reflections, give b by least squares.
    """
    cells = np.floor((sites + a / 8) / a).astype(int)
    cells -= cells.min(axis=0)
    shape = tuple(cells.max(axis=0) + 1)
    count = np.zeros(shape, int)
    np.add.at(count, tuple(cells.T), 1)
    whole = jnp.asarray(count == 4)
    numbers = []
    for reflection in REFLECTIONS:
        field = np.zeros(shape, complex)
        np.add.at(field, tuple(cells.T), np.exp(2j * np.pi / a * (displacements @ reflection)))
        numbers.append(np.asarray(windings(jnp.asarray(field), whole, erode=1).numbers))
    turns = np.stack(numbers)  # (reflection, axis, x, y, z)

    best: tuple[tuple[float, ...], int, int] = ((0.0, 0.0, 0.0), 0, 0)
    for axis in range(3):
        across = tuple(i + 1 for i in range(3) if i != axis)
        sums = turns[:, axis].sum(axis=across)  # (reflection, planes)
        solved, *_ = np.linalg.lstsq(REFLECTIONS.astype(float), sums, rcond=None)
        halves = np.round(2 * solved.T) / 2 + 0.0
        consistent = np.abs(REFLECTIONS @ halves.T - sums).max(axis=0) < 0.5
        seen = Counter(tuple(float(x) for x in row) for row in halves[consistent] if np.any(row))
        if seen:
            burgers, planes = seen.most_common(1)[0]
            if planes > best[1]:
                best = burgers, planes, axis
    burgers, planes, axis = best
    if planes < 2:  # one plane alone is a kink of noise
        return (0.0, 0.0, 0.0), (0.0, 0.0, 1.0), 0
    return (burgers[0], burgers[1], burgers[2]), _direction(turns, axis), planes


def interior(sites: Float[np.ndarray, "atoms 3"], a: float, depth: float) -> Bool[np.ndarray, " atoms"]:
    """Sites farther than `depth` from every site that lacks one of its twelve neighbours."""
    tree = KDTree(sites)
    neighbours = np.asarray(tree.query_ball_point(sites, 0.854 * a, return_length=True)) - 1
    return KDTree(sites[neighbours < NEAREST]).query(sites)[0] > depth


def _direction(turns: Int[np.ndarray, "reflections 3 x y z"], axis: int) -> tuple[float, float, float]:
    """The long axis of the squares that any reflection sees pierced, rising along `axis`."""
    pierced = np.argwhere(np.any(turns != 0, axis=0))
    corner = 0.5 * (1 - np.eye(3))  # the centre of a square normal to each axis, from where it starts
    centres = pierced[:, 1:] + corner[pierced[:, 0]]
    direction = np.linalg.svd(centres - centres.mean(axis=0))[2][0]
    direction = direction * (np.sign(direction[axis]) or 1.0)
    return float(direction[0]), float(direction[1]), float(direction[2])


def _kind(burgers: tuple[float, ...], direction: tuple[float, ...]) -> int:
    length = np.linalg.norm(burgers)
    if length == 0:
        return NONE
    angle = np.degrees(np.arccos(min(abs(float(np.dot(burgers, direction))) / length, 1.0)))
    return SCREW if angle < SCREW_BELOW else EDGE if angle > EDGE_ABOVE else MIXED

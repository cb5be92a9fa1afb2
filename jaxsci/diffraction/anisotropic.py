"""Displacement of a straight dislocation in an anisotropic medium (Stroh's sextic formalism).

Stroh, Philos. Mag. 3, 625 (1958); Hirth & Lothe, Theory of Dislocations (1982), ch. 13. The eigenproblem is solved
once, in NumPy and float64, outside traced code; the field itself is traced. Exactly isotropic constants make the
eigenproblem degenerate: use `dislocation.displacement` for them.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsci.core.errors import ConfigError
from jaxsci.diffraction.dislocation import Line


class Stroh(NamedTuple):
    """What the field of one line needs; k counts the three eigenvalues of positive imaginary part."""

    roots: Complex[Array, "3"]
    """p_k: the field depends on x + p_k y."""
    modes: Complex[Array, "3 3"]
    """A_k D_k as columns, in the frame of the line."""
    frame: Float[Array, "3 3"]
    """Rows: normal x t, normal, t."""
    core: Float[Array, "3"]


def cubic_stiffness(c11: float, c12: float, c44: float) -> Float[np.ndarray, "3 3 3 3"]:
    """C_ijkl in the cubic axes, in the unit of the constants. Raises `ConfigError` where it is not stable."""
    if not (c44 > 0 and c11 > abs(c12) and c11 + 2 * c12 > 0):
        raise ConfigError(f"c11, c12, c44: expected a stable crystal (c11 > |c12|, c44 > 0), got {c11}, {c12}, {c44}")
    delta = np.eye(3)
    stiffness = c12 * np.einsum("ij,kl->ijkl", delta, delta)
    stiffness += c44 * (np.einsum("ik,jl->ijkl", delta, delta) + np.einsum("il,jk->ijkl", delta, delta))
    for axis in range(3):
        stiffness[axis, axis, axis, axis] += c11 - c12 - 2 * c44
    return stiffness


def stroh(line: Line, stiffness: Float[np.ndarray, "3 3 3 3"]) -> Stroh:
    """Solve the sextic eigenproblem of a line. Raises `ConfigError` where it is degenerate."""
    t, normal = np.asarray(line.direction, float), np.asarray(line.normal, float)
    frame = np.stack([np.cross(normal, t), normal, t])
    turned = np.einsum("ia,jb,kc,ld,abcd->ijkl", frame, frame, frame, frame, stiffness)
    q, r, s = turned[:, 0, :, 0], turned[:, 0, :, 1], turned[:, 1, :, 1]
    inverse = np.linalg.inv(s)
    matrix = np.block([[-inverse @ r.T, inverse], [r @ inverse @ r.T - q, -r @ inverse]])
    values, vectors = np.linalg.eig(matrix)
    up = np.flatnonzero(np.imag(values) > 0)
    if len(up) != 3 or np.linalg.cond(vectors) > 1e8:
        raise ConfigError("stiffness: degenerate (isotropic to rounding); use the isotropic field instead")
    shape, traction = vectors[:3, up], vectors[3:, up]
    burgers = frame @ np.asarray(line.burgers, float)
    # Re(A D) = b and Re(L D) = 0: six real equations for three complex numbers.
    system = np.block([[np.real(part), -np.imag(part)] for part in (shape, traction)])
    solution = np.linalg.solve(system, np.concatenate([burgers, np.zeros(3)]))
    weights = solution[:3] + 1j * solution[3:]
    return Stroh(jnp.asarray(values[up]), jnp.asarray(shape * weights), jnp.asarray(frame), jnp.asarray(line.core))


def displacement(solution: Stroh, points: Float[Array, "*shape 3"]) -> Float[Array, "*shape 3"]:
    """u(r) = Re sum_k A_k D_k ln(x + p_k y) / (2 pi i), the cut along negative x as in the isotropic form."""
    x, y, _ = jnp.moveaxis((points - solution.core) @ solution.frame.T, -1, 0)
    argument = x[..., None] + solution.roots * y[..., None]
    # The modulus never vanishes off the core; at it the field is set to that of unit distance.
    logarithm = jnp.log(jnp.where(argument == 0, 1.0, argument))
    local = jnp.real(jnp.einsum("ik,...k->...i", solution.modes, logarithm) / (2j * jnp.pi))
    return local @ solution.frame

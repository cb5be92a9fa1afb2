"""POD-Galerkin: the equations projected onto the modes, with the full right-hand side or a few cells of it."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.core.errors import ConfigError
from jaxsci.dynamics.runge_kutta import ssp_runge_kutta_3
from jaxsci.dynamics.shallow_water import GHOSTS, ShallowWater
from jaxsci.emulators.interpolation_points import deim_points, gappy_inverse, qdeim_points
from jaxsci.emulators.state_basis import StateBasis

Tendency = Callable[[Array], Array]


class Galerkin(eqx.Module):
    """`a' = Phi' f(mean + Phi a)`, stepped by SSP-RK3: a step map on coefficients.

    The whole right-hand side is evaluated at every stage, so a step costs what one of the full model costs, and the
    projections on top. Source: Holmes, Lumley and Berkooz 1996, Turbulence, Coherent Structures, Dynamical Systems and
    Symmetry, chapter 4.
    """

    tendency: Tendency
    basis: StateBasis
    dt: float = eqx.field(static=True)

    def vector_field(self, coefficients: Float[Array, " size"]) -> Float[Array, " size"]:
        """`da/dt`: the tendency of the lifted state, projected."""
        return self.basis.project_change(self.tendency(self.basis.lift(coefficients)))

    def __call__(self, coefficients: Float[Array, " size"]) -> Float[Array, " size"]:
        return ssp_runge_kutta_3(self.vector_field, self.dt)(coefficients)


class SampledShallowWater(eqx.Module):
    """The shallow water tendency in some cells, straight from the coefficients.

    A cell's fluxes look at three cells on every side: a row and a column of seven. Only those rows of the basis are
    kept, so the cost is that of the sampled cells, not of the grid.
    """

    model: ShallowWater
    cells: Int[np.ndarray, " cells"]
    mean_x: Float[Array, "3 7 cells"]
    mean_y: Float[Array, "3 7 cells"]
    modes_x: Float[Array, "3 7 cells modes"]
    modes_y: Float[Array, "3 7 cells modes"]
    stencil: tuple[Int[np.ndarray, "7 cells"], Int[np.ndarray, "7 cells"]]

    def __init__(self, model: ShallowWater, basis: StateBasis, cells: Int[np.ndarray, " cells"]):
        nx, ny = basis.shape
        i, j = np.divmod(cells, ny)
        around = np.arange(-GHOSTS, GHOSTS + 1)[:, None]
        along_x, along_y = (i + around) % nx * ny + j, i * ny + (j + around) % ny
        self.model, self.cells, self.stencil = model, cells, (along_x, along_y)
        self.mean_x, self.modes_x = basis.mean[:, along_x], basis.modes[:, along_x]
        swapped = np.array([0, 2, 1])[:, None, None]  # along y the velocities change places
        self.mean_y, self.modes_y = basis.mean[swapped, along_y], basis.modes[swapped, along_y]

    def __call__(self, coefficients: Float[Array, " size"]) -> Float[Array, "3 cells"]:
        a = coefficients.reshape(3, -1)
        bottom = None if self.model.bottom is None else self.model.bottom.ravel()
        floors = [None if bottom is None else bottom[line] for line in self.stencil]
        in_x = self.mean_x + jnp.einsum("vscm,vm->vsc", self.modes_x, a)
        in_y = self.mean_y + jnp.einsum("vscm,vm->vsc", self.modes_y, a[jnp.array([0, 2, 1])])
        along_x = self.model.difference(in_x, floors[0])[:, 0]
        along_y = self.model.difference(in_y, floors[1])[:, 0]
        return -(along_x + along_y[jnp.array([0, 2, 1])]) / self.model.spacing


class HyperReduced(eqx.Module):
    """Galerkin with `f ~ U (P'U)^+ P'f`: the right-hand side is seen in a few cells and filled in by modes of its own.

    `fill` is `Phi' U (P'U)^+`, worked out beforehand. A step map on coefficients.
    """

    sampled: SampledShallowWater
    fill: Float[Array, "3 modes cells"]
    dt: float = eqx.field(static=True)

    def vector_field(self, coefficients: Float[Array, " size"]) -> Float[Array, " size"]:
        """`da/dt` from the sampled cells alone."""
        return jnp.einsum("vkc,vc->vk", self.fill, self.sampled(coefficients)).ravel()

    def __call__(self, coefficients: Float[Array, " size"]) -> Float[Array, " size"]:
        return ssp_runge_kutta_3(self.vector_field, self.dt)(coefficients)


class Sampling(eqx.Module):
    """Cells to look at and, for each component, how values there become coefficients of the solution's modes."""

    cells: Int[np.ndarray, " cells"]
    fill: Float[Array, "3 modes cells"]

    def reduce(self, model: ShallowWater, basis: StateBasis) -> HyperReduced:
        return HyperReduced(SampledShallowWater(model, basis, self.cells), self.fill, model.dt)


def choose_sampling(basis: StateBasis, rates: StateBasis, *, selection: Literal["deim", "qdeim"] = "qdeim") -> Sampling:
    """From POD modes of the right-hand side, `rates` (their mean is zero or part of their span).

    Each component chooses its own points; all are then used for all three, by least squares.
    """
    pick = {"deim": deim_points, "qdeim": qdeim_points}
    if selection not in pick:
        raise ConfigError(f"selection: expected deim or qdeim, got {selection!r}")
    modes = np.asarray(rates.modes, np.float64)
    cells = np.unique(np.concatenate([pick[selection](component) for component in modes]))
    fill = [
        np.asarray(kept, np.float64).T @ component @ gappy_inverse(component, cells)
        for kept, component in zip(basis.modes, modes, strict=True)
    ]
    return Sampling(cells, jnp.asarray(np.stack(fill), basis.modes.dtype))

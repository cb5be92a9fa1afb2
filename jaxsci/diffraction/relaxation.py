"""Atoms at rest: energy and forces of embedded-atom potentials, minimised by FIRE in one compiled loop.

FIRE: Bitzek et al., doi:10.1103/PhysRevLett.97.170201, with unit mass. Free boundaries: a crystal in vacuum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsci.core.config import positive
from jaxsci.core.errors import DataError, NonFiniteError
from jaxsci.diffraction.neighbours import Capacity, Neighbours, capacity_for, has_moved, neighbour_list
from jaxsci.diffraction.potential import Potential

GROWTH_STEPS = 5  # downhill steps before the step grows
ATTEMPTS = 4  # at a list large enough


@dataclass(frozen=True)
class FireConfig:
    """Until no component of a force exceeds `force` (eV / angstrom), or for `steps`.

    `skin` (angstrom): lists reach so far beyond the cutoff and are rebuilt when an atom has moved half of it. `step`,
    `longest_step`: of time. `longest_move` (angstrom): of an atom in one step.
    """

    steps: int = 1000
    force: float = 0.02
    skin: float = 1.0
    step: float = 0.05
    longest_step: float = 0.3
    longest_move: float = 0.1

    def __post_init__(self) -> None:
        positive(self, "steps", "force", "skin", "step", "longest_step", "longest_move")


class Relaxed(NamedTuple):
    """Where the atoms came to rest."""

    positions: Float[Array, "atoms 3"]
    energy: Float[Array, ""]
    """Per atom (eV)."""
    start_energy: Float[Array, ""]
    largest_force: Float[Array, ""]
    """Largest component (eV / angstrom)."""
    steps: Int[Array, ""]
    rebuilds: Int[Array, ""]
    overflow: Bool[Array, ""]


class _State(NamedTuple):
    positions: Array
    velocities: Array
    forces: Array
    neighbours: Neighbours
    time_step: Array
    mixing: Array
    downhill: Array
    steps: Array
    rebuilds: Array


def atom_energies(
    positions: Float[Array, "atoms 3"], neighbours: Neighbours, potential: Potential
) -> Float[Array, " atoms"]:
    """Each atom's F(rho) and half of its pairs (eV)."""
    r, pairs, _ = _pairs(positions, neighbours)
    density = jnp.sum(jnp.where(pairs, potential.density(r), 0.0), axis=0)
    return potential.embedding(density) + 0.5 * jnp.sum(jnp.where(pairs, potential.pair(r), 0.0), axis=0)


def forces(positions: Float[Array, "atoms 3"], neighbours: Neighbours, potential: Potential) -> Float[Array, "atoms 3"]:
    """Minus the gradient of the total energy (eV / angstrom).

    Written out: with each pair listed from both sides, all sums are gathers, where reverse mode would scatter.
    """
    r, pairs, away = _pairs(positions, neighbours)
    density, density_slope = _with_slope(potential.density, r)
    _, pair_slope = _with_slope(potential.pair, r)
    _, pull = _with_slope(potential.embedding, jnp.sum(jnp.where(pairs, density, 0.0), axis=0))
    along = ((pull + pull[neighbours.index]) * density_slope + pair_slope) / r
    return jnp.sum(jnp.where(pairs, along, 0.0) * away, axis=1).T


def relax(
    positions: Float[np.ndarray, "atoms 3"],
    potential: Potential,
    config: FireConfig,
    *,
    closest: float = 1.0,
) -> Relaxed:
    """Minimise the energy. Capacities come from the atoms and grow where they do not do.

    Raises `DataError` where two atoms begin closer than `closest` (angstrom): a core on a column of atoms would blow
    the crystal up; move it. Raises `NonFiniteError` where the minimisation did not end in finite positions.
    """
    start = jnp.asarray(positions)
    radius = potential.cutoff + config.skin
    for attempt in range(ATTEMPTS):
        capacity = capacity_for(np.asarray(positions), radius, slack=1.2 * 1.4**attempt)
        first = neighbour_list(start, radius=radius, capacity=capacity)
        nearest = float(jnp.min(_pairs(start, first)[0]))
        if nearest < closest:
            raise DataError(
                f"positions: expected atoms at least {closest} angstrom apart, got {nearest:.3f}; move the dislocation "
                "off the column of atoms"
            )
        found = minimise(start, potential, config, capacity)
        if not bool(found.overflow):
            break
    if bool(found.overflow) or not bool(jnp.isfinite(found.energy)):
        raise NonFiniteError(f"relaxation: the atoms did not stay together; after {int(found.steps)} steps the energy "
                             f"is {float(found.energy):.4g} eV an atom; start from a smaller displacement")  # fmt: skip
    return found


@partial(jax.jit, static_argnames=("config", "capacity"))
def minimise(
    positions: Float[Array, "atoms 3"], potential: Potential, config: FireConfig, capacity: Capacity
) -> Relaxed:
    """`relax` for a given capacity, as one program; `overflow` tells that it was too small."""
    radius = potential.cutoff + config.skin
    build = partial(neighbour_list, radius=radius, capacity=capacity)
    neighbours = build(positions)
    real = positions.dtype
    zero = jnp.zeros((), jnp.int32)
    start = _State(
        positions,
        jnp.zeros_like(positions),
        forces(positions, neighbours, potential),
        neighbours,
        jnp.asarray(config.step, real),
        jnp.asarray(0.1, real),
        zero,
        zero,
        zero,
    )

    def unfinished(state: _State) -> Bool[Array, ""]:
        moving = jnp.max(jnp.abs(state.forces)) > config.force
        return moving & (state.steps < config.steps) & ~state.neighbours.overflow

    def advance(state: _State) -> _State:
        state = _fire_step(state, config)
        stale = has_moved(state.positions, state.neighbours, config.skin)
        neighbours = jax.lax.cond(stale, build, lambda _: state.neighbours, state.positions)
        return state._replace(
            forces=forces(state.positions, neighbours, potential),
            neighbours=neighbours,
            rebuilds=state.rebuilds + stale,
        )

    end = jax.lax.while_loop(unfinished, advance, start)
    return Relaxed(
        end.positions,
        jnp.mean(atom_energies(end.positions, end.neighbours, potential)),
        jnp.mean(atom_energies(positions, neighbours, potential)),
        jnp.max(jnp.abs(end.forces)),
        end.steps,
        end.rebuilds,
        end.neighbours.overflow,
    )


def _fire_step(state: _State, config: FireConfig) -> _State:
    power = jnp.sum(state.forces * state.velocities)
    uphill = power < 0
    size = jnp.linalg.norm(state.velocities) / jnp.maximum(jnp.linalg.norm(state.forces), 1e-30)
    steered = (1 - state.mixing) * state.velocities + state.mixing * size * state.forces
    velocities = jnp.where(uphill, 0.0, steered)
    grow = ~uphill & (state.downhill >= GROWTH_STEPS)
    longer = jnp.minimum(1.1 * state.time_step, config.longest_step)
    time_step = jnp.where(uphill, 0.5 * state.time_step, jnp.where(grow, longer, state.time_step))
    velocities = velocities + time_step * state.forces
    move = time_step * velocities
    move *= jnp.minimum(1.0, config.longest_move / jnp.maximum(jnp.max(jnp.abs(move)), 1e-30))
    return state._replace(
        positions=state.positions + move,
        velocities=velocities,
        time_step=time_step,
        mixing=jnp.where(uphill, 0.1, jnp.where(grow, 0.99 * state.mixing, state.mixing)),
        downhill=jnp.where(uphill, 0, state.downhill + 1),
        steps=state.steps + 1,
    )


def _pairs(
    positions: Float[Array, "atoms 3"], neighbours: Neighbours
) -> tuple[Float[Array, "capacity atoms"], Bool[Array, "capacity atoms"], Float[Array, "3 capacity atoms"]]:
    """Distances, which of them are of pairs, and the vectors from each atom to its neighbours."""
    columns = positions.T
    away = columns[:, neighbours.index] - columns[:, None, :]
    pairs = neighbours.index != jnp.arange(len(positions))
    squared = jnp.sum(away * away, axis=0)
    return jnp.sqrt(jnp.where(pairs, squared, 1e6)), pairs, away


def _with_slope(function: Callable[[Array], Array], at: Array) -> tuple[Array, Array]:
    return jax.jvp(function, (at,), (jnp.ones_like(at),))

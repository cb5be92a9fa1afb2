"""Parametric families of shallow water runs: who the members are, how they are drawn, and all of them simulated."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsci.core.config import Choice, between, positive, require
from jaxsci.core.errors import DataError
from jaxsci.core.rollout import rollout
from jaxsci.dynamics.shallow_water import ShallowWater, gaussian_bump, squared_distance

GRAVITY = 9.8


@dataclass(frozen=True)
class SimulationConfig:
    """`fields` fields are kept, the first at t = 0 and then every `every` steps of `dt`, on the unit square.

    The published setting is the default: 64 x 64 cells, 500 steps of 1e-3, a field every 5 steps.
    """

    cells: int = 64
    dt: float = 1e-3
    every: int = 5
    fields: int = 100

    def __post_init__(self) -> None:
        between(self, "cells", 4, 4096)
        positive(self, "dt", "every")
        require(self.fields >= 2, "fields", "2 or more", self.fields)

    @property
    def interval(self) -> float:
        """Time between two kept fields."""
        return self.every * self.dt

    @property
    def times(self) -> Float[np.ndarray, " fields"]:
        """Times of the kept fields, from 0."""
        return self.interval * np.arange(self.fields)

    def model(self, bottom: Float[Array, "n n"] | None = None) -> ShallowWater:
        """The solver as a step map; `bottom` is the height of the ground on the grid."""
        return ShallowWater(1 / self.cells, self.dt, GRAVITY, bottom=bottom)


class Family(Choice):
    """A set of runs told apart by a vector of parameters, each within a range; some ranges are circles."""

    names: tuple[str, ...]
    periodic: tuple[bool, ...]

    @property
    def ranges(self) -> Float[np.ndarray, "parameters 2"]:
        """Lowest and highest value of every parameter."""
        raise NotImplementedError

    def begin(
        self, parameters: Float[Array, " parameters"], simulation: SimulationConfig
    ) -> tuple[ShallowWater, Float[Array, "3 n n"]]:
        """The equations (with the member's bottom) and the first state; pure and traceable."""
        raise NotImplementedError

    def sample(self, runs: int, *, seed: int) -> Float[np.ndarray, "runs parameters"]:
        """A centred Latin hypercube: every parameter takes the middle of each of `runs` equal cells once."""
        rng = np.random.default_rng(seed)
        cells = np.stack([rng.permutation(runs) for _ in self.names], axis=1)
        low, high = self.ranges.T
        return low + (high - low) * (cells + 0.5) / runs

    def inside(self, parameters: Float[np.ndarray, "*runs parameters"]) -> Bool[np.ndarray, "*runs"]:
        """Whether every parameter lies in its range; a position on a circle always does."""
        low, high = self.ranges.T
        return np.all(np.asarray(self.periodic) | ((parameters >= low) & (parameters <= high)), axis=-1)

    def encode(self, parameters: Float[Array, " parameters"]) -> Float[Array, " features"]:
        """What regressions and networks see: circles as cosine and sine, other ranges mapped to [-1, 1]."""
        low, high = jnp.asarray(self.ranges.T, parameters.dtype)
        unit = (parameters - low) / (high - low)
        circle = np.asarray(self.periodic)
        angle = 2 * jnp.pi * unit[circle]
        return jnp.concatenate([jnp.cos(angle), jnp.sin(angle), 2 * unit[~circle] - 1])


@dataclass(frozen=True)
class Bump(Family, kind="bump"):
    """One Gaussian bump at rest anywhere on the periodic square: every run is a translate of every other.

    The published family (Maulik et al. 2021, Phys. Fluids 33, 037106, with a periodic bump).
    """

    width: float = 0.05
    amplitude: float = 1.0
    names = ("x0", "y0")
    periodic = (True, True)

    def __post_init__(self) -> None:
        positive(self, "width")
        require(self.amplitude > -1, "amplitude", "above -1, or the depth is not above 0", self.amplitude)

    @property
    def ranges(self) -> Float[np.ndarray, "parameters 2"]:
        return np.array([[-0.5, 0.5], [-0.5, 0.5]])

    def begin(self, parameters, simulation):
        bump = gaussian_bump(parameters, simulation.cells, width=self.width, amplitude=self.amplitude)
        return simulation.model(), bump


@dataclass(frozen=True)
class TwoBumps(Family, kind="two_bumps"):
    """Two bumps over a hill on the bottom: no translation maps one run to another.

    The first bump moves within `reach` of the centre; both bumps share a width; the second bump stands at `second`
    and the hill (width `hill_width`) at `hill`, each with a height of its own. Depth is `1 + bumps - hill`.
    """

    reach: float = 0.15
    widths: tuple[float, float] = (0.05, 0.08)
    amplitudes: tuple[float, float] = (0.5, 1.0)
    second_amplitudes: tuple[float, float] = (0.3, 0.8)
    hill_heights: tuple[float, float] = (0.0, 0.4)
    second: tuple[float, float] = (-0.3, 0.3)
    hill: tuple[float, float] = (0.25, -0.1)
    hill_width: float = 0.12
    names = ("x0", "y0", "width", "amplitude", "second_amplitude", "hill_height")
    periodic = (False,) * 6

    def __post_init__(self) -> None:
        between(self, "reach", 1e-6, 0.5)
        positive(self, "hill_width")
        for name in ("widths", "amplitudes", "second_amplitudes", "hill_heights"):
            low, high = getattr(self, name)
            require(low < high, name, "a rising pair", (low, high))
        require(self.widths[0] > 0, "widths", "values above 0", self.widths)
        least = min(0, self.amplitudes[0]) + min(0, self.second_amplitudes[0])
        require(self.hill_heights[1] < 1 + least, "hill_heights", "below the least depth", self.hill_heights)

    @property
    def ranges(self) -> Float[np.ndarray, "parameters 2"]:
        place = (-self.reach, self.reach)
        return np.array([place, place, self.widths, self.amplitudes, self.second_amplitudes, self.hill_heights], float)

    def begin(self, parameters, simulation):
        x, y, width, first, second, height = parameters
        cells = simulation.cells
        here = gaussian_bump(jnp.stack([x, y]), cells, width=width, amplitude=first)
        there = gaussian_bump(jnp.array(self.second, parameters.dtype), cells, width=width, amplitude=second)
        distance = squared_distance(jnp.array(self.hill, parameters.dtype), cells)
        bottom = height * jnp.exp(-distance / (2 * self.hill_width**2))
        state = (here + there).at[0].add(-1.0 - bottom)
        return simulation.model(bottom), state


def simulate(
    family: Family,
    simulation: SimulationConfig,
    parameters: Float[np.ndarray, "runs parameters"],
    *,
    together: int = 4,
    on_runs: Callable[[int], None] | None = None,
) -> Float[np.ndarray, "runs fields 3 n n"]:
    """Every run of the family at `parameters`, by one compiled program that is mapped over `together` runs a call.

    A CPU is fastest with the few runs whose states fit its caches, an accelerator with all of them. `on_runs(number)`
    is called after each call. Raises `DataError` for a first state that the step does not suit (negative depth, Courant
    number above 1), and for a run that does not stay finite.
    """
    dtype = jnp.asarray(0.0).dtype
    runs, n = len(parameters), simulation.cells
    every_run = jnp.asarray(parameters, dtype)
    firsts = jax.jit(jax.vmap(lambda p: family.begin(p, simulation)[1]))(every_run)
    depths = np.asarray(firsts[:, 0].min((1, 2)))
    for run in {int(np.argmin(depths)), int(np.argmax(np.asarray(firsts[:, 0].max((1, 2)))))}:
        simulation.model().check(np.asarray(firsts[run]))  # the shallowest and the fastest
    program = jax.jit(jax.vmap(run_of(family, simulation)))
    together = min(together, runs)
    found = np.empty((runs, simulation.fields, 3, n, n), dtype)
    for begin in range(0, runs, together):
        begin = min(begin, runs - together)  # the last call is as large as the others, so it is the same program
        found[begin : begin + together] = program(every_run[begin : begin + together])
        if on_runs is not None:
            on_runs(together)
    finite = np.isfinite(found[:, -1, 0]).all((1, 2))
    if not finite.all():
        raise DataError(
            f"dt: {np.sum(~finite)} of {runs} runs did not stay finite, the first at parameters "
            f"{np.array2string(parameters[np.argmin(finite)], precision=3)}; take a smaller dt than {simulation.dt:g}"
        )
    return found


def run_of(family: Family, simulation: SimulationConfig) -> Callable[[Array], Array]:
    """`parameters -> (fields, 3, n, n)`: pure, to be jitted, mapped or differentiated."""

    def run(parameters: Float[Array, " parameters"]) -> Float[Array, "fields 3 n n"]:
        model, first = family.begin(parameters, simulation)
        return rollout(several(model, simulation.every), simulation.fields - 1, include_initial=True)(first)

    return run


def several(model: Callable[[Array], Array], steps: int) -> Callable[[Array], Array]:
    """`steps` steps of a step map as one."""
    return lambda state: jax.lax.fori_loop(0, steps, lambda _, q: model(q), state)

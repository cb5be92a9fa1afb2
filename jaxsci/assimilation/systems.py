"""Systems for twin experiments, with first ensembles, burn-in and noise; published ones where there are any.

A new system is a subclass of `System` anywhere: its `kind` is then a name that configs know.
"""

from dataclasses import dataclass

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.problem import Operator, Places
from jaxsci.assimilation.variational import StepMap
from jaxsci.core.config import Choice, between, positive
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import KuramotoSivashinsky, Lorenz63, Lorenz96, ShallowWater


class System(Choice):
    """Family of the systems. A member is a frozen dataclass with what follows as fields."""

    dt: float
    """Length of a model step, in the model's units of time."""
    observe_every: int
    """Steps between observations in the published experiments, and the variance of their errors."""
    noise: float
    burn_in: float
    """Time units until the first ensemble is forgotten."""

    def model(self) -> StepMap:
        """The step map that methods forecast with."""
        raise NotImplementedError

    def truth(self) -> StepMap:
        """What makes the truth: the model itself, except where the model is a learned one."""
        return self.model()

    def start(self) -> Background:
        """What truth and members are drawn from."""
        raise NotImplementedError

    def observed(self) -> np.ndarray | Operator | None:
        """Indices of the observed variables, or an operator; `None` is all variables."""
        return None

    def places(self) -> Places | None:
        """Where the variables are; `None` is one after the other on a circle, one apart."""
        return None


@dataclass(frozen=True)
class Lorenz96System(System, kind="lorenz96"):
    """As in Sakov and Oke 2008, Tellus A 60, 361-371: the first states are N(e_1, 0.001 I)."""

    sites: int = 40
    forcing: float = 8.0
    dt: float = 0.05
    observe_every: int = 1
    noise: float = 1.0
    burn_in: float = 20.0

    def __post_init__(self) -> None:
        between(self, "sites", 4, 10**6)
        positive(self, "dt", "observe_every", "noise", "burn_in")

    def model(self) -> StepMap:
        return Lorenz96(self.forcing, self.dt)

    def start(self) -> Background:
        return _independent(jnp.zeros(self.sites).at[0].set(1.0), 0.001)


@dataclass(frozen=True)
class Lorenz63System(System, kind="lorenz63"):
    """As in Sakov, Oliver and Bertino 2012, Mon. Wea. Rev. 140, 1988-2004: the first states are N(x_0, 2 I)."""

    sigma: float = 10.0
    rho: float = 28.0
    beta: float = 8 / 3
    dt: float = 0.01
    observe_every: int = 25
    noise: float = 2.0
    burn_in: float = 16.0

    def __post_init__(self) -> None:
        positive(self, "dt", "observe_every", "noise", "burn_in")

    def model(self) -> StepMap:
        return Lorenz63(self.sigma, self.rho, self.beta, self.dt)

    def start(self) -> Background:
        return _independent(jnp.array([1.509, -1.531, 25.46]), 2.0)


@dataclass(frozen=True)
class KuramotoSivashinskySystem(System, kind="kuramoto_sivashinsky"):
    """As in DAPPER (model of Kassam and Trefethen 2005): all points observed, with variance 1, every time unit.

    The first states are independent at every point, about a state on the attractor; diffusion makes them smooth.
    """

    points: int = 128
    length: float = 32 * np.pi
    dt: float = 0.5
    observe_every: int = 2
    noise: float = 1.0
    burn_in: float = 150.0
    spread: float = 0.5

    def __post_init__(self) -> None:
        between(self, "points", 8, 10**6)
        positive(self, "length", "dt", "observe_every", "noise", "burn_in", "spread")

    def model(self) -> StepMap:
        return KuramotoSivashinsky(self.length, self.dt)

    def start(self) -> Background:
        x = 2 * jnp.pi * (jnp.arange(self.points) + 1) / self.points
        settled = rollout(self.model(), round(150 / self.dt))(jnp.cos(x) * (1 + jnp.sin(x)))[-1]
        return _independent(settled, self.spread**2)


class Flat(eqx.Module):
    """A step map as one of flat vectors."""

    model: StepMap
    like: Array
    """Any state of the model."""

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        return ravel_pytree(self.model(ravel_pytree(self.like)[1](x)))[0]


@dataclass(frozen=True)
class ShallowWaterSystem(System, kind="shallow_water"):
    """Waves on a periodic unit square, depth about one; the depth is observed at every `gauge_every`-th cell.

    First states are random sums of the longest waves (up to `waves` along a side) with `amplitude` as the standard
    deviation of the depth, momentum holding as much energy. Without forcing the waves decay, and steepen on the way.
    """

    cells: int = 16
    dt: float = 6e-3
    gravity: float = 9.8
    waves: int = 1
    amplitude: float = 0.05
    gauge_every: int = 4
    observe_every: int = 4
    noise: float = 1e-4
    burn_in: float = 0.5

    def __post_init__(self) -> None:
        between(self, "cells", 8, 4096)
        between(self, "waves", 1, self.cells // 4)
        between(self, "amplitude", 1e-6, 0.15)  # depths stay above zero by six deviations
        positive(self, "dt", "gravity", "gauge_every", "observe_every", "noise", "burn_in")

    def model(self) -> StepMap:
        flow = ShallowWater(1 / self.cells, self.dt, self.gravity)
        still = np.stack([np.full((self.cells, self.cells), h) for h in (1.0, 0.0, 0.0)])
        flow.check(still)
        return Flat(flow, jnp.asarray(still))

    def start(self) -> Background:
        place = 2 * np.pi * np.arange(self.cells) / self.cells
        sides = range(-self.waves, self.waves + 1)
        vectors = [(a, b) for a in sides for b in sides if (a, b) > (0, 0)]  # the others are their mirror images
        phases = [a * place[:, None] + b * place[None, :] for a, b in vectors]
        shapes = np.stack([wave(phase) for phase in phases for wave in (np.cos, np.sin)]).reshape(-1, self.cells**2)
        shapes *= self.amplitude / np.sqrt(np.sum(shapes**2, axis=0).mean())
        scales = (1.0, np.sqrt(self.gravity / 2), np.sqrt(self.gravity / 2))
        root = np.zeros((3 * self.cells**2, 3 * len(shapes)))
        for component, scale in enumerate(scales):
            rows = slice(component * self.cells**2, (component + 1) * self.cells**2)
            root[rows, component * len(shapes) : (component + 1) * len(shapes)] = scale * shapes.T
        mean = np.concatenate([np.ones(self.cells**2), np.zeros(2 * self.cells**2)])
        return Background(jnp.asarray(mean), jnp.asarray(root))

    def observed(self) -> np.ndarray:
        return np.arange(0, self.cells**2, self.gauge_every)

    def places(self) -> Places:
        """In cells; depth and momentum share theirs."""
        grid = np.stack(np.meshgrid(*2 * [np.arange(self.cells, dtype=float)], indexing="ij"), axis=-1).reshape(-1, 2)
        return Places(np.tile(grid, (3, 1)), (float(self.cells), float(self.cells)))


def _independent(mean: Float[Array, " n"], variance: float) -> Background:
    return Background(mean, jnp.sqrt(variance) * jnp.eye(len(mean)))

"""The systems to learn: who makes the data, on which grid, and what counts as leaving."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.core.config import Choice, between, positive, require
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Burgers, KuramotoSivashinsky
from jaxsci.dynamics.burgers import random_phases
from jaxsci.dynamics.kuramoto_sivashinsky import long_waves
from jaxsci.emulators.stabilized_ode.model import StepMap
from jaxsci.emulators.stabilized_ode.trajectories import sampled
from jaxsci.emulators.stabilized_ode.variants import Domain
from jaxsci.emulators.stabilized_ode.warm_start import time_derivative


class PeriodicSystem(Choice):
    """Family of the systems; a member is a frozen dataclass with what follows as fields."""

    points: int
    length: float
    dt: float
    """Spacing of the data, and step of the models."""
    settle: float
    """Time before the first state of the data."""
    energy_limit: float

    def step(self) -> StepMap:
        """The truth over `dt`, in float64."""
        raise NotImplementedError

    def starts(self, count: int, *, key: PRNGKeyArray) -> Float[Array, "count n"]:
        raise NotImplementedError

    def slopes(self, u: Float[np.ndarray, "trajectories time n"]) -> Float[np.ndarray, "trajectories inner n"]:
        """Time derivatives at times 2 to -3, by central differences unless the data are too coarse for them."""
        return time_derivative(u, self.dt)

    def domain(self) -> Domain:
        raise NotImplementedError


@dataclass(frozen=True)
class KsSystem(PeriodicSystem, kind="ks"):
    """Kuramoto-Sivashinsky on its attractor.

    The truth takes `substeps` ETDRK4 steps in `dt` and forgets its start for `settle`. Products are not dealiased, so
    that the data hold the high modes. `energy_limit` is about twice the largest energy seen on the attractor.
    """

    points: int = 64
    length: float = 22.0
    dt: float = 0.25
    substeps: int = 3
    settle: float = 500.0
    energy_limit: float = 3.0

    def __post_init__(self) -> None:
        between(self, "points", 16, 4096)
        positive(self, "length", "dt", "substeps", "settle", "energy_limit")

    def step(self) -> StepMap:
        return sampled(KuramotoSivashinsky(self.length, self.dt / self.substeps), self.substeps)

    def starts(self, count: int, *, key: PRNGKeyArray) -> Float[Array, "count n"]:
        modes = max(round(5 * self.length / 22), 1)
        return jax.vmap(lambda k: long_waves(k, self.points, modes))(jax.random.split(key, count))

    def domain(self) -> Domain:
        # Waves with k < 1 grow; damping is asked for only where the PDE damps strongly, k > 1.5.
        return Domain(self.points, self.length, self.dt, (0.0, -1.0, 0.0, -1.0), 1.5, self.energy_limit)


@dataclass(frozen=True)
class BurgersSystem(PeriodicSystem, kind="burgers"):
    """Decaying Burgers turbulence from random phases with `E(n) ~ n^4 exp(-(n/peak)^2)`.

    The data start after `settle`, and the models take `substeps` steps in `dt`, as the truth does: advection limits
    the step. At viscosity 1e-3 and length 1, 512 points resolve the shocks to about a per cent.
    """

    points: int = 512
    length: float = 1.0
    viscosity: float = 1e-3
    dt: float = 0.005
    substeps: int = 5
    settle: float = 0.0
    peak: float = 5.0
    energy: float = 0.25
    energy_limit: float = 1.0

    def __post_init__(self) -> None:
        between(self, "points", 16, 8192)
        positive(self, "length", "viscosity", "dt", "substeps", "peak", "energy", "energy_limit")
        require(self.settle >= 0, "settle", "0 or more", self.settle)

    def step(self) -> StepMap:
        return sampled(Burgers(self.length, self.viscosity, self.dt / self.substeps), self.substeps)

    def slopes(self, u: Float[np.ndarray, "trajectories time n"]) -> Float[np.ndarray, "trajectories inner n"]:
        """By fourth-order forward differences over steps of `dt / 64`: a shock crosses several points in `dt`."""
        h = self.dt / 64
        step = Burgers(self.length, self.viscosity, h)

        def slope(v: Array) -> Array:
            states = rollout(step, 4, include_initial=True)(v)
            return jnp.tensordot(jnp.array([-25.0, 48.0, -36.0, 16.0, -3.0]) / (12 * h), states, axes=1)

        of_trajectory = jax.jit(lambda v: jax.lax.map(slope, v))
        return np.stack([np.asarray(of_trajectory(trajectory)) for trajectory in u[:, 2:-2]])

    def starts(self, count: int, *, key: PRNGKeyArray) -> Float[Array, "count n"]:
        draw = lambda k: random_phases(k, self.points, self.peak, self.energy)  # noqa: E731
        return jax.vmap(draw)(jax.random.split(key, count))

    def domain(self) -> Domain:
        return Domain(self.points, self.length, self.dt, (0.0, self.viscosity), 0.0, self.energy_limit, self.substeps)

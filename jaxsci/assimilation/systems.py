"""Chaotic systems with the first ensembles, burn-in and noise of the published twin experiments."""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.variational import StepMap
from jaxsci.core.config import Choice, between, positive
from jaxsci.dynamics import Lorenz63, Lorenz96


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
        raise NotImplementedError

    def start(self) -> Background:
        """What truth and members are drawn from."""
        raise NotImplementedError


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


def _independent(mean: Float[Array, " n"], variance: float) -> Background:
    return Background(mean, jnp.sqrt(variance) * jnp.eye(len(mean)))

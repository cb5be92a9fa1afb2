"""A learned model as the system of twin experiments: the stabilized neural ODE of Kuramoto-Sivashinsky."""

from dataclasses import dataclass
from importlib import resources

import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.systems import System
from jaxsci.assimilation.variational import StepMap
from jaxsci.core.config import positive, require
from jaxsci.dynamics import KuramotoSivashinsky
from jaxsci.dynamics.kuramoto_sivashinsky import long_waves
from jaxsci.emulators.stabilized_ode.model import StabilizedOde
from jaxsci.emulators.stabilized_ode.storage import load_model
from jaxsci.emulators.stabilized_ode.trajectories import sampled
from jaxsci.emulators.stabilized_ode.variants import Domain

PACKAGED = "stabilized_ks22.npz"
TRUTH_SUBSTEPS = 3


@dataclass(frozen=True)
class StabilizedKsSystem(System, kind="stabilized_ks"):
    """The truth is the equation itself (ETDRK4), the model that methods use the learned one, from `path` or packaged.

    `path` is a `model.npz` of `experiment=stabilized_ode`. First states are a state on the attractor plus independent
    departures of standard deviation `spread`, which diffusion makes smooth within a step. With `perfect` the methods
    have the equation too: what is then better is the price of having learned it.
    """

    path: str | None = None
    dt: float = 0.25
    observe_every: int = 4
    noise: float = 0.25
    burn_in: float = 50.0
    spread: float = 0.5
    perfect: bool = False

    def __post_init__(self) -> None:
        positive(self, "dt", "observe_every", "noise", "burn_in", "spread")

    def model(self) -> StepMap:
        if self.perfect:
            return self.truth()
        model, domain = self._load()
        return model.step_map(jnp.zeros(domain.points))

    def truth(self) -> StepMap:
        _, domain = self._load()
        return sampled(KuramotoSivashinsky(domain.length, domain.dt / TRUTH_SUBSTEPS), TRUTH_SUBSTEPS)

    def start(self) -> Background:
        points = self._load()[1].points
        step = self.truth()
        settled = jax.lax.fori_loop(0, 2000, lambda _, u: step(u), long_waves(jax.random.key(0), points))
        return Background(settled, self.spread * jnp.eye(points))

    def _load(self) -> tuple[StabilizedOde, Domain]:
        packaged = resources.files("jaxsci.emulators") / "data" / PACKAGED
        with resources.as_file(packaged) as file:
            model, domain = load_model(file if self.path is None else self.path)
        require(bool(np.isclose(self.dt, domain.dt)), "dt", f"{domain.dt:g}, the step of the trained model", self.dt)
        return model, domain

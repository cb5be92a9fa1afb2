"""An emulator as the system of a twin experiment: the linear map of shallow water in POD space."""

from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.shallow_water_windows import FlowConfig, Reduction, reduce, simulate
from jaxsci.assimilation.background import Background
from jaxsci.assimilation.observation import LinearOperator
from jaxsci.assimilation.systems import Flat, System
from jaxsci.assimilation.variational import StepMap
from jaxsci.core.config import between, positive
from jaxsci.emulators import LinearEmulator

INTERVALS = 25  # kept fields of each training run


@dataclass(frozen=True)
class PodEmulatorSystem(System, kind="pod_emulator"):
    """POD coefficients of a shallow water flow, stepped by a ridge regression fitted to simulations of bumps.

    Eigenvalues of the map beyond the unit circle are drawn back onto it, so that free runs stay bounded. Depth is
    observed at `gauges` random cells, through the modes. Truth and members are drawn from the coefficients' climate;
    what the modes leave out does not exist in this world.
    """

    modes: int = 20
    ridge: float = 1e-4
    gauges: int = 10
    cells: int = 16
    simulations: int = 40
    observe_every: int = 1
    noise: float = 1e-4
    burn_in: float = 20.0
    dt: float = 1.0

    def __post_init__(self) -> None:
        between(self, "modes", 2, 1000)
        between(self, "cells", 8, 4096)
        between(self, "gauges", 1, self.cells**2)
        positive(self, "ridge", "simulations", "observe_every", "noise", "burn_in", "dt")

    @cached_property
    def reduction(self) -> Reduction:
        flow = FlowConfig(cells=self.cells, simulations=self.simulations)
        fields = np.asarray(simulate(flow, self.simulations, INTERVALS, key=jax.random.key(0)))
        return reduce(fields.reshape(*fields.shape[:2], -1), self.modes, self.ridge)

    def model(self) -> StepMap:
        values, vectors = np.linalg.eig(np.asarray(self.reduction.emulator.maps[0]))
        kept = values / np.maximum(np.abs(values), 1.0)
        stable = (vectors * kept @ np.linalg.inv(vectors)).real
        return Flat(LinearEmulator(jnp.asarray(stable)[None], 1, 1), jnp.zeros((1, self.modes)))

    def start(self) -> Background:
        return Background(jnp.zeros(self.modes), jnp.diag(jnp.sqrt(self.reduction.pod.variance)))

    def observed(self) -> LinearOperator:
        cells = jax.random.choice(jax.random.key(1), self.cells**2, (self.gauges,), replace=False)
        return LinearOperator(self.reduction.pod.modes[cells])

"""What every method of the reduced-order experiment is given: runs of a family, split by run, and bases of them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.core.rollout import rollout
from jaxsci.dynamics.shallow_water_families import Family, SimulationConfig, several, simulate
from jaxsci.emulators.pod import Pod
from jaxsci.emulators.rom_scores import squared_errors
from jaxsci.emulators.state_basis import StateBasis, fit_state_basis
from jaxsci.emulators.trajectory import Trajectories


class Split(NamedTuple):
    """Runs, never fields, are split. Networks stop by the validation runs, which bases and scalers may see."""

    fit: slice
    validation: slice
    train: slice
    """The first two together: what bases, scalers and everything without a stopping rule are fitted on."""
    test: slice


class Later(NamedTuple):
    """Depth after the training horizon, every `stride`-th of the fields that steppers would give."""

    stride: int
    depth: Float[np.ndarray, "runs later n n"]


class RomData(NamedTuple):
    family: Family
    simulation: SimulationConfig
    parameters: Float[np.ndarray, "runs parameters"]
    states: Float[np.ndarray, "runs times 3 n n"]
    split: Split
    basis: StateBasis
    """Of all three variables, a basis each."""
    wide: Pod
    """Of the depth alone, with as many modes as the table of floors asks for."""
    modes: int

    @property
    def depth(self) -> Float[np.ndarray, "runs times n n"]:
        return self.states[:, :, 0]

    @property
    def pod(self) -> Pod:
        """Of the depth, with the modes that the models use."""
        return truncated(self.wide, self.modes)

    def trajectories(self) -> Trajectories:
        """Of the depth: the partial observation of the published set-up, which models one variable."""
        flat = self.depth.reshape(*self.depth.shape[:2], -1)
        coefficients = np.stack([np.asarray(self.pod.encode(jnp.asarray(run))) for run in flat])
        return Trajectories(self.parameters, coefficients)

    def full_trajectories(self) -> Trajectories:
        """Of all three variables."""
        project = jax.jit(jax.vmap(self.basis.project))
        return Trajectories(self.parameters, np.stack([np.asarray(project(jnp.asarray(run))) for run in self.states]))


def truncated(pod: Pod, modes: int) -> Pod:
    """The first modes of a larger POD; what it leaves out is no longer held."""
    rest = jnp.zeros((len(pod.modes), 0), pod.modes.dtype)
    return Pod(pod.modes[:, :modes], pod.weights, pod.variance[:modes], rest, pod.captured, pod.mean)


def make_data(
    family: Family,
    simulation: SimulationConfig,
    *,
    runs: int,
    validation: int,
    test: int,
    modes: int,
    widest: int,
    together: int,
    seed: int,
    on_runs: Callable[[int], None],
) -> RomData:
    parameters = family.sample(runs, seed=seed)
    states = simulate(family, simulation, parameters, together=together, on_runs=on_runs)
    train = runs - test
    split = Split(slice(0, train - validation), slice(train - validation, train), slice(0, train), slice(train, runs))
    flat = states[split.train].reshape(-1, *states.shape[2:])
    samples, points = len(flat), flat[0, 0].size
    ones = np.ones(points, flat.dtype)
    widest = max(modes, min(widest, samples - 1, points))
    wide = Pod.fit(flat[:, 0].reshape(samples, points), ones, widest, centre="mean", method="randomised")
    velocities = fit_state_basis(flat[:, 1:], modes)
    depth = truncated(wide, modes)
    assert depth.mean is not None
    basis = StateBasis(
        jnp.concatenate([depth.modes[None], velocities.modes]),
        jnp.concatenate([depth.mean[None], velocities.mean]),
        velocities.shape,
    )
    return RomData(family, simulation, parameters, states, split, basis, wide, modes)


def make_later(data: RomData, runs: slice, *, horizon: int, together: int) -> Later:
    """The runs taken on from their last field to `horizon` times the trained span, seen a fifth as often."""
    simulation = data.simulation
    stride = max(simulation.fields // 20, 1)
    count = (horizon - 1) * simulation.fields // stride

    def onwards(parameters: Array, last: Array) -> Array:
        model = data.family.begin(parameters, simulation)[0]
        return rollout(several(model, simulation.every * stride), count)(last)[:, 0]

    program = jax.jit(lambda p, q: jax.lax.map(lambda one: onwards(*one), (p, q), batch_size=together))
    last = jnp.asarray(data.states[runs, -1])
    return Later(stride, np.asarray(program(jnp.asarray(data.parameters[runs], last.dtype), last)))


def floors(data: RomData, sizes: tuple[int, ...]) -> dict[int, Float[np.ndarray, "runs times"]]:
    """Squared error of projecting the test fields onto the first modes: no model in that space can do better."""
    truth = data.depth[data.split.test]
    flat = jnp.asarray(truth.reshape(*truth.shape[:2], -1))
    found = {}
    for size in sizes:
        pod = truncated(data.wide, size)
        found[size] = squared_errors(np.asarray(pod.decode(pod.encode(flat))), np.asarray(flat))
    return found


def energies(data: RomData, sizes: tuple[int, ...]) -> dict[int, float]:
    """Share of the training variance that the first modes hold."""
    fields = data.depth[data.split.train]
    total = float(np.mean(np.sum(np.square(fields - fields.mean((0, 1)), dtype=np.float64), (2, 3))))
    return {size: float(np.sum(np.asarray(data.wide.variance, np.float64)[:size]) / total) for size in sizes}

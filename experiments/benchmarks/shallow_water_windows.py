"""The same assimilation windows twice: with the shallow water equations as the model, and with an emulator of them."""

from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.assimilation import Background, LinearOperator, Window, observe, station_covariance
from jaxsci.assimilation.background import symmetric_root
from jaxsci.assimilation.weak_constraint import WeakWindow, residual_covariance
from jaxsci.core.config import between, positive, require
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import ShallowWater, gaussian_bump
from jaxsci.emulators import LinearEmulator, Pod

GRAVITY = 9.8

W = TypeVar("W", Window, WeakWindow)


@dataclass(frozen=True)
class FlowConfig:
    """Bumps anywhere on a periodic unit square; fields are kept every `steps_between` steps of `dt`.

    `start` kept fields are passed over before a window begins: the youngest bumps are too sharp for few modes.
    """

    cells: int = 16
    width: float = 0.15
    dt: float = 6e-3
    steps_between: int = 2
    start: int = 10
    simulations: int = 40

    def __post_init__(self) -> None:
        between(self, "cells", 4, 4096)
        positive(self, "width", "dt", "steps_between", "simulations")
        require(self.start >= 0, "start", "0 or more", self.start)

    def model(self) -> "Several":
        return Several(ShallowWater(1 / self.cells, self.dt, GRAVITY), self.steps_between)


class Several(eqx.Module):
    """`steps` steps of a model as one. Their insides are computed again in the backward pass, not kept."""

    model: ShallowWater
    steps: int = eqx.field(static=True)

    def __call__(self, state: Float[Array, "3 n n"]) -> Float[Array, "3 n n"]:
        return jax.tree.map(lambda states: states[-1], rollout(self.model, self.steps, checkpoint=True)(state))


class Gauges(eqx.Module):
    """Depth less its mean at the stations, of a full state."""

    stations: Int[Array, " stations"]
    mean: Float[Array, " stations"]

    def __call__(self, state: Float[Array, "3 n n"]) -> Float[Array, " stations"]:
        return state[0].ravel()[self.stations] - self.mean


class Reduction(NamedTuple):
    mean: Float[Array, " points"]
    """Mean of the training fields, all three components, flat."""
    pod: Pod
    emulator: LinearEmulator
    """One kept interval forward in the space of the modes."""


class Pair(NamedTuple):
    """One window in both forms. The values observed are the same; a batch replaces them."""

    equations: Window
    emulator: Window


def simulate(flow: FlowConfig, runs: int, intervals: int, *, key: PRNGKeyArray) -> Float[Array, "runs times 3 n n"]:
    """Kept fields of `runs` bumps with centres drawn evenly, the first `flow.start` left out: one vmapped program."""
    model = flow.model()
    centres = jax.random.uniform(key, (runs, 2), minval=-0.5, maxval=0.5)

    @jax.jit
    def run(centre: Float[Array, "2"]) -> Array:
        bump = gaussian_bump(centre, flow.cells, width=flow.width)
        return rollout(model, flow.start + intervals, include_initial=True)(bump)[flow.start :]

    first = np.asarray(gaussian_bump(centres[0], flow.cells, width=flow.width))
    model.model.check(first)  # every other bump is a translate
    return jax.jit(jax.vmap(run))(centres)


def reduce(fields: Float[np.ndarray, "runs times points"], modes: int, ridge: float) -> Reduction:
    """POD in the inner product of the energy, and a one-step ridge regression of its coefficients within each run.

    Points weigh as in `g h'^2 + (hu)^2 + (hv)^2`, the energy of small waves on depth one (but for a factor).
    """
    points = fields.shape[-1]
    mean = fields.reshape(-1, points).mean(0)
    weights = np.repeat([GRAVITY, 1.0, 1.0], points // 3)
    anomalies = fields - mean
    pod = Pod.fit(anomalies.reshape(-1, points), weights, modes)
    coefficients = np.asarray(pod.encode(jnp.asarray(anomalies)))
    now, then = (c.reshape(-1, modes) for c in (coefficients[:, :-1], coefficients[:, 1:]))
    gram = now.T @ now / len(now)
    scale = np.diag(np.diag(gram))
    step = np.linalg.solve(gram + ridge * scale, now.T @ then / len(now))
    return Reduction(jnp.asarray(mean), pod, LinearEmulator(jnp.asarray(step)[None], 1, 1))


def windows(
    flow: FlowConfig, reduced: Reduction, stations: Int[Array, " stations"], values: Array, noise_std: float
) -> Pair:
    """Both forms of one window with `values` (times, stations) observed.

    Controls are the same: standardised POD coefficients at the window's start. So are R (noise and what the modes
    leave out of the field at the stations) and the background, the climate of the training fields.
    """
    pod, n = reduced.pod, flow.cells
    root = pod.modes * jnp.sqrt(pod.variance)
    covariance = station_covariance(noise_std, pod.truncated[stations])
    full = observe(values, Gauges(stations, reduced.mean[stations]), covariance)
    few = observe(values, LinearOperator(pod.modes[stations]), covariance)
    modes = root.shape[1]
    return Pair(
        Window(flow.model(), Background(reduced.mean.reshape(3, n, n), root), full),
        Window(reduced.emulator, Background(jnp.zeros((1, modes), root.dtype), jnp.diag(jnp.sqrt(pod.variance))), few),
    )


def weak_constraint(window: Window, fields: Float[np.ndarray, "runs times points"], reduced: Reduction) -> WeakWindow:
    """The emulator's window where the emulator may err: Q from its one-step residuals on runs it was not fitted to."""
    coefficients = reduced.pod.encode(jnp.asarray(fields) - reduced.mean)[:, :, None, :]
    of_runs = jnp.stack([residual_covariance(window.model, states) for states in coefficients])
    return WeakWindow(window.model, window.background, window.observations, symmetric_root(of_runs.mean(0)))


def with_values(window: W, values: Float[Array, "times stations"]) -> W:
    return eqx.tree_at(lambda w: w.observations.values, window, values)

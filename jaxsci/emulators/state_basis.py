"""One POD basis per component of a state: what projection models of several conserved variables are built on."""

from collections.abc import Sequence
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.emulators.pod import Pod
from jaxsci.emulators.pod_bases import Method


class StateBasis(eqx.Module):
    """`q_v = mean_v + modes_v a_v` for every component v; coefficients are flat, component after component.

    Modes are orthonormal, so `project` is the least-squares fit. `shape` is that of one component on its grid.
    """

    modes: Float[Array, "components points modes"]
    mean: Float[Array, "components points"]
    shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def size(self) -> int:
        """Coefficients of all components together."""
        return self.modes.shape[0] * self.modes.shape[2]

    def lift(self, coefficients: Float[Array, " size"]) -> Float[Array, "components *grid"]:
        """The state that coefficients stand for."""
        return (self.mean + self._parts(coefficients)).reshape(-1, *self.shape)

    def lift_change(self, coefficients: Float[Array, " size"]) -> Float[Array, "components *grid"]:
        """`lift` without the mean: of rates of change."""
        return self._parts(coefficients).reshape(-1, *self.shape)

    def project(self, state: Float[Array, "components *grid"]) -> Float[Array, " size"]:
        """Coefficients of the state nearest to the given one."""
        return self._onto(state.reshape(self.mean.shape) - self.mean)

    def project_change(self, change: Float[Array, "components *grid"]) -> Float[Array, " size"]:
        """`project` without the mean: of rates of change."""
        return self._onto(change.reshape(self.mean.shape))

    def truncate(self, modes: int) -> "StateBasis":
        """The first `modes` modes of every component."""
        return StateBasis(self.modes[:, :, :modes], self.mean, self.shape)

    def _parts(self, coefficients: Array) -> Float[Array, "components points"]:
        return jnp.einsum("vpk,vk->vp", self.modes, coefficients.reshape(self.modes.shape[0], -1))

    def _onto(self, change: Array) -> Float[Array, " size"]:
        return jnp.einsum("vpk,vp->vk", self.modes, change).ravel()


def fit_state_basis(
    states: Float[np.ndarray, "samples components *grid"],
    modes: int,
    *,
    centre: Literal["mean"] | None = "mean",
    method: Method = "randomised",
    seed: int = 0,
) -> StateBasis:
    """A POD of every component by itself, its mean taken off or (of rates of change) not."""
    samples, components, *grid = states.shape
    points = int(np.prod(grid))
    ones = np.ones(points, states.dtype)
    pods: Sequence[Pod] = [
        Pod.fit(states[:, v].reshape(samples, points), ones, modes, centre=centre, method=method, seed=seed)
        for v in range(components)
    ]
    means = [jnp.zeros(points, states.dtype) if pod.mean is None else pod.mean for pod in pods]
    return StateBasis(jnp.stack([pod.modes for pod in pods]), jnp.stack(means), tuple(grid))

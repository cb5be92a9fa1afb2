"""Maps from parameters to a whole trajectory of POD coefficients, and what they are trained on."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxsci.core.errors import DataError

Encoding = Callable[[Float[Array, " parameters"]], Float[Array, " features"]]


class Trajectories(NamedTuple):
    """Runs of one family as series of coefficients."""

    parameters: Float[np.ndarray, "runs parameters"]
    coefficients: Float[np.ndarray, "runs times modes"]

    def select(self, runs: slice | np.ndarray) -> "Trajectories":
        """Some of the runs."""
        return Trajectories(self.parameters[runs], self.coefficients[runs])


class TrajectoryScale(eqx.Module):
    """What networks learn: departures from the mean trajectory, in units of each mode's spread about it."""

    centre: Float[Array, "times modes"]
    spread: Float[Array, " modes"]

    @classmethod
    def fit(cls, coefficients: Float[np.ndarray, "runs times modes"]) -> "TrajectoryScale":
        """Raises `DataError` on fewer than two runs: one has no spread."""
        if len(coefficients) < 2:
            raise DataError(f"runs: expected 2 or more to train on, got {len(coefficients)}")
        centre = coefficients.mean(0)
        spread = np.sqrt(np.mean(np.square(coefficients - centre), (0, 1)))
        # A mode that never departs has nothing to learn; its unit must only not be zero.
        spread = np.maximum(spread, np.finfo(np.float32).eps * max(np.abs(coefficients).max(), 1e-30))
        return cls(jnp.asarray(centre, jnp.float32), jnp.asarray(spread, jnp.float32))

    def standardise(self, coefficients: Float[Array, "*runs times modes"]) -> Float[Array, "*runs times modes"]:
        """Departures from the mean trajectory in units of each mode's spread."""
        return (coefficients - self.centre) / self.spread

    def restore(self, outputs: Float[Array, "*runs times modes"]) -> Float[Array, "*runs times modes"]:
        """The inverse of `standardise`."""
        return self.centre + self.spread * outputs


class TrajectoryEmulator(eqx.Module):
    """`parameters -> (times, modes)` in one call; with a `key`, one draw of its dropout.

    `network` maps encoded parameters to standardised departures from the mean trajectory.
    """

    network: Callable
    scale: TrajectoryScale
    encode: Encoding = eqx.field(static=True)

    def __call__(
        self, parameters: Float[Array, " parameters"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "times modes"]:
        features = self.encode(parameters).astype(self.scale.centre.dtype)
        return self.scale.restore(self.network(features, key=key))


class TrajectoryEnsemble(eqx.Module):
    """Emulators stacked along a leading member axis; the call is their mean."""

    members: TrajectoryEmulator

    def each(self, parameters: Float[Array, " parameters"]) -> Float[Array, "members times modes"]:
        """The trajectory of every member."""
        return eqx.filter_vmap(lambda member: member(parameters))(self.members)

    def __call__(self, parameters: Float[Array, " parameters"]) -> Float[Array, "times modes"]:
        return self.each(parameters).mean(0)


@eqx.filter_jit
def predict_all(
    model: Callable[[Array], Array], parameters: Float[Array, "runs parameters"]
) -> Float[Array, "runs times modes"]:
    """Trajectories of many runs at once."""
    return jax.vmap(model)(parameters)


class Answer(NamedTuple):
    """Trajectories, and which of them are guesses."""

    trajectories: Float[Array, "runs times modes"]
    outside: Bool[np.ndarray, " runs"]
    """Parameters outside the range trained on: nothing is known about the error there."""


def predict_flagged(
    model: Callable[[Array], Array],
    inside: Callable[[np.ndarray], np.ndarray],
    parameters: Float[np.ndarray, "runs parameters"],
) -> Answer:
    """`predict_all`, with runs outside the training range flagged (`inside` is that of the family trained on)."""
    return Answer(predict_all(model, jnp.asarray(parameters, jnp.float32)), ~np.asarray(inside(parameters)))

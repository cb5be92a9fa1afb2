"""Models that move with the flow: fields brought to a common place first, so that translates of one become the same."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.emulators.pod import Pod


def fourier_shift(fields: Float[Array, "*batch n m"], shift: Float[Array, "2"]) -> Float[Array, "*batch n m"]:
    """The periodic fields moved by `shift` (shares of the two periods): exact for what the grid resolves.

    Multiplies Fourier coefficients by `exp(-2 pi i k . shift)`; a shift by whole cells equals `jnp.roll`.
    """
    n, m = fields.shape[-2:]
    along = np.fft.fftfreq(n, 1 / n)[:, None] * shift[0] + np.fft.rfftfreq(m, 1 / m) * shift[1]
    moved = jnp.fft.rfft2(fields) * jnp.exp(-2j * jnp.pi * along)
    return jnp.fft.irfft2(moved, (n, m)).astype(fields.dtype)


def phase_of(field: Float[Array, "n m"]) -> Float[Array, "2"]:
    """Where the field is, by the phases of its longest wave in each direction, in shares of the two periods.

    `phase_of(fourier_shift(field, s)) = phase_of(field) + s` modulo one, exactly. Raises nothing where such a wave is
    absent, but its phase means nothing then.
    Source of the idea: Rowley and Marsden 2000, Physica D 142, 1-19.
    """
    n, m = field.shape
    waves = [jnp.sum(jnp.exp(-2j * jnp.pi * np.arange(k) / k) * field.sum(1 - axis)) for axis, k in enumerate((n, m))]
    return -jnp.angle(jnp.stack(waves)) / (2 * jnp.pi)


class ShiftedTrajectory(NamedTuple):
    """A trajectory in the frame of its own phase: coefficients there, and where the frame lies."""

    coefficients: Float[Array, "times modes"]
    shift: Float[Array, "2"]


class ShiftedPod(eqx.Module):
    """Fields each moved back by the phase of its run: their mean at every time, and a POD of what departs from it.

    A run is its coefficients (times, modes) and two numbers that say where it belongs. `template` is stored as the mean
    field of an ordinary POD is; of a family of translates it is all there is, but for what the grid leaves unresolved.
    """

    template: Float[Array, "times n m"]
    pod: Pod

    @classmethod
    def fit(
        cls,
        fields: Float[np.ndarray, "runs times n m"],
        shifts: Float[np.ndarray, "runs 2"],
        modes: int,
        *,
        seed: int = 0,
    ) -> "ShiftedPod":
        aligned = align(fields, shifts)
        template = aligned.mean(0)
        departures = (aligned - template).reshape(-1, template[0].size)
        ones = np.ones(departures.shape[1], fields.dtype)
        return cls(jnp.asarray(template), Pod.fit(departures, ones, modes, method="randomised", seed=seed))

    def encode(
        self, fields: Float[np.ndarray, "runs times n m"], shifts: Float[np.ndarray, "runs 2"]
    ) -> Float[np.ndarray, "runs times modes"]:
        """A run in the frame of its own phase."""
        departures = align(fields, shifts) - np.asarray(self.template)
        return np.asarray(self.pod.encode(jnp.asarray(departures.reshape(*departures.shape[:2], -1))))

    def decode(self, trajectory: ShiftedTrajectory) -> Float[Array, "times n m"]:
        """Fields of one run."""
        departures = self.pod.decode(trajectory.coefficients).reshape(self.template.shape)
        return fourier_shift(self.template + departures, trajectory.shift)


def align(
    fields: Float[np.ndarray, "runs times n m"], shifts: Float[np.ndarray, "runs 2"]
) -> Float[np.ndarray, "runs times n m"]:
    """Every field of a run moved back by the run's shift."""
    move = jax.jit(fourier_shift)
    pairs = zip(jnp.asarray(fields), -jnp.asarray(shifts), strict=True)
    return np.stack([np.asarray(move(run, shift)) for run, shift in pairs])


class EquivariantEmulator(eqx.Module):
    """`parameters -> ShiftedTrajectory`: the frame from the known first field, the coefficients from `inner`.

    Moving the first field moves the prediction alike, whatever `inner` has learned, where the remaining parameters do
    not say where the field is: for a family of translates the model is exact up to what the grid leaves unresolved.
    """

    inner: Callable[[Float[Array, " parameters"]], Float[Array, "times modes"]]
    first_field: Callable[[Float[Array, " parameters"]], Float[Array, "n m"]] = eqx.field(static=True)

    def __call__(self, parameters: Float[Array, " parameters"]) -> ShiftedTrajectory:
        return ShiftedTrajectory(self.inner(parameters), phase_of(self.first_field(parameters)))

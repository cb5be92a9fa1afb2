"""Model error as a part of the state: weak-constraint 4D-Var through a strong-constraint driver, for any emulator.

`model_error.absorb` puts the emulator's error on the oldest lags of a delay state. That asks the oldest lags to move
tomorrow's forecast, which those of a linear map of two days do and those of a network that reads further back hardly
do: they would have to go where the network was never trained. Here the error has rows of its own behind the lags,
`x_{k+1} = M(x_k) + q_k`, one a step of the window: their response is the identity, and the lags stay what they were.
Forcing formulation: Tremolet 2006, Q. J. R. Meteorol. Soc. 132, 2483-2504, doi 10.1256/qj.05.224.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.core.config import require
from jaxsci.emulators.delay import DirectEmulator


class ForcedEmulator(eqx.Module):
    """A direct emulator whose state is the lags of `emulator`, then the errors of the next `steps` days.

    A step adds the first error to tomorrow and moves the others up; forecasts beyond the window know of no error. As
    the oldest rows of the state, the errors are where `steady_background` puts the model error of `steps` days.
    """

    emulator: DirectEmulator
    steps: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        require(self.steps >= 1, "window", "1 or more, the days on which a model errs", self.steps)

    @property
    def lags(self) -> int:
        return self.emulator.lags + self.steps

    @property
    def leads(self) -> int:
        return self.emulator.leads

    def forecast(self, state: Float[Array, "lags modes"]) -> Float[Array, "leads modes"]:
        return self.emulator.forecast(state[: self.emulator.lags])

    def __call__(self, state: Float[Array, "lags modes"]) -> Float[Array, "lags modes"]:
        days, errors = jnp.split(state, [self.emulator.lags])
        later = jnp.concatenate([errors[1:], jnp.zeros_like(errors[:1])])
        return jnp.concatenate([self.emulator(days).at[0].add(errors[0]), later])

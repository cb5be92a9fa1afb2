"""A window whose model gives the whole run at once: parameters are estimated, and nothing is stepped."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.observation import Observations
from jaxsci.assimilation.variational import LeastSquares


class TrajectoryWindow(LeastSquares):
    """`x = model(parameters)` for all times in one call, `parameters = background(v)`; observed at some of the times.

    The cost is that of `Window` with the parameters as the state. One call serves all observed times, so a gradient
    costs as much whatever their number.
    """

    model: Callable[[Float[Array, " parameters"]], Float[Array, "times n"]]
    background: Background
    observations: Observations
    times: tuple[int, ...] = eqx.field(static=True)

    @property
    def origin(self) -> Float[Array, " control"]:
        return jnp.zeros(self.background.controls, self.background.root.dtype)

    def trajectory(self, control: Float[Array, " control"]) -> Float[Array, "observed n"]:
        """States at the observed times."""
        return self.model(self.background(control))[jnp.array(self.times)]

    def departures(self, control: Float[Array, " control"]) -> Float[Array, " observations"]:
        return self.observations.whitened(self.trajectory(control)).ravel()

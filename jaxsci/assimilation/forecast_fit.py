"""The cost of AIEADA 1.0: an emulator's input window moved until its forecast fits what was observed afterwards.

    J(a) = s / 2 (|Phi (a - a_b)|^2 + sum_t |y_t - H Phi F(a)_t|^2),   B = R = I on the grid

F forecasts all the days of the output window at once. The observations lie in the days that are verified: a fit, whose
error says how well F can be made to follow what happened, not how well it foresees. One cost function stands for value
and gradient; in the published code the gradient left the background out and used another scaling than the cost.
Source: Maulik et al. 2022, Geosci. Model Dev. 15, 3433-3445.
"""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.assimilation.background import Background, symmetric_root
from jaxsci.assimilation.variational import LeastSquares


class ForecastFit(LeastSquares):
    """`emulator` maps an input window (inputs, modes) to its leads (leads, modes); `matrix` is H Phi.

    `values` (leads, stations); NaN marks what is not seen. `background` holds the window a_b and the root of
    `(s Phi' Phi)^{-1}`, so that the prior of the control is standard normal; see `grid_root`.
    """

    emulator: Callable[[Float[Array, "inputs modes"]], Float[Array, "leads modes"]]
    background: Background
    values: Float[Array, "leads stations"]
    matrix: Float[Array, "stations modes"]
    scale: float = eqx.field(static=True)

    @property
    def origin(self) -> Float[Array, " control"]:
        return jnp.zeros(self.background.controls, self.background.root.dtype)

    def trajectory(self, control: Float[Array, " control"]) -> Float[Array, "leads modes"]:
        """The forecast from the window that a control stands for."""
        return self.emulator(self.background(control))

    def departures(self, control: Float[Array, " control"]) -> Float[Array, " observations"]:
        seen = jnp.isfinite(self.values)
        predicted = self.trajectory(control) @ self.matrix.T
        return jnp.sqrt(self.scale) * jnp.where(seen, jnp.where(seen, self.values, 0.0) - predicted, 0.0).ravel()


def grid_root(modes: Float[Array, "points modes"], inputs: int, scale: float) -> Float[Array, "n n"]:
    """Root of the covariance of a window of `inputs` days under B = I on the grid: `kron(I, (s Phi' Phi)^{-1/2})`."""
    inverse = jnp.linalg.inv(scale * modes.T @ modes)
    return jnp.kron(jnp.eye(inputs, dtype=modes.dtype), symmetric_root(inverse))

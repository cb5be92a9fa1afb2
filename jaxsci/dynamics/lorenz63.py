"""The Lorenz (1963) convection model as a step map."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.dynamics.runge_kutta import runge_kutta_4


class Lorenz63(eqx.Module):
    """`dx/dt = sigma (y - x)`, `dy/dt = x (rho - z) - y`, `dz/dt = x y - beta z`, stepped by RK4.

    Good values: `sigma=10, rho=28, beta=8/3, dt=0.01`.
    Source: Lorenz 1963, J. Atmos. Sci. 20, 130-141, equations 25-27.
    """

    sigma: float = 10.0
    rho: float = 28.0
    beta: float = 8 / 3
    dt: float = 0.01

    def vector_field(self, u: Float[Array, "3"]) -> Float[Array, "3"]:
        """`du/dt`."""
        x, y, z = u
        return jnp.stack([self.sigma * (y - x), x * (self.rho - z) - y, x * y - self.beta * z])

    def __call__(self, u: Float[Array, "3"]) -> Float[Array, "3"]:
        return runge_kutta_4(self.vector_field, self.dt)(u)

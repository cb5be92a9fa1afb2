"""The Lorenz (1996) mid-latitude model as a step map."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxsci.dynamics.runge_kutta import runge_kutta_4


class Lorenz96(eqx.Module):
    """`dx_i/dt = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + forcing` on a circle of sites, stepped by RK4.

    Good values: 40 sites, `forcing=8, dt=0.05` (about six hours of weather).
    Source: Lorenz 1996, ECMWF Seminar on Predictability, equation 3.
    """

    forcing: float = 8.0
    dt: float = 0.05

    def vector_field(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        # The barrier keeps XLA from fusing the ring into the sum, with a branch for each element: five times slower.
        """`du/dt`."""
        ring = lax.optimization_barrier(jnp.concatenate([u[-2:], u, u[:1]]))
        return (ring[3:] - ring[:-3]) * ring[1:-2] - u + self.forcing

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        return runge_kutta_4(self.vector_field, self.dt)(u)

"""Guards that bound the energy of long rollouts: a clip of the state, and a projection of the right-hand side.

Bounded is not correct: always report how often a guard acted.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsci.core.config import positive
from jaxsci.dynamics.attractor_statistics import energy


class RadialClip(eqx.Module):
    """After each step `u <- u min(1, sqrt(limit / E))`, E = `<u^2>/2`: a bound on the discrete trajectory itself.

    Bitwise inert where the energy stays below `limit`; good values: twice the largest energy on the attractor.
    """

    limit: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        positive(self, "limit")

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        # Scaled by the largest value first: the square of a state that has blown up would not be finite.
        largest = jnp.maximum(jnp.max(jnp.abs(u)), 1.0)
        relative = energy(u / largest)
        clipped = (u / largest) * jnp.sqrt(self.limit / jnp.where(relative > 0, relative, 1.0))
        return jnp.where(self.acts(u), clipped, u)

    def acts(self, u: Float[Array, " n"]) -> Bool[Array, ""]:
        """Whether this state would be changed."""
        return energy(u) > self.limit


class EnergyProjection(eqx.Module):
    """In the right-hand side: `N <- N - max(<u f> + rate (E - limit), 0) / (2 E) u` with `f = A u + N`.

    Makes `dE/dt <= -rate (E - limit)` in continuous time. That is no bound on a discrete step: where the field is
    stiff, or the step long, use `RadialClip`.
    """

    limit: float = eqx.field(static=True)
    rate: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        positive(self, "limit", "rate")

    def __call__(
        self, u: Float[Array, " n"], total: Float[Array, " n"], nonlinear: Float[Array, " n"]
    ) -> Float[Array, " n"]:
        e = energy(u)
        excess = jnp.maximum(jnp.mean(u * total) + self.rate * (e - self.limit), 0.0)
        return nonlinear - excess / jnp.where(e > 0, 2 * e, 1.0) * u

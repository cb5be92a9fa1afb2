"""Observations that cannot be trusted: refused before the analysis, or weighted down within it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.assimilation.variational import LeastSquares, State, Window


def predicted_variance(window: Window) -> Float[Array, "times stations"]:
    """Diagonal of `H M B M' H'`: variance of the background in the observed quantities at every time."""

    def predicted(control: Array) -> Array:
        return jax.vmap(window.observations.operator)(window.trajectory(control))

    return jnp.sum(jnp.square(jax.jacfwd(predicted)(window.origin)), axis=-1)


def background_check(
    innovations: Float[Array, "*times stations"], variance: Float[Array, "*times stations"], limit: float = 4.0
) -> Float[Array, "*times stations"]:
    """Innovations `y - H(x_b)` with NaN in place of those beyond `limit` standard deviations.

    `variance` is what innovations should have: `predicted_variance(window)` plus the diagonal of R. Put
    `jnp.where(jnp.isnan(checked), jnp.nan, values)` through `observe(..., missing=True)`; jittable.
    """
    return jnp.where(jnp.square(innovations) <= limit**2 * variance, innovations, jnp.nan)


class Huber(LeastSquares):
    """The same window with Huber's cost in place of the square: quadratic up to `limit` deviations, then linear.

    Each whitened departure `d` counts `rho(d) = d^2/2` up to `limit`, `limit |d| - limit^2/2` beyond: a gross error
    pulls no harder than one of `limit`. As a sum of squares of `sign(d) sqrt(2 rho(d))`, continuous with its
    derivative, it goes through every minimiser. R should be diagonal: whitening would mix a bad value with its
    neighbours.
    Source: Tavolato and Isaksen 2015, Q. J. R. Meteorol. Soc. 141, 1514-1527.
    """

    window: LeastSquares
    limit: float = 1.5

    @property
    def origin(self) -> Float[Array, " control"]:
        return self.window.origin

    def trajectory(self, control: Float[Array, " control"]) -> State:
        return self.window.trajectory(control)

    def departures(self, control: Float[Array, " control"]) -> Float[Array, " observations"]:
        plain = self.window.departures(control)
        size = jnp.maximum(jnp.abs(plain), self.limit)  # the branch not taken must have a finite derivative
        return jnp.where(
            jnp.abs(plain) <= self.limit,
            plain,
            jnp.sign(plain) * jnp.sqrt(2 * self.limit * size - self.limit**2),
        )

    def weights(self, control: Float[Array, " control"]) -> Float[Array, " observations"]:
        """`min(1, limit / |d|)`: how much of its pull each observation keeps; one where it is trusted."""
        return jnp.minimum(1.0, self.limit / jnp.maximum(jnp.abs(self.window.departures(control)), self.limit))

"""Least-squares Petrov-Galerkin: of all states the modes can express, the one that fits the time step best."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.core.config import between, positive


class Lspg(eqx.Module):
    """Minimises the residual of an implicit step over the coefficients, by Gauss-Newton; a step map on them.

    With `dt` the length of the step, `f` the right-hand side at some rows and `Phi` the basis there,

        r(a) = Phi (a - a_n) - dt [implicit f(a) + (1 - implicit) f(a_n)].

    `implicit` is 1 for backward Euler and 1/2 for the trapezoidal rule. With an explicit step the minimiser would be
    the Galerkin one. Each of the `iterations` solves the normal equations with the exact Jacobian.
    Source: Carlberg, Bou-Mosleh and Farhat 2011, Int. J. Numer. Meth. Engng 86, 155-181; Carlberg, Barone and Antil
    2017, J. Comput. Phys. 330, 693-734.

    Good values: steps of a few explicit ones, two iterations.
    """

    rates: Callable[[Float[Array, " size"]], Float[Array, " rows"]]
    rows: Float[Array, "rows size"]
    dt: float = eqx.field(static=True)
    implicit: float = eqx.field(static=True, default=0.5)
    iterations: int = eqx.field(static=True, default=2)

    def __check_init__(self) -> None:
        positive(self, "dt", "iterations")
        between(self, "implicit", 1e-3, 1.0)

    def residual(
        self, after: Float[Array, " size"], before: Float[Array, " size"], rate_before: Float[Array, " rows"]
    ) -> Float[Array, " rows"]:
        mixed = self.implicit * self.rates(after) + (1 - self.implicit) * rate_before
        return self.rows @ (after - before) - self.dt * mixed

    def __call__(self, coefficients: Float[Array, " size"]) -> Float[Array, " size"]:
        rate_before = self.rates(coefficients)

        def improve(_: Array, after: Array) -> Array:
            residual, tangent = jax.linearize(lambda a: self.residual(a, coefficients, rate_before), after)
            jacobian = jax.vmap(tangent)(jnp.eye(len(after), dtype=after.dtype))  # (size, rows)
            gram = jacobian @ jacobian.T
            return after - jax.scipy.linalg.solve(gram, jacobian @ residual, assume_a="pos")

        return jax.lax.fori_loop(0, self.iterations, improve, coefficients)

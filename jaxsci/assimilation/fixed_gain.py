"""4D-Var at the price of one matrix product a window, where all windows are alike and nothing is nonlinear."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.assimilation.variational import (
    CONVERGED,
    LeastSquares,
    Minimiser,
    Minimum,
    Statistics,
    outcome,
    posterior_root,
)


class FixedGain(Minimiser):
    """The analysis `v - (I + Y'Y)^{-1} J'r(v)`, its inverse and Jacobian computed once.

    Exact for linear models and operators and one B, R and set of stations. Elsewhere it is one Gauss-Newton step from a
    linearisation that is not its own: `stats.gradient_norm` says how far from the minimum that leaves it.
    """

    gain: Float[Array, "control residual"]

    def minimise(self, problem: LeastSquares, start: Float[Array, " control"]) -> Minimum:
        first = problem.residual(start)
        best = start - self.gain @ first
        cost, gradient = jax.value_and_grad(problem.cost)(best)
        stats = Statistics(jnp.ones((), jnp.int32), 0.5 * jnp.sum(jnp.square(first)), cost, jnp.linalg.norm(gradient))
        return Minimum(best, stats, outcome(jnp.asarray(CONVERGED, jnp.int32), cost))


def fixed_gain(problem: LeastSquares) -> FixedGain:
    """The gain of a window, for all that have its model, background covariance, stations and R."""
    jacobian = jax.jacfwd(problem.residual)(problem.origin)
    root = posterior_root(problem, problem.origin)
    return FixedGain(root @ (root.T @ jacobian.T))

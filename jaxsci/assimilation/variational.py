"""Strong-constraint four-dimensional variational assimilation through any differentiable step map.

With the control `v`, `x_0 = mean + root v`, and the model's trajectory `x_k = M(x_{k-1})`, the window's cost is

    J(v) = 1/2 |r(v)|^2,   r(v) = [v ; R_k^{-1/2} (y_k - H(x_k)) for every observed time k],

a nonlinear least-squares problem. Gauss-Newton solves `(I + Y'Y) dv = -r' J_r` at each iteration, where `[I ; -Y]` is
the Jacobian of `r`; its last inverse `(I + Y'Y)^{-1}` is the posterior covariance of `v`.
Source: Courtier, Thepaut and Hollingsworth 1994, Q. J. R. Meteorol. Soc. 120, 1367-1387; Lawless, Gratton and
Nichols 2005, Int. J. Numer. Meth. Fluids 47, 1129-1135.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.observation import Observations
from jaxsci.core.rollout import rollout

State = Any
StepMap = Callable[[State], State]

CONVERGED, MAXIMUM_REACHED, NOT_FINITE, NO_DESCENT = range(4)
RESULTS = (
    "converged: the gradient norm fell below `tolerance` times its start (or times one, if it started lower)",
    "not converged within `max_iterations`; raise it, or relax `tolerance`",
    "the cost is not finite; check the observations, or shrink the background covariance or the window",
    "no step lowers the cost further; relax `tolerance`, or use float64",
)


class Window(eqx.Module):
    """One assimilation problem: a model, a background at the window's start, observations from there on."""

    model: StepMap
    background: Background
    observations: Observations

    def trajectory(self, control: Float[Array, " control"]) -> State:
        """States at the observed times, window start included; leading axis time."""
        steps = len(self.observations.values) - 1
        return rollout(self.model, steps, include_initial=True)(self.background(control))

    def residual(self, control: Float[Array, " control"]) -> Float[Array, " residual"]:
        """`r(v)`: the control itself, then the whitened departures."""
        return jnp.concatenate([control, self.observations.whitened(self.trajectory(control)).ravel()])

    def cost(self, control: Float[Array, " control"]) -> Float[Array, ""]:
        return 0.5 * jnp.sum(jnp.square(self.residual(control)))


class GaussNewton(eqx.Module):
    """Levenberg-damped Gauss-Newton. No step size to choose: damping is zero until a step fails to lower the cost.

    `inner="dense"` forms the Jacobian forward (one tangent per control) and solves by Cholesky, right up to a few
    hundred controls; `inner="conjugate_gradients"` linearises once and only applies `I + Y'Y`.
    """

    max_iterations: int = eqx.field(static=True, default=10)
    tolerance: float = eqx.field(static=True, default=1e-6)
    inner: Literal["dense", "conjugate_gradients"] = eqx.field(static=True, default="dense")


class Statistics(NamedTuple):
    """How the minimisation went."""

    iterations: Int[Array, ""]
    """Gauss-Newton iterations taken."""
    initial_cost: Float[Array, ""]
    """Cost of the background, `v = 0`."""
    cost: Float[Array, ""]
    """Cost of the analysis; twice this over the number of observations is near one where B and R are right."""
    gradient_norm: Float[Array, ""]
    """Norm of the gradient at the analysis."""


class Solution(eqx.Module):
    """`value` is the analysed trajectory (leading axis: times of the window), `control` its control vector."""

    value: State
    control: Float[Array, " control"]
    stats: Statistics
    code: Int[Array, ""]

    @property
    def result(self) -> str:
        """What happened, naming the parameter to change. Concrete values only (outside `jit`)."""
        return RESULTS[int(jnp.max(self.code))]


class _Iterate(NamedTuple):
    control: Float[Array, " control"]
    cost: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    damping: Float[Array, ""]
    iterations: Int[Array, ""]
    code: Int[Array, ""]


def assimilate(window: Window, method: GaussNewton | None = None) -> Solution:
    """Minimise the window's cost from the background. Pure and jittable; `vmap` it over windows freely."""
    method = GaussNewton() if method is None else method
    start = jnp.zeros(window.background.controls, window.background.root.dtype)
    initial_cost, gradient = jax.value_and_grad(window.cost)(start)
    # The Hessian is at least I, so a gradient below `tolerance` leaves less than that of a standard deviation to go:
    # a background that already fits counts as converged, where its gradient is all rounding.
    target = method.tolerance * jnp.maximum(jnp.linalg.norm(gradient), 1.0)
    running = jnp.asarray(-1, jnp.int32)
    first = _Iterate(
        start,
        initial_cost,
        jnp.linalg.norm(gradient),
        jnp.zeros_like(initial_cost),
        jnp.asarray(0, jnp.int32),
        running,
    )
    last = jax.lax.while_loop(
        lambda it: (it.code == running) & (it.iterations < method.max_iterations),
        lambda it: _iterate(window, method, target, it),
        first,
    )
    code = jnp.where(last.code == running, MAXIMUM_REACHED, last.code)
    code = jnp.where(jnp.isfinite(last.cost), code, NOT_FINITE)
    stats = Statistics(last.iterations, initial_cost, last.cost, last.gradient_norm)
    return Solution(window.trajectory(last.control), last.control, stats, code)


def posterior_root(window: Window, control: Float[Array, " control"]) -> Float[Array, "control control"]:
    """A factor `T` with `T T' = (I + Y'Y)^{-1}`, the Gauss-Newton posterior covariance of the control."""
    jacobian = jax.jacfwd(window.residual)(control)
    factor = jnp.linalg.cholesky(jacobian.T @ jacobian)
    return jax.scipy.linalg.solve_triangular(factor, jnp.eye(len(factor), dtype=factor.dtype), lower=True).T


def _iterate(window: Window, method: GaussNewton, target: Float[Array, ""], it: _Iterate) -> _Iterate:
    step = (_dense_step if method.inner == "dense" else _matrix_free_step)(window, it.control, it.damping)
    control = it.control + step
    cost, gradient = jax.value_and_grad(window.cost)(control)
    norm = jnp.linalg.norm(gradient)
    # Rounding alone may raise the cost by a few units in the last place once the minimum is reached.
    rounding = 8 * jnp.finfo(cost.dtype).eps * jnp.abs(it.cost)
    better = cost <= it.cost + rounding
    damping = jnp.where(better, it.damping / 10, jnp.maximum(10 * it.damping, 1e-2))
    damping = jnp.where(damping < 1e-3, 0.0, damping)
    code = jnp.where(better & (norm <= target), CONVERGED, it.code)
    code = jnp.where(~better & (damping > 1e8), NO_DESCENT, code)
    kept = _Iterate(it.control, it.cost, it.gradient_norm, damping, it.iterations + 1, code)
    taken = _Iterate(control, cost, norm, damping, it.iterations + 1, code)
    return jax.tree.map(lambda new, old: jnp.where(better, new, old), taken, kept)


def _dense_step(window: Window, control: Float[Array, " control"], damping: Float[Array, ""]) -> Array:
    residual, jacobian = window.residual(control), jax.jacfwd(window.residual)(control)
    hessian = jacobian.T @ jacobian + damping * jnp.eye(len(control), dtype=control.dtype)
    return -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(hessian), jacobian.T @ residual)


def _matrix_free_step(window: Window, control: Float[Array, " control"], damping: Float[Array, ""]) -> Array:
    residual, forward = jax.linearize(window.residual, control)
    backward = jax.linear_transpose(forward, control)

    def hessian(v: Array) -> Array:
        return backward(forward(v))[0] + damping * v

    step, _ = jax.scipy.sparse.linalg.cg(hessian, -backward(residual)[0], tol=1e-10, maxiter=4 * len(control))
    return step

"""Strong-constraint four-dimensional variational assimilation through any differentiable step map.

With the control `v`, `x_0 = mean + root v`, and the model's trajectory `x_k = M(x_{k-1})`, the window's cost is

    J(v) = 1/2 |r(v)|^2,   r(v) = [v ; R_k^{-1/2} (y_k - H(x_k)) for every observed time k],

a nonlinear least-squares problem. Gauss-Newton solves `(I + Y'Y) dv = -r' J_r` at each iteration, where `[I ; -Y]` is
the Jacobian of `r`; its last inverse `(I + Y'Y)^{-1}` is the posterior covariance of `v`.
Source: Courtier, Thepaut and Hollingsworth 1994, Q. J. R. Meteorol. Soc. 120, 1367-1387; Lawless, Gratton and
Nichols 2005, Int. J. Numer. Meth. Fluids 47, 1129-1135.

Any `LeastSquares` problem goes through the same door, `assimilate`, with any `Minimiser`.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.conjugate_gradient import conjugate_gradient
from jaxsci.assimilation.observation import Observations
from jaxsci.core.rollout import rollout

State = Any
StepMap = Callable[[State], State]

CONVERGED, MAXIMUM_REACHED, NOT_FINITE, NO_DESCENT = range(4)
RESULTS = (
    "converged: `tolerance` is met",
    "not converged within `max_iterations`; raise it, or relax `tolerance`",
    "the cost is not finite; check the observations, or shrink the background covariance or the window",
    "no step lowers the cost further; relax `tolerance`, or use float64",
)


class LeastSquares(eqx.Module):
    """A problem `J(v) = 1/2 |r(v)|^2` with a standard normal prior: `r` is the control, then whitened departures."""

    @property
    @abstractmethod
    def origin(self) -> Float[Array, " control"]:
        """The background, `v = 0`."""

    @abstractmethod
    def trajectory(self, control: Float[Array, " control"]) -> State:
        """What a control stands for: states at the observed times, leading axis time."""

    @abstractmethod
    def departures(self, control: Float[Array, " control"]) -> Float[Array, " observations"]:
        """`R^{-1/2} (y - H(x))` of every observation; zero where it is missing."""

    def residual(self, control: Float[Array, " control"]) -> Float[Array, " residual"]:
        """`r(v)`: the control itself, then the whitened departures."""
        return jnp.concatenate([control, self.departures(control)])

    def cost(self, control: Float[Array, " control"]) -> Float[Array, ""]:
        """`J(v) = 1/2 |r(v)|^2`."""
        return 0.5 * jnp.sum(jnp.square(self.residual(control)))


class Window(LeastSquares):
    """One assimilation problem: a model, a background at the window's start, observations from there on."""

    model: StepMap
    background: Background
    observations: Observations

    @property
    def origin(self) -> Float[Array, " control"]:
        return jnp.zeros(self.background.controls, self.background.root.dtype)

    def trajectory(self, control: Float[Array, " control"]) -> State:
        """States at the observed times, window start included; leading axis time."""
        steps = len(self.observations.values) - 1
        return rollout(self.model, steps, include_initial=True)(self.background(control))

    def departures(self, control: Float[Array, " control"]) -> Float[Array, " observations"]:
        return self.observations.whitened(self.trajectory(control)).ravel()


class Statistics(NamedTuple):
    """How the minimisation went."""

    iterations: Int[Array, ""]
    """Iterations taken; of Gauss-Newton, rejected steps included."""
    initial_cost: Float[Array, ""]
    """Cost where it started, by default that of the background, `v = 0`."""
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


class Minimum(NamedTuple):
    """Where a minimiser stopped, and why (an index into `RESULTS`)."""

    control: Float[Array, " control"]
    stats: Statistics
    code: Int[Array, ""]


class Minimiser(eqx.Module):
    """How to minimise a least-squares problem."""

    @abstractmethod
    def minimise(self, problem: LeastSquares, start: Float[Array, " control"]) -> Minimum:
        """Descend from `start`."""


class GaussNewton(Minimiser):
    """Levenberg-damped Gauss-Newton. No step size to choose: damping is zero until a step fails to lower the cost.

    `inner="dense"` forms the Jacobian forward (one tangent per control) and solves by Cholesky, right up to a few
    hundred controls; `inner="conjugate_gradients"` linearises once and only applies `I + Y'Y`. Converged is where the
    gradient norm fell below `tolerance` times its start (or times one, if it started lower).
    """

    max_iterations: int = eqx.field(static=True, default=10)
    tolerance: float = eqx.field(static=True, default=1e-6)
    inner: Literal["dense", "conjugate_gradients"] = eqx.field(static=True, default="dense")

    def minimise(self, problem: LeastSquares, start: Float[Array, " control"]) -> Minimum:
        initial_cost, gradient = jax.value_and_grad(problem.cost)(start)
        target = gradient_target(gradient, self.tolerance)
        norm, none = jnp.linalg.norm(gradient), jnp.asarray(0, jnp.int32)
        running = jnp.asarray(-1, jnp.int32)
        code = jnp.where(norm <= target, CONVERGED, running)  # from the start, where only rounding is left
        first = _Iterate(start, initial_cost, norm, jnp.zeros_like(initial_cost), none, code)
        last = jax.lax.while_loop(
            lambda it: (it.code == running) & (it.iterations < self.max_iterations),
            lambda it: _iterate(problem, self, target, it),
            first,
        )
        stats = Statistics(last.iterations, initial_cost, last.cost, last.gradient_norm)
        return Minimum(last.control, stats, outcome(last.code, last.cost))


class _Iterate(NamedTuple):
    control: Float[Array, " control"]
    cost: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    damping: Float[Array, ""]
    iterations: Int[Array, ""]
    code: Int[Array, ""]


def assimilate(
    window: LeastSquares, method: Minimiser | None = None, *, start: Float[Array, " control"] | None = None
) -> Solution:
    """Minimise the window's cost, from the background or from the control `start`.

    Pure and jittable (methods that say otherwise excepted); `vmap` it over windows freely.
    """
    method = GaussNewton() if method is None else method
    found = method.minimise(window, window.origin if start is None else start)
    return Solution(window.trajectory(found.control), found.control, found.stats, found.code)


def gradient_target(gradient: Float[Array, " control"], tolerance: float) -> Float[Array, ""]:
    """The gradient norm that counts as converged.

    The Hessian is at least I, so a gradient below `tolerance` leaves less than that of a standard deviation to go: a
    background that already fits counts as converged, where its gradient is all rounding.
    """
    return tolerance * jnp.maximum(jnp.linalg.norm(gradient), 1.0)


def outcome(code: Int[Array, ""], cost: Float[Array, ""]) -> Int[Array, ""]:
    """The final code of a minimiser whose loop ended at `cost` with `code`, -1 standing for still running."""
    code = jnp.where(code == -1, MAXIMUM_REACHED, code)
    return jnp.where(jnp.isfinite(cost), code, NOT_FINITE)


def posterior_root(window: LeastSquares, control: Float[Array, " control"]) -> Float[Array, "control control"]:
    """A factor `T` with `T T' = (I + Y'Y)^{-1}`, the Gauss-Newton posterior covariance of the control."""
    jacobian = jax.jacfwd(window.residual)(control)
    factor = jnp.linalg.cholesky(jacobian.T @ jacobian)
    return jax.scipy.linalg.solve_triangular(factor, jnp.eye(len(factor), dtype=factor.dtype), lower=True).T


def _iterate(window: LeastSquares, method: GaussNewton, target: Float[Array, ""], it: _Iterate) -> _Iterate:
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


def _dense_step(window: LeastSquares, control: Float[Array, " control"], damping: Float[Array, ""]) -> Array:
    residual, jacobian = window.residual(control), jax.jacfwd(window.residual)(control)
    hessian = jacobian.T @ jacobian + damping * jnp.eye(len(control), dtype=control.dtype)
    return -jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(hessian), jacobian.T @ residual)


def _matrix_free_step(window: LeastSquares, control: Float[Array, " control"], damping: Float[Array, ""]) -> Array:
    residual, forward = jax.linearize(window.residual, control)
    backward = jax.linear_transpose(forward, control)

    def hessian(v: Array) -> Array:
        return backward(forward(v))[0] + damping * v

    return conjugate_gradient(hessian, -backward(residual)[0], tolerance=1e-10, max_steps=4 * len(control))

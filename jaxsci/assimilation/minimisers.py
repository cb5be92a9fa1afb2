"""First-order minimisers behind the door of `assimilate`: for many controls, or for costs that are no sum of squares.

Where the residual is smooth and controls are few, `GaussNewton` needs an order of magnitude fewer model runs.
"""

from typing import Any, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Int
from optax.tree_utils import tree_get

from jaxsci.assimilation.variational import (
    CONVERGED,
    MAXIMUM_REACHED,
    NO_DESCENT,
    LeastSquares,
    Minimiser,
    Minimum,
    Statistics,
    gradient_target,
    outcome,
)
from jaxsci.core.errors import ConfigError


class LBFGS(Minimiser):
    """Limited-memory BFGS with a zoom line search (strong Wolfe). Pure and jittable; memory grows with `memory`.

    Converged is where the gradient norm fell below `tolerance` times its start (or times one, if it started lower).
    Source: Liu and Nocedal 1989, Math. Program. 45, 503-528.
    """

    max_iterations: int = eqx.field(static=True, default=200)
    tolerance: float = eqx.field(static=True, default=1e-6)
    memory: int = eqx.field(static=True, default=10)

    def minimise(self, problem: LeastSquares, start: Float[Array, " control"]) -> Minimum:
        rule = optax.lbfgs(memory_size=self.memory)
        initial_cost, gradient = jax.value_and_grad(problem.cost)(start)
        target = gradient_target(gradient, self.tolerance)
        running = jnp.asarray(-1, jnp.int32)
        code = jnp.where(jnp.linalg.norm(gradient) <= target, CONVERGED, running)
        first = _Descent(start, initial_cost, gradient, rule.init(start), jnp.asarray(0, jnp.int32), code)

        def descend(it: _Descent) -> _Descent:
            updates, memory = rule.update(
                it.gradient, it.memory, it.control, value=it.cost, grad=it.gradient, value_fn=problem.cost
            )
            control = cast(Array, optax.apply_updates(it.control, updates))
            cost, gradient = (tree_get(memory, name) for name in ("value", "grad"))  # the line search knows them
            lower = cost < it.cost
            code = jnp.where(jnp.linalg.norm(gradient) <= target, CONVERGED, jnp.where(lower, running, NO_DESCENT))
            taken = _Descent(control, cost, gradient, memory, it.iterations + 1, code)
            kept = it._replace(iterations=it.iterations + 1, code=code)
            return jax.tree.map(lambda new, old: jnp.where(lower | (code == CONVERGED), new, old), taken, kept)

        last = lax.while_loop(lambda it: (it.code == running) & (it.iterations < self.max_iterations), descend, first)
        stats = Statistics(last.iterations, initial_cost, last.cost, jnp.linalg.norm(last.gradient))
        return Minimum(last.control, stats, outcome(last.code, last.cost))


class _Descent(NamedTuple):
    control: Float[Array, " control"]
    cost: Float[Array, ""]
    gradient: Float[Array, " control"]
    memory: Any
    iterations: Int[Array, ""]
    code: Int[Array, ""]


class SLSQP(Minimiser):
    """SciPy's sequential quadratic programming, for published protocols that used it. Runs on the host: no `jit`.

    `tolerance` is SciPy's `ftol`, on the cost itself. The start is kept unless the cost fell. The default values are
    those of AIEADA 1.0 (Geosci. Model Dev. 15, 3433-3445, 2022).
    """

    max_iterations: int = eqx.field(static=True, default=20)
    tolerance: float = eqx.field(static=True, default=1e-3)

    def minimise(self, problem: LeastSquares, start: Float[Array, " control"]) -> Minimum:
        """Raises `ConfigError` inside `jit`, `vmap` or `scan`."""
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((problem, start))):
            raise ConfigError("method: expected one that compiles, got SLSQP; call it outside jit, vmap and scan")

        def on_host(control: np.ndarray) -> tuple[float, np.ndarray]:
            cost, gradient = _cost_and_gradient(problem, jnp.asarray(control, start.dtype))
            return float(cost), np.asarray(gradient, float)

        initial_cost, _ = on_host(np.asarray(start))
        options = {"maxiter": self.max_iterations, "ftol": self.tolerance}
        found = scipy.optimize.minimize(on_host, np.asarray(start, float), jac=True, method="SLSQP", options=options)
        lower = found.fun < initial_cost
        control = jnp.asarray(found.x, start.dtype) if lower else start
        cost, gradient = _cost_and_gradient(problem, control)
        code = {0: CONVERGED, 9: MAXIMUM_REACHED}.get(found.status, NO_DESCENT)
        if not lower and code == CONVERGED and jnp.linalg.norm(gradient) > self.tolerance:
            code = NO_DESCENT  # SciPy calls a cost that no step has changed converged
        stats = Statistics(
            jnp.asarray(found.nit, jnp.int32),
            jnp.asarray(initial_cost, cost.dtype),
            cost,
            jnp.linalg.norm(gradient),
        )
        return Minimum(control, stats, outcome(jnp.asarray(code, jnp.int32), cost))


@eqx.filter_jit
def _cost_and_gradient(problem: LeastSquares, control: Array) -> tuple[Array, Array]:
    return jax.value_and_grad(problem.cost)(control)

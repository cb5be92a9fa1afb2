"""Incremental and quasi-static 4D-Var: two ways to reach the minimum of a window that is costly or strongly nonlinear.

Source: Courtier, Thepaut and Hollingsworth 1994, Q. J. R. Meteorol. Soc. 120, 1367-1387 (incremental); Pires, Vautard
and Talagrand 1996, Tellus A 48, 96-121 (quasi-static).
"""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from jaxsci.assimilation.conjugate_gradient import conjugate_gradient
from jaxsci.assimilation.variational import (
    CONVERGED,
    NO_DESCENT,
    LeastSquares,
    Minimiser,
    Minimum,
    Solution,
    Statistics,
    Window,
    assimilate,
    outcome,
)
from jaxsci.core.errors import ConfigError


class Incremental(Minimiser):
    """Outer loops around a quadratic inner problem, `min_d 1/2 |r(v) + A d|^2`, solved by conjugate gradients.

    The residual `r` is the window's, its tangent `A` that of `inner`: a window of the same controls and observations
    with a cheaper model; `None` takes the window itself. Converged is where an outer step is shorter than `tolerance`
    standard deviations; a cheaper inner model may stop before, near the minimum, where its steps no longer lower the
    window's cost.
    """

    inner: LeastSquares | None = None
    max_iterations: int = eqx.field(static=True, default=5)
    inner_iterations: int = eqx.field(static=True, default=30)
    tolerance: float = eqx.field(static=True, default=1e-6)

    def minimise(self, problem: LeastSquares, start: Float[Array, " control"]) -> Minimum:
        """Raises `ConfigError` where the inner problem has other controls or observations."""
        cheap = problem if self.inner is None else self.inner
        shapes = [jax.eval_shape(p.residual, p.origin).shape[0] for p in (problem, cheap)]
        if cheap.origin.shape != problem.origin.shape or shapes[0] != shapes[1]:
            raise ConfigError(
                f"inner: expected the {len(problem.origin)} controls and {shapes[0]} residuals of the window, "
                f"got {len(cheap.origin)} and {shapes[1]}"
            )
        running = jnp.asarray(-1, jnp.int32)

        def outer(it: _Outer) -> _Outer:
            _, forward = jax.linearize(cheap.residual, it.control)
            backward = jax.linear_transpose(forward, it.control)
            gradient = backward(problem.residual(it.control))[0]
            step = conjugate_gradient(
                lambda d: backward(forward(d))[0], -gradient, tolerance=1e-12, max_steps=self.inner_iterations
            )
            control = it.control + step
            cost = problem.cost(control)
            short = jnp.linalg.norm(step) <= self.tolerance
            # Rounding alone may raise the cost by a few units in the last place once the minimum is reached.
            better = cost <= it.cost + 8 * jnp.finfo(cost.dtype).eps * jnp.abs(it.cost)
            code = jnp.where(better, jnp.where(short, CONVERGED, running), NO_DESCENT)
            return _Outer(
                jnp.where(better, control, it.control), jnp.where(better, cost, it.cost), it.iterations + 1, code
            )

        first = _Outer(start, problem.cost(start), jnp.asarray(0, jnp.int32), running)
        last = lax.while_loop(lambda it: (it.code == running) & (it.iterations < self.max_iterations), outer, first)
        norm = jnp.linalg.norm(jax.grad(problem.cost)(last.control))
        stats = Statistics(last.iterations, first.cost, last.cost, norm)
        return Minimum(last.control, stats, outcome(last.code, last.cost))


class _Outer(NamedTuple):
    control: Float[Array, " control"]
    cost: Float[Array, ""]
    iterations: Int[Array, ""]
    code: Int[Array, ""]


def quasi_static(window: Window, lengths: Sequence[int], method: Minimiser | None = None) -> Solution:
    """Assimilate a window that grows: the first `lengths[0]` times, then `lengths[1]`, ..., then all of them.

    Each stage starts from the control of the one before, so that the iterate stays in the basin of the truth while
    later observations cut the cost into many. Statistics are those of the last stage. Pure and jittable, one
    compilation for all stages. Raises `ConfigError` unless lengths grow and fit in the window.
    """
    times = len(window.observations.values)
    if list(lengths) != sorted(set(lengths)) or not all(1 <= length <= times for length in lengths):
        raise ConfigError(f"lengths: expected growing numbers of times from 1 to {times}, got {list(lengths)}")

    def until(length: Int[Array, ""]) -> Window:
        """Later observations go missing; departures of a missing time are zero whatever R."""
        seen = jnp.arange(times) < length
        values = jnp.where(seen[:, None], window.observations.values, jnp.nan)
        return eqx.tree_at(lambda w: w.observations.values, window, values)

    def stage(control: Array, length: Int[Array, ""]) -> tuple[Array, Solution]:
        solution = assimilate(until(length), method, start=control)
        return solution.control, solution

    stages = jnp.asarray(np.append(np.asarray(lengths, int), times))
    _, solutions = lax.scan(stage, window.origin, stages)
    return jax.tree.map(lambda a: a[-1], solutions)

"""Adaptive solvers of the whole right-hand side, from diffrax: the baselines of exact linear propagation."""

from collections.abc import Callable

import diffrax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsci.core.config import require

STAGES = {"tsit5": 6, "kencarp4": 6}  # evaluations of the right-hand side in an accepted or rejected step, at least
MAX_STEPS = 4096


def solve(
    right_hand_side: Callable[[Array], Array], u: Float[Array, " n"], dt: float, name: str, tolerance: float
) -> tuple[Float[Array, " n"], Int[Array, ""]]:
    """`u(t + dt)` by Tsit5 (explicit) or KenCarp4 (implicit), and the number of steps, rejected ones included.

    `tolerance` is relative and absolute. Reverse mode differentiates the discrete steps
    (`RecursiveCheckpointAdjoint`); one slow trajectory holds up all that are mapped with it.

    Raises `ConfigError` for another name; diffrax's own error where 4096 steps do not suffice.
    """
    require(name in STAGES, "integrator", f"one of {', '.join(STAGES)}", name)
    solver = diffrax.Tsit5() if name == "tsit5" else diffrax.KenCarp4()
    term = diffrax.ODETerm(lambda t, y, args: right_hand_side(y))
    if name == "kencarp4":  # all of it implicit: the explicit part is zero
        term = diffrax.MultiTerm(diffrax.ODETerm(lambda t, y, args: jnp.zeros_like(y)), term)
    controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
    found = diffrax.diffeqsolve(term, solver, 0.0, dt, None, u, stepsize_controller=controller, max_steps=MAX_STEPS)
    return found.ys[0], found.stats["num_steps"]  # type: ignore[index]

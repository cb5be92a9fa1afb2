"""Cycled 4D-Var on a window that slides by one cycle and uses only the newest observation.

Each observation is assimilated once (single data assimilation): the control is the state at the window's start, the
background there is the previous analysis moved on by one cycle, the observation lies at the window's end, `lag` cycles
later. At start-up the window grows from one cycle. Source: Bocquet and Sakov 2013, Nonlin. Processes Geophys. 20,
803-818.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.assimilation.inverse_factor import inverse_factor
from jaxsci.assimilation.problem import Algorithm, Analysis, Method, Problem, per_observation, root_mean
from jaxsci.core.config import between, positive


class Sliding(NamedTuple):
    """Where the sliding window starts, and how long it has become."""

    start: Float[Array, "*members n"]
    """The analysis at the window's start."""
    length: Int[Array, ""]
    """Cycles from there to the next observation."""


def window_end(forecast: Callable[[Array], Array], start: Array, length: Int[Array, ""]) -> Array:
    """The state at the end of a window of `length` cycles. Forward-mode differentiable."""
    return lax.fori_loop(0, length, lambda _, x: forecast(x), start)


def slide(forecast: Callable[[Array], Array], state: Sliding, lag: int) -> Sliding:
    """The window of the next observation: one cycle longer until it spans `lag`, one cycle later from then on."""
    full = state.length >= lag
    return Sliding(jnp.where(full, forecast(state.start), state.start), jnp.minimum(state.length + 1, lag))


class _Iterate(NamedTuple):
    control: Float[Array, " control"]
    step: Float[Array, " control"]
    """The last Gauss-Newton step, ending in `control`."""
    end: Float[Array, " n"]
    """The state at the window's end before that step, its tangent with respect to the control ..."""
    tangent: Float[Array, "n control"]
    root: Float[Array, "control control"]
    """... and a factor of the posterior covariance of the control there."""
    iterations: Int[Array, ""]


@dataclass(frozen=True)
class FourDVar(Method, kind="4dvar"):
    """Gauss-Newton 4D-Var with the dense Hessian; B at the window's start is `scale` times the climatological one.

    `scale` (DAPPER's xB) rules the result; too small, and the analysis loses the truth. `tolerance` ends the iterations
    once a step is shorter than it, in standard deviations of the background; zero takes all `iterations`. With
    `correlated=False` B keeps the variances only: the climate's correlations are not those of forecast errors.
    """

    lag: int = 1
    scale: float = 0.02
    correlated: bool = True
    iterations: int = 10
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        between(self, "lag", 1, 1000)
        positive(self, "scale", "iterations")
        between(self, "tolerance", 0.0, 1.0)

    def build(self, problem: Problem) -> Algorithm:
        root = problem.climate.root
        if not self.correlated:
            root = jnp.diag(jnp.sqrt(jnp.sum(root**2, axis=1)))
        root = jnp.sqrt(self.scale) * root
        identity = jnp.eye(root.shape[1], dtype=root.dtype)

        def init(key: PRNGKeyArray) -> Sliding:
            return Sliding(jnp.asarray(problem.start.mean), jnp.asarray(1, jnp.int32))

        def update(state: Sliding, observation: Array, key: PRNGKeyArray) -> tuple[Sliding, Analysis]:
            def end_of(start: Array) -> Array:
                return window_end(problem.forecast, start, state.length)

            def iterate(it: _Iterate) -> _Iterate:
                start = state.start + root @ it.control
                along = jax.vmap(lambda t: jax.jvp(end_of, (start,), (t,)), in_axes=1, out_axes=(None, 1))
                end, tangent = along(root)
                departure, operator = problem.linearise(end, observation)
                observed = operator @ tangent
                inverse = inverse_factor(observed.T @ observed + identity)
                step = inverse.T @ (inverse @ (observed.T @ departure - it.control))
                return _Iterate(it.control + step, step, end, tangent, inverse.T, it.iterations + 1)

            zero = jnp.zeros_like(root[0])
            never = _Iterate(zero, zero + jnp.inf, state.start, root, identity, jnp.asarray(0, jnp.int32))
            last = lax.while_loop(
                lambda it: (it.iterations < self.iterations) & (jnp.linalg.norm(it.step) > self.tolerance),
                iterate,
                never,
            )
            analysis = last.end + last.tangent @ last.step
            smoothed = state.start + root @ last.control
            departure, _ = problem.linearise(analysis, observation)
            info = Analysis(
                mean=analysis,
                spread=root_mean(jnp.sum((last.tangent @ last.root) ** 2, axis=1)),
                forecast=end_of(state.start),
                forecast_spread=root_mean(jnp.sum(last.tangent**2, axis=1)),
                fit=per_observation(departure @ departure + last.control @ last.control, observation),
                smoothed=smoothed,
            )
            return slide(problem.forecast, Sliding(smoothed, state.length), self.lag), info

        return Algorithm(init, update, self.lag)

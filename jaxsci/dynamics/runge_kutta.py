"""Explicit Runge-Kutta steps that turn a vector field into a step map."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

State = Any  # a pytree of floating-point arrays
Step = float | Float[Array, ""]


def runge_kutta_4(vector_field: Callable[[State], State], dt: Step) -> Callable[[State], State]:
    """The classical fourth-order step `u -> u(t + dt)` of the autonomous system `du/dt = vector_field(u)`.

    Local error O(dt^5), global error O(dt^4) (Kutta 1901).
    """

    def shifted(u: State, slope: State, h: Step) -> State:
        return jax.tree.map(lambda a, k: a + h * k, u, slope)

    def step(u: State) -> State:
        k1 = vector_field(u)
        k2 = vector_field(shifted(u, k1, dt / 2))
        k3 = vector_field(shifted(u, k2, dt / 2))
        k4 = vector_field(shifted(u, k3, dt))
        return jax.tree.map(lambda a, p, q, r, s: a + dt / 6 * (p + 2 * q + 2 * r + s), u, k1, k2, k3, k4)

    return step


def ssp_runge_kutta_3(vector_field: Callable[[Array], Array], dt: Step) -> Callable[[Array], Array]:
    """The strong-stability-preserving third-order step on one array.

    Shu and Osher 1988, J. Comput. Phys. 77, 439-471, equation 2.18. A loop over the three stages rather than three
    copies: XLA would fuse the copies and compute the inner ones again and again (tangents become six times slower,
    compiling three times).
    """

    def step(u: Array) -> Array:
        def stage(v: Array, kept: Array) -> tuple[Array, None]:
            return kept * u + (1 - kept) * (v + dt * vector_field(v)), None

        return jax.lax.scan(stage, u, jnp.array([0, 3 / 4, 1 / 3], u.dtype))[0]

    return step

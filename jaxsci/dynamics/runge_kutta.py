"""Explicit Runge-Kutta steps that turn a vector field into a step map."""

from collections.abc import Callable
from typing import Any

import jax

State = Any  # a pytree of floating-point arrays


def runge_kutta_4(vector_field: Callable[[State], State], dt: float) -> Callable[[State], State]:
    """The classical fourth-order step `u -> u(t + dt)` of the autonomous system `du/dt = vector_field(u)`.

    Local error O(dt^5), global error O(dt^4) (Kutta 1901).
    """

    def shifted(u: State, slope: State, h: float) -> State:
        return jax.tree.map(lambda a, k: a + h * k, u, slope)

    def step(u: State) -> State:
        k1 = vector_field(u)
        k2 = vector_field(shifted(u, k1, dt / 2))
        k3 = vector_field(shifted(u, k2, dt / 2))
        k4 = vector_field(shifted(u, k3, dt))
        return jax.tree.map(lambda a, p, q, r, s: a + dt / 6 * (p + 2 * q + 2 * r + s), u, k1, k2, k3, k4)

    return step

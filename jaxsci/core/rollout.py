"""The one time loop: apply a step map n times inside a single compiled `lax.scan`."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

from jaxsci.core.errors import ConfigError

State = TypeVar("State")


def rollout(
    step: Callable[[State], State], n: int, *, include_initial: bool = False, checkpoint: bool = False
) -> Callable[[State], State]:
    """Turn the step map `u -> step(u)` into `u0 -> (u1, ..., un)`, stacked along a new leading time axis.

    **Arguments:**

    - `step`: any callable on an array or pytree that returns the same structure, shapes and dtypes. No time
      or batch axis; `jax.vmap(rollout(step, n))` runs many initial states.
    - `n`: number of steps, 0 or more.
    - `include_initial`: put `u0` first, so that the time axis has length n + 1 instead of n.
    - `checkpoint`: recompute the inside of each step in the backward pass instead of storing it. Reverse mode
      then keeps only one state per step, for one more forward evaluation.

    Raises `ConfigError` if n is negative, `TypeError` (from `lax.scan`) if `step` changes shape or dtype.
    """
    if n < 0:
        raise ConfigError(f"n: expected 0 or more steps, got {n}")
    # A scan body is never merged with its neighbours, so the remat needs no barrier against common
    # subexpressions.
    once = jax.checkpoint(step, prevent_cse=False) if checkpoint else step

    def advance(u: State, _: None) -> tuple[State, State]:
        u = once(u)
        return u, u

    def trajectory(u0: State) -> State:
        u0 = jax.tree.map(jnp.asarray, u0)
        _, later = jax.lax.scan(advance, u0, None, length=n)
        if not include_initial:
            return later
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), u0, later)

    return trajectory

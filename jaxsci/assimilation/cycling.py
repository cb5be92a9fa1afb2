"""Window after window: each analysis, carried forward by the model, is the next background."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.observation import Observations
from jaxsci.assimilation.variational import Minimiser, Solution, StepMap, Window, assimilate

State = Any
Output = TypeVar("Output")


def cycle(
    model: StepMap,
    root: Float[Array, "n control"],
    first_guess: State,
    observations: Observations,
    *,
    diagnose: Callable[[Window, Solution], Output],
    method: Minimiser | None = None,
) -> Output:
    """4D-Var over back-to-back windows in one `scan`; no observation is used twice.

    `observations` has a leading axis of windows on `values` (and on `whitener` where each window has its own). The
    next background is one model step past the end of the analysed window. Returns what `diagnose` makes of each
    window, stacked along a leading axis. `vmap` it over networks, noise or seeds.
    """
    windows = len(observations.values)
    whiteners = observations.whitener
    if whiteners.ndim == 2:  # one R for all windows
        whiteners = jnp.broadcast_to(whiteners, (windows, *whiteners.shape))

    def one_window(guess: State, observed: tuple) -> tuple[State, Output]:
        values, whitener = observed
        here = Observations(values, observations.operator, whitener)
        window = Window(model, Background(guess, root), here)
        solution = assimilate(window, method)
        end = jax.tree.map(lambda states: states[-1], solution.value)
        return model(end), diagnose(window, solution)

    return lax.scan(one_window, first_guess, (observations.values, whiteners))[1]

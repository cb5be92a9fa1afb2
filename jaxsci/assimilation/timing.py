"""What one window costs: compiled once, then timed; and whether its gradient is right."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.daily import Analyser
from jaxsci.assimilation.derivative_check import gradient_relative_error
from jaxsci.assimilation.observation import LinearOperator, observe
from jaxsci.assimilation.protocol import draw_network
from jaxsci.assimilation.variational import Window, assimilate


class WindowTiming(NamedTuple):
    """What one 4D-Var window costs and whether its gradient is right; seconds are medians."""

    gradient_relative_error: float
    """Automatic derivative of the full cost against central differences, largest over random directions."""
    seconds_4dvar_per_window: float
    """Median wall time of one analysis, compilation apart."""
    evaluations_per_second: float
    """Costs with gradients per second."""


def time_window(
    analyser: Analyser, truth: Float[Array, "days points"], *, key: PRNGKeyArray, repeats: int = 30
) -> WindowTiming:
    """Measure the first window of one network, from a random control (not the minimum, where gradients vanish)."""
    window = first_window(analyser, truth, key=key)
    control = jax.random.normal(jax.random.fold_in(key, 1), (window.background.controls,), window.background.root.dtype)
    error = jax.jit(lambda v: gradient_relative_error(window.cost, v, key=key))(control)
    solve = jax.jit(lambda values: assimilate(_with_values(window, values), analyser.method).control)
    evaluate = jax.jit(jax.value_and_grad(window.cost))
    return WindowTiming(
        float(error),
        _median_seconds(lambda: solve(window.observations.values), repeats),
        1 / _median_seconds(lambda: evaluate(control), 10 * repeats),
    )


@eqx.filter_jit
def first_window(analyser: Analyser, truth: Float[Array, "days points"], *, key: PRNGKeyArray) -> Window:
    """The first window of one drawn network, with a climatological first guess."""
    network = draw_network(analyser.protocol, truth, key=key)
    matrix, covariance = analyser.operators(network.stations)
    root = analyser.background_root(matrix, covariance)
    values = network.values[: analyser.protocol.days_per_window]
    observations = observe(values, LinearOperator(matrix), covariance)
    return Window(analyser.emulator, Background(jnp.zeros(analyser.state_shape, root.dtype), root), observations)


def _with_values(window: Window, values: Array) -> Window:
    observations = window.observations
    return Window(
        window.model,
        window.background,
        type(observations)(values, observations.operator, observations.whitener),
    )


def _median_seconds(call: Callable[[], object], repeats: int) -> float:
    jax.block_until_ready(call())  # compiles
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begin)
    return statistics.median(times)

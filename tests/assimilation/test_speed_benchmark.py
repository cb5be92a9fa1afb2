"""The two windows of the speed benchmark pose one problem: only the model differs."""

import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks.assimilation import timed_call
from experiments.benchmarks.shallow_water_windows import FlowConfig, reduce, simulate, windows

FLOW = FlowConfig(cells=8, width=0.2, dt=5e-3, steps_between=2, start=4, simulations=4)
STATIONS = jnp.array([3, 17, 40])


@pytest.fixture(scope="module")
def posed():
    with jax.enable_x64(True):
        fields = np.asarray(simulate(FLOW, 4, 6, key=jax.random.key(0)))
        reduced = reduce(fields.reshape(4, 7, -1), 5, 1e-6)
        values = 0.1 * jax.random.normal(jax.random.key(1), (3, 3))
        return fields, reduced, windows(FLOW, reduced, STATIONS, values, 0.01)


def test_both_windows_mean_the_same_field_and_see_the_same_depths(posed, x64):
    _, reduced, pair = posed
    control = jax.random.normal(jax.random.key(2), (5,))
    state = pair.equations.background(control)
    coefficients = pair.emulator.background(control)
    # The same sums in another order.
    np.testing.assert_allclose(state.ravel(), reduced.mean + reduced.pod.decode(coefficients[0]), atol=1e-13)
    seen = pair.equations.observations.operator(state), pair.emulator.observations.operator(coefficients)
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-13)
    np.testing.assert_allclose(seen[0], state[0].ravel()[STATIONS] - reduced.mean[STATIONS], atol=1e-13)


def test_emulator_is_the_least_squares_map_within_runs(posed, x64):
    fields, reduced, _ = posed
    coefficients = np.asarray(reduced.pod.encode(jnp.asarray(fields.reshape(4, 7, -1)) - reduced.mean))
    now, then = coefficients[:, :-1].reshape(-1, 5), coefficients[:, 1:].reshape(-1, 5)
    best = np.linalg.lstsq(now, then, rcond=None)[0]
    # A ridge of 1e-6 moves the map by 1e-6 times the condition number of the scaled covariance, which is small.
    np.testing.assert_allclose(reduced.emulator.maps[0], best, atol=1e-3)


def test_simulations_pass_over_the_start(posed, x64):
    fields, _, pair = posed
    np.testing.assert_allclose(pair.equations.model(jnp.asarray(fields[0, 0])), fields[0, 1], atol=1e-13)
    assert fields.shape == (4, 7, 3, 8, 8)
    np.testing.assert_allclose(fields[:, :, 0].sum((2, 3)), fields[0, 0, 0].sum(), rtol=1e-3)  # translates: one mass


def test_a_slow_program_is_timed_as_often_as_the_budget_allows():
    def slow(x):
        return jax.pure_callback(lambda y: (time.sleep(0.05), y)[1], jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    few = timed_call(slow, jnp.ones(3), repeats=50, budget=0.2)
    assert few.seconds > 0.05 and 1 <= few.runs < 10
    assert timed_call(slow, jnp.ones(3), repeats=3, budget=60.0).runs == 3
    np.testing.assert_array_equal(few.output, jnp.ones(3))


def test_windows_are_compiled_values(posed, x64):
    _, _, pair = posed
    for window in pair:
        gradient = eqx.filter_jit(lambda w: jax.grad(w.cost)(jnp.zeros(5)))(window)
        assert jnp.isfinite(gradient).all() and jnp.abs(gradient).max() > 0

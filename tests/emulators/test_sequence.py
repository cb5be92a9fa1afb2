"""The recurrent emulator: starts at the linear forecast, learns around it, and is a step map."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.ensemble import init_ensemble
from jaxsci.emulators import DirectRecurrent
from jaxsci.emulators.linear import LinearEmulator
from jaxsci.emulators.sequence import EmulatorMean

LAGS, LEADS, MODES, WIDTH = 3, 4, 5, 8
MAPS = 0.3 * jax.random.normal(jax.random.key(0), (LEADS, LAGS * MODES, MODES))
SCALE = jnp.linspace(1.0, 20.0, MODES)
STATE = SCALE * jax.random.normal(jax.random.key(1), (LAGS, MODES))


@eqx.filter_jit
def untrained(*, key):
    return DirectRecurrent(MAPS, SCALE, WIDTH, key=key)


@eqx.filter_jit
def trained(*, key):
    """As if trained: a head that is not zero."""
    network = untrained(key=key)
    weight = 0.5 * jax.random.normal(jax.random.fold_in(key, 1), (MODES, WIDTH))
    return eqx.tree_at(lambda n: n.head.weight, network, weight)


forecast = eqx.filter_jit(lambda emulator, state: emulator.forecast(state))
step = eqx.filter_jit(lambda emulator, state: emulator(state))


def test_starts_at_the_linear_forecast_exactly():
    linear = LinearEmulator(MAPS, LAGS, LEADS)
    emulator = untrained(key=jax.random.key(2))
    assert (emulator.lags, emulator.leads) == (LAGS, LEADS)
    np.testing.assert_array_equal(forecast(emulator, STATE), forecast(linear, STATE))
    np.testing.assert_array_equal(step(emulator, STATE), step(linear, STATE))


@pytest.mark.usefixtures("x64")
def test_forecast_is_the_published_recurrence_step_by_step():
    emulator = jax.tree.map(
        lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, trained(key=jax.random.key(2))
    )
    state = STATE.astype(jnp.float64)

    def lstm(cell, x, h, c):
        gates = cell.weight_ih @ x + cell.weight_hh @ h + cell.bias
        i, f, g, o = np.split(np.asarray(gates), 4)
        sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c

    h = c = np.zeros(WIDTH)
    for lag in reversed(range(LAGS)):  # oldest day first
        h, c = lstm(emulator.encoder, np.asarray(state[lag] / emulator.scale), h, c)
    repeated, expected = h, []
    for lead in range(LEADS):
        h, c = lstm(emulator.decoder, repeated, h, c)
        correction = emulator.scale * (emulator.head.weight @ h + emulator.head.bias)
        expected.append(state.reshape(-1) @ emulator.skip[lead] + correction)
    np.testing.assert_allclose(forecast(emulator, state), np.stack(expected), rtol=1e-12)


@pytest.mark.parametrize("build", [trained, lambda key: EmulatorMean(init_ensemble(trained, 3, key=key))])
def test_step_map_takes_the_first_lead_and_shifts(build):
    emulator = build(key=jax.random.key(3))
    later = step(emulator, STATE)
    # Computed without the other leads: float32 rounding of values up to 100.
    np.testing.assert_allclose(later[0], forecast(emulator, STATE)[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(later[1:], STATE[:-1])


def test_gradient_reaches_all_but_the_linear_skip():
    @eqx.filter_jit
    @eqx.filter_grad
    def slope(emulator):
        return jnp.sum(jnp.square(emulator.forecast(STATE)))

    gradient = slope(trained(key=jax.random.key(4)))
    np.testing.assert_array_equal(gradient.skip, 0)
    for part in (gradient.encoder, gradient.decoder, gradient.head):
        assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(part))
    # An untrained head passes nothing back, but itself can move: training can leave the linear forecast.
    at_start = slope(untrained(key=jax.random.key(4)))
    assert float(jnp.abs(at_start.head.weight).max()) > 0


def test_mean_of_members_is_their_mean():
    members = init_ensemble(trained, 3, key=jax.random.key(5))
    singles = [forecast(trained(key=jax.random.fold_in(jax.random.key(5), i)), STATE) for i in range(3)]
    assert float(jnp.abs(singles[0] - singles[1]).max()) > 0.1
    # float32 sums in another order, values up to 100
    np.testing.assert_allclose(forecast(EmulatorMean(members), STATE), np.mean(singles, 0), rtol=1e-5, atol=1e-4)

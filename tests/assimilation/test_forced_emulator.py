"""Errors as rows of the state: a strong-constraint driver then finds what the Kalman filter does, whatever the lags."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import ForecastProtocol
from jaxsci.assimilation.daily import Analyser, analyse
from jaxsci.assimilation.forced_emulator import ForcedEmulator
from jaxsci.core.errors import ConfigError

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("window", [1, 2])
def test_analyses_are_those_of_the_kalman_filter_also_where_lags_are_few(make_weather, window):
    """Two lags hold the errors of one day; the rows hold those of any number."""
    weather = make_weather(121)
    error = jnp.asarray(weather.error)
    forced = ForcedEmulator(weather.emulator, window)
    protocol = ForecastProtocol(window, 5, 1.0)
    plain = Analyser(weather.emulator, weather.emulator, weather.pod, weather.pod, error, error, protocol, 1e-10)
    analyser = eqx.tree_at(lambda a: a.emulator, plain, forced)
    truth = jnp.asarray(weather.anomalies)
    found = jax.jit(lambda key: analyse(analyser, truth, key=key))(jax.random.key(0))
    assert found.state.shape[1:] == (2 + window, 3)
    np.testing.assert_allclose(found.state[:, 2:], 0.0, atol=1e-12)  # at the window's end no error is left
    # The filter starts from climatology, the windows from the settled covariance: both forget within weeks.
    np.testing.assert_allclose(found.state[40:, 0], found.filtered[40:, 0], atol=1e-5)


def test_a_step_adds_the_first_error_and_moves_the_others_up(make_weather):
    weather = make_weather(121)
    forced = ForcedEmulator(weather.emulator, 2)
    state = jnp.asarray(np.random.default_rng(0).standard_normal((4, 3)))
    following = forced(state)
    expected = weather.emulator(state[:2])
    np.testing.assert_allclose(following[0], expected[0] + state[2])
    np.testing.assert_allclose(following[1:], [state[0], state[3], jnp.zeros(3)])
    np.testing.assert_allclose(forced.forecast(state), weather.emulator.forecast(state[:2]))


def test_a_window_without_days_to_err_is_refused(make_weather):
    with pytest.raises(ConfigError, match="window"):
        ForcedEmulator(make_weather(121).emulator, 0)

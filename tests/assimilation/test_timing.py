"""What is timed is the analysis of the first window, and its gradient is the gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import ForecastProtocol, assimilate
from jaxsci.assimilation.daily import Analyser, analyse
from jaxsci.assimilation.timing import first_window, time_window

pytestmark = pytest.mark.usefixtures("x64")


def test_first_window_is_the_one_the_daily_analyses_begin_with(make_weather):
    weather = make_weather(8)
    emulator, pod, error = weather.emulator, weather.pod, jnp.asarray(weather.error)
    analyser = Analyser(emulator, emulator, pod, pod, error, error, ForecastProtocol(1, 4, 1.0))
    truth = jnp.asarray(weather.anomalies)
    window = first_window(analyser, truth, key=jax.random.key(0))
    daily = jax.jit(lambda key: analyse(analyser, truth, key=key))(jax.random.key(0))
    # The same problem in two programs: rounding.
    solution = jax.jit(lambda: assimilate(window).value)()
    np.testing.assert_allclose(solution[-1], daily.state[0], atol=1e-9)

    timing = time_window(analyser, truth, key=jax.random.key(0), repeats=3)
    assert timing.gradient_relative_error < 1e-7  # a quadratic cost: central differences err by rounding alone
    assert 0 < timing.seconds_4dvar_per_window < 10 and timing.evaluations_per_second > 1

"""Valid times and survival, by hand, non-finite forecasts included."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.dynamics.forecast_skill import correlation_time, relative_error, survival, valid_time

pytestmark = pytest.mark.usefixtures("x64")


def test_valid_time_is_that_of_the_first_failure():
    truth = jnp.ones((1, 5, 4)) * jnp.array([1.0, -1.0, 1.0, -1.0])
    errors = jnp.array([0.1, 0.2, 0.4, 0.1, jnp.nan])
    forecast = truth * (1 + errors)[:, None]
    np.testing.assert_allclose(relative_error(forecast, truth)[0], [0.1, 0.2, 0.4, 0.1, np.inf], rtol=1e-12)
    np.testing.assert_allclose(valid_time(forecast, truth, 0.25), 0.75)
    np.testing.assert_allclose(valid_time(forecast, truth, 0.25, 0.5), 1.25)  # the NaN
    np.testing.assert_allclose(valid_time(truth, truth, 0.25), 1.25)  # never: the whole span
    np.testing.assert_allclose(correlation_time(forecast, truth, 0.25), 1.25)  # scaled, not decorrelated, then NaN
    np.testing.assert_allclose(correlation_time(-truth, truth, 0.25), 0.25)


def test_survival_allows_a_recovery_and_no_relapse():
    energies = jnp.array(
        [
            [1.0, 1.0, 1.0, 1.0],
            [9.0, 1.0, 1.0, 1.0],
            [9.0, 9.0, 1.0, 1.0],
            [1.0, 1.0, jnp.nan, jnp.nan],
        ]
    )
    found = survival(energies, 3.0, 1.0, allowed=1.0)
    np.testing.assert_array_equal(found.bounded, [True, True, False, False])
    np.testing.assert_allclose(found.recovery_time, [0.0, 1.0, 2.0, np.inf])

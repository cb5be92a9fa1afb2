"""Skill from perfect states: which day is compared with which, and the size of the one-day error."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.emulators import LinearEmulator, fit_linear, reduce_field, split_by_time
from jaxsci.emulators.skill import forecast_all, one_day_error, rmse_by_lead
from jaxsci.emulators.verification import rmse

pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture
def reduced(make_field):
    return reduce_field(make_field(300), split_by_time(300), modes=5, harmonics=(1,))


def persisting(modes, lags, leads):
    """A linear emulator that repeats today."""
    maps = np.zeros((leads, lags * modes, modes))
    maps[:, :modes] = np.eye(modes)
    return LinearEmulator(jnp.asarray(maps), lags, leads)


def test_forecasts_keep_every_leading_axis(reduced):
    emulator = fit_linear(reduced.coefficients, reduced.coefficients, lags=2, leads=3, ridges=(1e-3,))
    states = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 2, 5)))
    found = forecast_all(emulator, states)
    assert found.shape == (2, 4, 3, 5)
    np.testing.assert_allclose(found[1, 2], emulator.forecast(states[1, 2]), rtol=1e-12)


@pytest.mark.parametrize("lags", [1, 3])
def test_rmse_of_a_forecast_that_repeats_today(reduced, lags):
    span, leads = slice(150, 220), 3
    found = rmse_by_lead(persisting(5, lags, leads), reduced, span)
    today = np.asarray(reduced.pod.decode(jnp.asarray(reduced.coefficients[span])))
    truth = reduced.anomalies[span]
    for lead in range(1, leads + 1):
        made = range(lags - 1, len(truth) - leads)  # days whose lags and leads all lie in the span
        error = np.stack([today[day] - truth[day + lead] for day in made])
        np.testing.assert_allclose(found[lead - 1], rmse(jnp.asarray(error), jnp.asarray(reduced.weights)), rtol=1e-12)


def test_one_day_error_has_the_shape_of_training_and_the_size_of_validation(reduced):
    emulator = persisting(5, 2, 3)
    covariance = np.asarray(one_day_error(emulator, reduced))
    spans = [reduced.coefficients[span] for span in (reduced.split.train, reduced.split.validation)]
    # The step from day to day, without the first one of each span (a state needs two days).
    train, validation = (np.diff(span, axis=0)[1:] for span in spans)
    np.testing.assert_allclose(np.trace(covariance), np.mean(np.sum(validation**2, 1)), rtol=1e-12)
    shape = train.T @ train
    np.testing.assert_allclose(covariance / np.trace(covariance), shape / np.trace(shape), rtol=1e-9, atol=1e-14)

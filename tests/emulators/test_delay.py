"""Delay states and training pairs: every index."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsci.core.errors import DataError
from jaxsci.emulators.delay import advance, delay_states, training_pairs

SERIES = st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(0, 10))  # lags, leads, days to spare


def series(days):
    """Day d, mode m holds 100 d + m: every value tells where it comes from."""
    return 100.0 * np.arange(days)[:, None] + np.arange(3)


@settings(max_examples=60, deadline=None)
@given(SERIES)
def test_delay_states_hold_the_newest_day_first(sizes):
    lags, _, spare = sizes
    days = series(lags + spare)
    states = delay_states(days, lags)
    assert states.shape == (spare + 1, lags, 3)
    for i, state in enumerate(states):
        for lag in range(lags):
            np.testing.assert_array_equal(state[lag], days[lags - 1 + i - lag])


@settings(max_examples=60, deadline=None)
@given(SERIES)
def test_targets_are_the_days_after_the_newest(sizes):
    lags, leads, spare = sizes
    days = series(lags + leads + spare)
    states, targets = training_pairs(days, lags, leads)
    assert states.shape == (spare + 1, lags, 3) and targets.shape == (spare + 1, leads, 3)
    for state, target in zip(states, targets, strict=True):
        now = int(state[0, 0] // 100)
        np.testing.assert_array_equal(target[:, 0] // 100, now + 1 + np.arange(leads))
        np.testing.assert_array_equal(target[:, 1:] - target[:, :1], np.tile([1, 2], (leads, 1)))
    assert states[0, -1, 0] == 0 and targets[-1, -1, 0] == 100 * (len(days) - 1)  # first and last day are used


def test_too_few_days_are_counted():
    with pytest.raises(DataError, match="expected at least 6 days for 2 lags and 4 leads, got 5"):
        training_pairs(series(5), 2, 4)
    with pytest.raises(DataError, match="expected at least 3 days for 3 lags, got 2"):
        delay_states(series(2), 3)


def test_advance_puts_tomorrow_on_top():
    state = jnp.asarray(series(3)[::-1].copy())
    tomorrow = jnp.full((1, 3), -1.0)
    np.testing.assert_array_equal(advance(tomorrow, state), [[-1, -1, -1], [200, 201, 202], [100, 101, 102]])

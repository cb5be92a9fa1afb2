"""The forecast protocol: no observation twice, every day once, noise always."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import ForecastProtocol, draw_network
from jaxsci.core.errors import ConfigError


@pytest.mark.parametrize("window", [0, 1, 4])
@pytest.mark.parametrize("spare", [0, 1, 4, 23])
def test_windows_of_a_chain_follow_each_other_and_chains_cover_every_day(window, spare):
    protocol = ForecastProtocol(window, 5, 1.0)
    length = protocol.days_per_window
    days = 2 * length - 1 + spare  # the fewest days that give every chain a window
    windows = np.asarray(protocol.windows(days))
    assert windows.shape[0] == windows.shape[2] == length == window + 1
    for start, chain in enumerate(windows):
        # Consecutive days, so no observation twice and none left out between windows.
        np.testing.assert_array_equal(chain.ravel(), start + np.arange(chain.size))
    ends = np.sort(windows[:, :, -1].ravel())
    # Every day from `window` on is analysed exactly once, up to the fewer than `length` days that fill no window.
    np.testing.assert_array_equal(ends, window + np.arange(ends.size))
    assert days - length <= ends[-1] < days


@pytest.mark.parametrize(("window", "days"), [(0, 0), (1, 2), (3, 6)])
def test_too_few_days(window, days):
    with pytest.raises(ConfigError, match=f"the {days} days observed, got {window + 1} days"):
        ForecastProtocol(window, 5, 1.0).windows(days)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((-1, 5, 1.0), "window: expected 0 or more"),
        ((1, 0, 1.0), "stations: expected 1 or more, got 0"),
        ((1, 5, 0.0), r"noise_std: expected a value above 0 \(protocol forecast\), got 0.0"),
        ((1, 5, -2.0), "noise_std"),
        ((1, 5, float("nan")), "noise_std"),
    ],
)
def test_ranges(arguments, said):
    with pytest.raises(ConfigError, match=said):
        ForecastProtocol(*arguments)


def test_network_is_drawn_without_repetition_and_measures_with_noise():
    truth = jnp.asarray(np.random.default_rng(0).normal(size=(400, 30)))
    network = draw_network(ForecastProtocol(1, 20, 2.5), truth, key=jax.random.key(0))
    assert len(np.unique(network.stations)) == 20
    error = np.asarray(network.values - truth[:, network.stations])
    # 8000 draws: the standard deviation is known to 1 / sqrt(16 000) = 0.8 %, the mean to 2.5 / sqrt(8000).
    np.testing.assert_allclose(error.std(), 2.5, rtol=5 * 0.008)
    np.testing.assert_allclose(error.mean(), 0, atol=5 * 2.5 / np.sqrt(8000))
    correlation = np.corrcoef(error.T) - np.eye(20)
    assert np.abs(correlation).max() < 5 / np.sqrt(400)  # white between stations
    lagged = np.mean(error[1:] * error[:-1]) / error.var()
    assert abs(lagged) < 5 / np.sqrt(8000)  # and from day to day


def test_companions_are_observed_where_they_have_a_noise():
    protocol = ForecastProtocol(0, 3, 2.0, (None, 0.5))
    assert protocol.reported == (2.0, 0.5)
    np.testing.assert_array_equal(protocol.deviations(3), [2.0, 2.0, 2.0, 0.5, 0.5, 0.5])
    stations = jnp.array([1, 4, 9])
    np.testing.assert_array_equal(protocol.columns(stations, 30), [1, 4, 9, 21, 24, 29])  # 10 points a variable
    truth = jnp.asarray(np.random.default_rng(0).normal(size=(5000, 30)))
    network = draw_network(protocol, truth, key=jax.random.key(0))
    assert network.values.shape == (5000, 6)
    error = np.asarray(network.values - truth[:, protocol.columns(network.stations, 30)])
    np.testing.assert_allclose(error.std(axis=0), protocol.deviations(3), rtol=0.05)  # 5 standard errors of 1 %
    with pytest.raises(ConfigError, match="stations: expected at most 10"):
        draw_network(ForecastProtocol(0, 11, 1.0, (None, None)), truth, key=jax.random.key(0))


def test_networks_depend_on_the_key_alone():
    truth = jnp.zeros((10, 30))
    protocol = ForecastProtocol(0, 8, 1.0)
    one, same, other = (draw_network(protocol, truth, key=jax.random.key(k)) for k in (1, 1, 2))
    np.testing.assert_array_equal(one.values, same.values)
    assert not np.array_equal(one.stations, other.stations)


def test_more_stations_than_points():
    with pytest.raises(ConfigError, match="stations: expected at most 30, one a point, got 31"):
        draw_network(ForecastProtocol(0, 31, 1.0), jnp.zeros((10, 30)), key=jax.random.key(0))

"""Daily analyses in a world whose statistics are known: order of days, optimality, honest spread."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import (
    Background,
    ForecastProtocol,
    LinearOperator,
    Window,
    assimilate,
    observe,
    optimal_interpolation,
)
from jaxsci.assimilation.daily import Analyser, analyse
from jaxsci.assimilation.variational import CONVERGED

pytestmark = pytest.mark.usefixtures("x64")


def analyser_of(weather, window=1, stations=5, ridge=1e-10) -> Analyser:
    protocol = ForecastProtocol(window, stations, 1.0)
    error = jnp.asarray(weather.error)
    emulator, pod = weather.emulator, weather.pod
    return Analyser(emulator, emulator, pod, pod, error, error, protocol, ridge)


@pytest.fixture
def season(make_weather):
    """401 days (200 windows a chain) and their analyses."""
    weather = make_weather(401)
    analyser = analyser_of(weather)
    truth = jnp.asarray(weather.anomalies)
    return weather, analyser, jax.jit(lambda key: analyse(analyser, truth, key=key))(jax.random.key(0))


def spread_of(error):
    return float(jnp.sqrt(jnp.mean(jnp.square(error))))


@pytest.mark.parametrize(("window", "chain"), [(0, 0), (1, 0), (1, 1), (2, 1)])
def test_entry_i_belongs_to_day_window_plus_i(make_weather, window, chain):
    """One chain run by hand, window after window, fills every (window + 1)-th entry."""
    weather = make_weather(16 + window)
    analyser = analyser_of(weather, window, ridge=1e-4)
    truth = jnp.asarray(weather.anomalies)
    found = jax.jit(lambda key: analyse(analyser, truth, key=key))(jax.random.key(3))
    matrix, covariance = analyser.operators(found.network.stations)
    root = analyser.background_root(matrix, covariance)
    guess, length = jnp.zeros((2, 3)), window + 1

    @jax.jit
    def by_hand(guess, values):
        observations = observe(values, LinearOperator(matrix), covariance)
        problem = Window(weather.emulator, Background(guess, root), observations)
        return assimilate(problem), problem.trajectory(jnp.zeros(6))

    for start in range(chain, len(weather.anomalies) - length + 1, length):
        last = start + window
        entry = last - window
        if entry >= len(found.state):
            break
        solution, free = by_hand(guess, found.network.values[start : last + 1])
        # One program against two: rounding.
        np.testing.assert_allclose(found.state[entry], solution.value[-1], atol=1e-9)
        np.testing.assert_allclose(found.background[entry], free[-1, 0], atol=1e-9)
        fit = 2 * solution.stats.cost / (length * 5)
        np.testing.assert_allclose(found.fit[entry], fit, rtol=1e-8)
        np.testing.assert_allclose(found.mahalanobis[entry], np.mean(solution.control**2), rtol=1e-8)
        guess = weather.emulator(solution.value[-1])
    assert len(found.state) >= len(weather.anomalies) - 2 * window


def test_interpolation_is_of_the_same_days(season):
    weather, analyser, found = season
    matrix, covariance = analyser.operators(found.network.stations)
    expected = optimal_interpolation(found.network.values, matrix, jnp.diag(weather.pod.variance), covariance)
    np.testing.assert_allclose(found.interpolated[:, 0], expected[1 : 1 + len(found.state)], atol=1e-10)
    np.testing.assert_allclose(found.interpolated[:, 1], expected[: len(found.state)], atol=1e-10)


def test_analysis_beats_background_and_interpolation_and_all_converge(season):
    weather, _, found = season
    truth = weather.coefficients[1 : 1 + len(found.state)]
    analysis = spread_of(found.state[:, 0] - truth)
    assert analysis < 0.7 * spread_of(found.background - truth)
    assert analysis < spread_of(found.interpolated[:, 0] - truth)
    assert analysis < 0.7 * spread_of(truth)
    assert (found.code == CONVERGED).all()


def test_spread_is_the_error_there_is_and_covers_it(season):
    weather, _, found = season
    days = len(found.state)
    error = (found.state[:, 0] @ weather.pod.modes.T - weather.anomalies[1 : 1 + days])[20:]
    spread = found.spread[20:]
    # Some 380 days with errors correlated for a day or two: 150 independent ones of 3 modes; 1 / sqrt(900) = 3 %.
    np.testing.assert_allclose(spread_of(error), spread_of(spread), rtol=0.12)
    inside = np.mean(np.abs(error) < 1.645 * spread)
    np.testing.assert_allclose(inside, 0.9, atol=0.04)  # sqrt(0.9 x 0.1 / 450) = 1.4 % by the same count


def test_cost_is_one_per_observation_where_every_covariance_is_right(season):
    found = season[2]
    # 2 J of a window is chi-square with 10 degrees. 380 windows, in two chains of which each sees the other's
    # observations: at least 190 independent ones, so sqrt(2 / (10 x 190)) = 3 %.
    np.testing.assert_allclose(np.mean(found.fit[20:]), 1.0, atol=4 * 0.033)


def test_steady_spread_is_that_of_the_daily_kalman_filter(season, smoother):
    """Two-day windows with the error absorbed know as much as a filter that takes every day on its own."""
    weather, analyser, found = season
    matrix, covariance = (np.asarray(a) for a in analyser.operators(found.network.stations))
    maps = np.asarray(weather.emulator.maps[0]).T
    transition = np.concatenate([maps, np.eye(3, 6)])
    error, operator = np.zeros((6, 6)), np.concatenate([matrix, np.zeros_like(matrix)], 1)
    error[:3, :3] = weather.error
    values = np.zeros((200, len(matrix)))  # covariances do not depend on them
    filtered = smoother(transition, error, operator, covariance, np.zeros(6), np.eye(6), values).covariance[-1, :3, :3]
    modes, truncated = np.asarray(weather.pod.modes), np.asarray(weather.pod.truncated)
    expected = np.sqrt(np.diag(modes @ filtered @ modes.T) + np.sum(truncated**2, 1))
    # The ridge of 1e-10 in the way the emulator's error is absorbed, times conditioning.
    np.testing.assert_allclose(found.spread[-1], expected, rtol=1e-5)


def test_the_filter_is_kalmans(make_weather, smoother):
    """States of the filter against one written apart, from the same prior."""
    weather = make_weather(30)
    analyser = analyser_of(weather)
    found = jax.jit(lambda key: analyse(analyser, jnp.asarray(weather.anomalies), key=key))(jax.random.key(4))
    matrix, covariance = (np.asarray(a) for a in analyser.operators(found.network.stations))
    transition = np.concatenate([np.asarray(weather.emulator.maps[0]).T, np.eye(3, 6)])
    error, operator = np.zeros((6, 6)), np.concatenate([matrix, np.zeros_like(matrix)], 1)
    error[:3, :3] = weather.error
    prior = np.kron(np.eye(2), np.diag(weather.pod.variance))
    for last in (1, 12, 28):  # the end of a smoother's span is a filter
        values = np.asarray(found.network.values[: last + 1])
        expected = smoother(transition, error, operator, covariance, np.zeros(6), prior, values).mean[-1]
        np.testing.assert_allclose(found.filtered[last - 1].ravel(), expected, atol=1e-8)
    np.testing.assert_allclose(np.mean(found.filter_fit), 1.0, atol=0.35)  # 145 innovations: sqrt(2 / 145) = 12 %


def test_observation_error_holds_instrument_and_unresolved_scales(make_weather):
    weather = make_weather(5)
    stations = jnp.array([2, 0, 7])
    matrix, covariance = analyser_of(weather).operators(stations)
    np.testing.assert_array_equal(matrix, weather.pod.modes[stations])
    rest = np.asarray(weather.pod.truncated)[[2, 0, 7]]
    np.testing.assert_allclose(covariance, np.eye(3) + rest @ rest.T, atol=1e-14)


def test_networks_side_by_side_equal_one_by_one(make_weather):
    weather = make_weather(12)
    analyser, truth = analyser_of(weather), jnp.asarray(weather.anomalies)
    keys = jax.random.split(jax.random.key(5), 2)
    together = jax.jit(jax.vmap(lambda key: analyse(analyser, truth, key=key)))(keys)
    alone = jax.jit(lambda key: analyse(analyser, truth, key=key))(keys[1])
    np.testing.assert_array_equal(together.network.stations[1], alone.network.stations)
    for name in ("state", "background", "interpolated", "spread"):
        np.testing.assert_allclose(getattr(together, name)[1], getattr(alone, name), atol=1e-9)  # batched sums


def test_no_analysis_sees_the_future(make_weather):
    """Another truth from some day on leaves every analysis before it as it was."""
    weather = make_weather(20)
    analyser = analyser_of(weather)
    changed = weather.anomalies.copy()
    changed[12:] += 100
    run = jax.jit(lambda truth: analyse(analyser, truth, key=jax.random.key(0)))
    before, after = run(jnp.asarray(weather.anomalies)), run(jnp.asarray(changed))
    for name in ("state", "background", "interpolated", "fit"):
        one, other = getattr(before, name), getattr(after, name)
        np.testing.assert_array_equal(one[:11], other[:11])  # entry 10 is day 11
        if name != "background":
            assert not np.allclose(one[11], other[11])

"""Greedy placement against every other choice, where all can be tried."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background
from jaxsci.assimilation.placement import candidate_sensitivity, expected_gain, network_covariance, place
from jaxsci.core.errors import ConfigError
from jaxsci.dynamics import Lorenz96

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
CANDIDATES, TIMES, N = 8, 2, 4
ROWS = RNG.normal(size=(CANDIDATES, TIMES, N))
TARGET = RNG.normal(size=(2, N))


def posterior(chosen, rows=ROWS):
    rows = rows[list(chosen)].reshape(-1, rows.shape[-1])
    return np.linalg.inv(np.eye(rows.shape[-1]) + rows.T @ rows)


IDENTITY = np.eye(N)


def value(goal, chosen, rows=ROWS, target=IDENTITY):
    """What a set of stations is worth, higher is better."""
    covariance = posterior(chosen, rows)
    return -np.trace(target @ covariance @ target.T) if goal == "trace" else -np.linalg.slogdet(covariance)[1]


@pytest.mark.parametrize("goal", ["trace", "information"])
def test_each_choice_is_the_best_single_addition(goal):
    found = place(jnp.asarray(ROWS), 4, goal=goal)
    taken = []
    for station, gain in zip(np.asarray(found.stations), np.asarray(found.gain), strict=True):
        rest = [c for c in range(CANDIDATES) if c not in taken]
        values = [value(goal, [*taken, c]) for c in rest]
        assert station == rest[int(np.argmax(values))]
        np.testing.assert_allclose(gain, max(values) - value(goal, taken), rtol=1e-9)  # rounding of differences
        taken.append(int(station))
    np.testing.assert_allclose(found.covariance, posterior(taken), atol=1e-12)


def test_a_target_steers_the_choice():
    found = place(jnp.asarray(ROWS), 1, target=jnp.asarray(TARGET))
    values = [value("trace", [c], target=TARGET) for c in range(CANDIDATES)]
    assert found.stations[0] == np.argmax(values)


@pytest.mark.parametrize("goal", ["trace", "information"])
def test_independent_candidates_are_placed_as_brute_force_does(goal):
    """Each candidate sees a direction of its own: greedy is optimal."""
    rows = (np.diag([0.5, 3.0, 1.0, 2.0, 0.1, 4.0]) @ np.linalg.qr(RNG.normal(size=(6, 6)))[0])[:, None]
    best = max(combinations(range(6), 3), key=lambda s: value(goal, s, rows, np.eye(6)))
    assert sorted(np.asarray(place(jnp.asarray(rows), 3, goal=goal).stations)) == list(best)


@pytest.mark.parametrize("stations", [2, 3, 4])
def test_information_is_within_the_greedy_bound_of_brute_force(stations):
    best = max(value("information", s) for s in combinations(range(CANDIDATES), stations))
    found = float(jnp.sum(place(jnp.asarray(ROWS), stations, goal="information").gain))
    assert (1 - 1 / np.e) * best <= found <= best + 1e-12  # the prior's is zero


def test_sensitivity_is_the_derivative_along_the_trajectory():
    n, steps = 6, 3
    mean, root = jnp.asarray(RNG.normal(size=n)) * 3, jnp.asarray(0.5 * np.eye(n) + 0.1 * RNG.normal(size=(n, n)))
    model, operator = Lorenz96(), lambda x: x[jnp.array([1, 4])] ** 2
    found = jax.jit(lambda: candidate_sensitivity(model, Background(mean, root), operator, 0.5, steps))()
    direction, h = jnp.asarray(RNG.normal(size=n)), 1e-5

    @jax.jit
    def seen(control):
        x, values = mean + root @ control, []
        for _ in range(steps + 1):
            values.append(operator(x) / 0.5)
            x = model(x)
        return jnp.stack(values, axis=1)

    difference = (seen(h * direction) - seen(-h * direction)) / (2 * h)
    np.testing.assert_allclose(found @ direction, difference, atol=1e-6)  # central differences at 1e-5


@pytest.mark.parametrize("goal", ["trace", "information"])
def test_what_a_station_would_add_to_a_network_is_what_it_adds(goal):
    network = [1, 5]
    present = jnp.zeros(CANDIDATES).at[jnp.asarray(network)].set(1.0)
    covariance = network_covariance(jnp.asarray(ROWS), present)
    np.testing.assert_allclose(covariance, posterior(network), atol=1e-12)
    gain, removed = expected_gain(jnp.asarray(ROWS), covariance, goal=goal, target=jnp.asarray(TARGET))
    after = posterior([*network, 3])
    np.testing.assert_allclose(covariance - removed[3] @ removed[3].T, after, atol=1e-12)
    added = value(goal, [*network, 3], target=TARGET) - value(goal, network, target=TARGET)
    np.testing.assert_allclose(gain[3], added, rtol=1e-9)


def test_placement_compiles():
    found = jax.jit(lambda rows: place(rows, 3))(jnp.asarray(ROWS))
    np.testing.assert_array_equal(found.stations, place(jnp.asarray(ROWS), 3).stations)


@pytest.mark.parametrize("stations", [0, CANDIDATES + 1])
def test_too_many_stations_are_one_line(stations):
    with pytest.raises(ConfigError, match=f"^stations: expected from 1 to the 8 candidates, got {stations}") as caught:
        place(jnp.asarray(ROWS), stations)
    assert "\n" not in str(caught.value)

"""Innovation statistics: an exact split of the chi-square, alike at every cycle of a sound filter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background
from jaxsci.assimilation.innovations import innovation_statistics
from jaxsci.assimilation.problem import Problem, Select

pytestmark = pytest.mark.usefixtures("x64")

N, STATIONS, MEMBERS = 6, np.array([0, 2, 3, 5]), 9
RNG = np.random.default_rng(0)
FORECAST = RNG.normal(size=(MEMBERS, N)) @ RNG.normal(size=(N, N))
NOISE = np.array([0.5, 1.0, 2.0, 0.3])


def problem(noise=NOISE, stations=STATIONS):
    anywhere = Background(jnp.zeros(N), jnp.eye(N))
    return Problem(lambda x: x, Select(stations), jnp.asarray(noise), anywhere, anywhere)


def by_hand(observation, noise=NOISE, stations=STATIONS):
    seen = FORECAST[:, stations]
    precision = np.linalg.inv(np.cov(seen.T) + (np.diag(noise) if noise.ndim == 1 else noise))
    departure, ones = observation - seen.mean(axis=0), np.ones(len(stations))
    shift = ones @ precision @ departure / np.sqrt(ones @ precision @ ones)
    total = departure @ precision @ departure
    return shift, (total - shift**2 - len(ones) + 1) / np.sqrt(2 * (len(ones) - 1)), total / len(ones)


@pytest.mark.parametrize("noise", [NOISE, np.diag(NOISE) + 0.1])
def test_the_split_is_that_of_generalised_least_squares(noise):
    observation = RNG.normal(size=4)
    found = innovation_statistics(problem(noise), jnp.asarray(FORECAST), jnp.asarray(observation))
    np.testing.assert_allclose(found, by_hand(observation, noise), rtol=1e-10)


def test_a_missing_station_is_as_none_at_all():
    observation, kept = RNG.normal(size=4), [0, 1, 3]
    found = innovation_statistics(problem(), jnp.asarray(FORECAST), jnp.asarray(observation).at[2].set(jnp.nan))
    np.testing.assert_allclose(found, by_hand(observation[kept], NOISE[kept], STATIONS[kept]), rtol=1e-10)


def test_a_bias_moves_the_shift_and_larger_errors_the_scatter():
    """Innovations drawn from S itself: the shift is N(0, 1), the scatter has mean 0 and variance 1, independently."""
    draws, count = 4000, len(STATIONS)
    covariance = np.cov(FORECAST[:, STATIONS].T) + np.diag(NOISE)
    calm = FORECAST[:, STATIONS].mean(axis=0) + RNG.multivariate_normal(np.zeros(count), covariance, draws)
    look = jax.jit(jax.vmap(lambda y: innovation_statistics(problem(), jnp.asarray(FORECAST), y)))
    shift, scatter, _ = look(jnp.asarray(calm))
    # Three standard errors of a mean, of a variance (kurtosis 4 of chi-square(3): 7), and of a correlation.
    assert abs(shift.mean()) < 3 / np.sqrt(draws) and abs(shift.var() - 1) < 3 * np.sqrt(2 / draws)
    assert abs(scatter.mean()) < 3 / np.sqrt(draws) and abs(scatter.var() - 1) < 3 * np.sqrt(6 / draws)
    assert abs(np.corrcoef(shift, scatter)[0, 1]) < 3 / np.sqrt(draws)
    biased = look(jnp.asarray(calm + 1.0))
    np.testing.assert_allclose(biased.scatter, scatter, atol=1e-9)  # what all stations share leaves the rest alone
    ones, precision = np.ones(count), np.linalg.inv(covariance)
    np.testing.assert_allclose(biased.shift - shift, np.sqrt(ones @ precision @ ones), rtol=1e-9)

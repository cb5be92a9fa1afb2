"""Scores of forecasts: each method's forecast is compared with the day it was made for."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation.daily import DailyAnalyses
from jaxsci.assimilation.protocol import Network
from jaxsci.assimilation.scores import BASELINES, score
from jaxsci.emulators import LinearEmulator, reduce_field, split_by_time
from jaxsci.emulators.delay import delay_states
from jaxsci.emulators.fields import Field
from jaxsci.emulators.verification import rmse

pytestmark = pytest.mark.usefixtures("x64")

NETWORKS, LEADS, MODES, POINTS = 2, 3, 4, 6


def size(error, reduced):
    return rmse(jnp.asarray(error), jnp.asarray(reduced.weights))


@pytest.fixture
def scored():
    """Scores of made-up analyses: network 0 knows the truth, network 1 is one unit off everywhere."""
    rng = np.random.default_rng(0)
    values = 100 + rng.normal(size=(120, 2, 3)).cumsum(0) * 3
    time = np.datetime64("2001-01-01", "h") + 24 * np.arange(120)
    field = Field("z", values, np.array([50.0, 40.0]), np.arange(3.0), time)
    split = split_by_time(120)
    reduced = reduce_field(field, split, modes=MODES, harmonics=(0,))
    test = split.test
    truth = reduced.anomalies[test]
    days = len(truth)
    maps = 0.4 * rng.normal(size=(LEADS, 2 * MODES, MODES))
    emulator = LinearEmulator(jnp.asarray(maps), 2, LEADS)
    linear = LinearEmulator(jnp.asarray(0.5 * maps), 2, LEADS)
    states = delay_states(reduced.coefficients[test.start - 1 :], 2)
    off = np.stack([states, states + 1])
    analyses = DailyAnalyses(
        network=Network(jnp.zeros((NETWORKS, 1), int), jnp.zeros((NETWORKS, days, 1))),
        state=jnp.asarray(off),
        background=jnp.asarray(off[:, :, 0] - 2),
        interpolated=jnp.asarray(off[::-1].copy()),
        filtered=jnp.asarray(off),
        filter_fit=jnp.ones((NETWORKS, days)),
        spread=jnp.full((NETWORKS, days, POINTS), 1e3).at[1].set(0.0),
        fit=jnp.stack([jnp.full(days, 0.5), jnp.full(days, 1.5)]),
        mahalanobis=jnp.ones((NETWORKS, days)),
        code=jnp.zeros((NETWORKS, days), int),
    )
    return (
        reduced,
        emulator,
        linear,
        truth,
        states,
        score(reduced, linear, emulator, analyses, jnp.asarray(truth), LEADS),
    )


def test_analysis_background_and_interpolation(scored):
    reduced, _, _, truth, states, scores = scored
    decode = lambda c: np.asarray(reduced.pod.decode(jnp.asarray(c)))  # noqa: E731
    exact, shifted = (size(decode(c) - truth, reduced) for c in (states[:, 0], states[:, 0] + 1))
    np.testing.assert_allclose(scores.analysis_by_network, [exact, shifted], rtol=1e-12)
    np.testing.assert_allclose(scores.interpolated_by_network, [shifted, exact], rtol=1e-12)
    np.testing.assert_allclose(scores.analysis**2, (exact**2 + shifted**2) / 2, rtol=1e-12)  # squares average
    assert scores.networks_better_than_oi == 0.5
    backgrounds = np.stack([decode(states[:, 0] - 2), decode(states[:, 0] - 1)]) - truth
    np.testing.assert_allclose(scores.background, size(backgrounds, reduced), rtol=1e-12)
    np.testing.assert_allclose(scores.fit, 1.0, rtol=1e-12)
    np.testing.assert_allclose(scores.coverage_90, 0.5, atol=1e-12)  # all errors of one network, none of the other


def test_baselines_verify_on_the_day_they_were_made_for(scored):
    reduced, _, _, truth, _, scores = scored
    assert set(scores.rmse) == {"forecast", *BASELINES} == set(scores.correlation)
    train = reduced.anomalies[reduced.split.train]
    for lead in range(1, LEADS + 1):
        now, later = truth[:-lead], truth[lead:]
        factor = np.sum(reduced.weights * train[:-lead] * train[lead:]) / np.sum(
            reduced.weights * np.square(train[:-lead])
        )
        expected = {"climatology": -later, "persistence": now - later, "damped_persistence": factor * now - later}
        for name, error in expected.items():
            np.testing.assert_allclose(scores.rmse[name][lead - 1], size(error, reduced), rtol=1e-12)
        cosine = np.sum(reduced.weights * now * later) / np.sqrt(
            np.sum(reduced.weights * now**2) * np.sum(reduced.weights * later**2)
        )
        np.testing.assert_allclose(scores.correlation["persistence"][lead - 1], cosine, rtol=1e-12)
    np.testing.assert_array_equal(scores.correlation["climatology"], 0)


def test_emulators_start_from_the_states_of_the_test_days(scored):
    reduced, emulator, linear, truth, states, scores = scored

    def expected(model, starts, lead):
        forecasts = np.stack([model.forecast(jnp.asarray(s))[lead - 1] for s in starts[:-lead]])
        return size(np.asarray(reduced.pod.decode(jnp.asarray(forecasts))) - truth[lead:], reduced)

    for lead in (1, LEADS):
        true_start, shifted = expected(emulator, states, lead), expected(emulator, states + 1, lead)
        np.testing.assert_allclose(scores.rmse["emulator"][lead - 1], true_start, rtol=1e-12)
        np.testing.assert_allclose(scores.rmse["linear"][lead - 1], expected(linear, states, lead), rtol=1e-12)
        both = np.sqrt((true_start**2 + shifted**2) / 2)
        np.testing.assert_allclose(scores.rmse["forecast"][lead - 1], both, rtol=1e-12)
        np.testing.assert_allclose(scores.rmse["oi"][lead - 1], both, rtol=1e-12)  # networks the other way round

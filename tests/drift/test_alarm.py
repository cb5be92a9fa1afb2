"""Alarms: prompt after a step, as rare as asked for without one; the other detectors behind the same door."""

from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.drift.alarm import Watch, calibrate, watch_series
from jaxsci.drift.changepoint import Bocpd
from jaxsci.drift.detectors import Adwin, Kswin, PageHinkley, pelt
from jaxsci.drift.hazard import ConstantHazard
from jaxsci.drift.segments import Gaussian


@pytest.fixture(scope="module")
def detector():
    return Bocpd(Gaussian(), ConstantHazard(200.0), capacity=64)


def test_an_alarm_comes_within_the_hold_and_names_the_first_point(detector, step_series):
    verdict, _ = jax.jit(watch_series)(
        Watch(detector, window=20, threshold=0.9, hold=3), jnp.asarray(step_series, jnp.float32)
    )
    alarms = np.flatnonzero(verdict.alarm)
    assert len(alarms) == 1 and 50 <= alarms[0] <= 55
    assert int(verdict.start[alarms[0]]) == 50


def test_a_calibrated_threshold_holds_on_other_calm_series(detector):
    calm = jax.random.normal(jax.random.key(0), (2, 100, 400, 1))
    threshold = calibrate(detector, calm[0], window=20, hold=3, false_per_1000=1.0)
    watch = Watch(detector, window=20, threshold=threshold, hold=3, separation=1)
    verdict, _ = jax.jit(jax.vmap(lambda x: watch_series(watch, x)))(calm[1])
    # At most 1 per 1000 in 38,000 points; three standard deviations of a Poisson count of 38 on top.
    assert int(verdict.alarm.sum()) <= 38 + 19
    assert calibrate(detector, calm[0], window=20, hold=3, false_per_1000=1000.0) == 0.5


def run(method, x):
    return jax.jit(lambda x: jax.lax.scan(method.update, method.init(), x)[1])(jnp.asarray(x, jnp.float32))


@pytest.mark.parametrize("method", [PageHinkley(tolerance=0.5), Adwin(), Kswin()], ids=lambda m: type(m).__name__)
def test_other_detectors_fire_after_a_step_and_not_before(method):
    x = np.random.default_rng(0).standard_normal(400) + 5 * (np.arange(400) >= 200)
    alarms = np.flatnonzero(run(method, x).alarm)
    assert len(alarms) and 200 <= alarms[0] <= 240
    assert not run(method, np.zeros(300)).alarm.any()


def test_adwin_drops_what_is_older_than_the_step():
    x = np.random.default_rng(0).standard_normal(300) * 0.1 + (np.arange(300) >= 200)
    verdict = run(Adwin(), x)
    assert abs(int(verdict.start[-1]) - 200) <= 5


def test_pelt_is_the_optimum_over_all_partitions(x64):
    x = np.random.default_rng(1).standard_normal((9, 2)) + np.array([0, 3.0])[:, None].repeat([4, 5], 0)

    def cost(starts):
        pieces = np.split(x, starts)
        return sum(((p - p.mean(axis=0)) ** 2).sum() for p in pieces) + 2.0 * len(starts)

    possible = [list(c) for n in range(9) for c in combinations(range(1, 9), n)]
    assert pelt(x, penalty=2.0) == [0, *min(possible, key=cost)]
    assert min(np.diff([*pelt(x, penalty=0.01, least=3), 9])) >= 3


def test_pelt_agrees_with_the_peer(x64):
    peer = pytest.importorskip("ruptures", reason="compares with ruptures, which is not installed")
    x = np.random.default_rng(2).standard_normal((150, 1)) + np.repeat([0.0, 1.5, -1.0], 50)[:, None]
    theirs = peer.Pelt(model="l2", min_size=2, jump=1).fit(x).predict(pen=10.0)[:-1]
    assert pelt(x, penalty=10.0, least=2) == [0, *theirs]

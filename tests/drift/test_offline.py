"""The likeliest segmentation against enumeration, and the learned default's choice."""

from itertools import combinations

import jax.numpy as jnp
import numpy as np

from jaxsci.drift.hazard import ConstantHazard, RefractoryHazard
from jaxsci.drift.learned import DEFAULT, Grid, choose, leave_one_out, segment_all
from jaxsci.drift.offline import likeliest_runs, segmentation
from jaxsci.drift.segments import Autoregressive, Gaussian


def best_by_enumeration(segment, hazard, x):
    best, found = -np.inf, None
    for count in range(4):
        for changes in combinations(range(1, len(x)), count):
            score, run, statistics, memory = 0.0, 0, segment.empty(), segment.memory()
            for t, value in enumerate(x):
                memory, z = segment.observe(memory, value, jnp.ones(1, bool))
                predicted, statistics = segment.step(statistics, z, jnp.ones(1, bool))
                log_end, log_go_on = hazard.log_probabilities(jnp.array([float(run)]), jnp.zeros(0))
                end = t + 1 in changes
                score += float(predicted) + float((log_end if end else log_go_on)[0])
                run, statistics = (0, segment.empty()) if end else (run + 1, statistics)
            if score > best:
                best, found = score, [0, *changes]
    return found


def test_likeliest_segmentation_equals_the_best_of_all(x64):
    x = jnp.asarray(np.array([0.1, -0.2, 0.0, 4.1, 3.8, 4.0, 4.2, -3.0])[:, None])
    for segment in (Gaussian(beta=0.1), Autoregressive(beta=0.1)):
        hazard = ConstantHazard(6.0)
        ended, alive = (np.asarray(a) for a in likeliest_runs(segment, hazard, x))
        assert segmentation(ended, alive) == best_by_enumeration(segment, hazard, x)


def test_no_segment_is_shorter_than_the_least(x64, step_series):
    x = jnp.asarray(step_series).at[20].set(30.0).at[21].set(-30.0)
    ended, alive = likeliest_runs(Gaussian(), RefractoryHazard(10.0, 15.0), x)
    found = segmentation(np.asarray(ended), np.asarray(alive))
    assert min(np.diff(found)) >= 15
    assert min(abs(np.array(found) - 50)) <= 1


def test_the_default_finds_a_step_and_not_a_slow_wander(x64):
    rng = np.random.default_rng(5)
    step = rng.standard_normal(120) + 8 * (np.arange(120) >= 60)
    wander = np.zeros(120)
    for t in range(1, 120):
        wander[t] = 0.9 * wander[t - 1] + rng.standard_normal()
    values = [((x - x.mean()) / x.std(ddof=1))[:, None] for x in (step, wander)]
    known = [np.ones(x.shape, bool) for x in values]
    (found,) = segment_all(values, known, [DEFAULT])
    assert found == [[0, 60], [0]]


def test_choice_is_by_marginal_means_and_leaves_the_series_out():
    grid = Grid(
        mean_run=(10.0, 100.0), lag_precision=(1.0, 2.0), intercept_precision=(1.0,), alpha=(1.0,), noise=(1.0,)
    )
    settings = grid.settings()
    assert len(settings) == 4
    # Setting 0 is best on series 0 alone; both others prefer mean_run 100.
    score = np.array([[9.0, 0.0, 0.0], [0.0, 0.0, 0.1], [1.0, 1.0, 1.0], [1.0, 1.0, 1.2]])
    assert settings[choose(settings, score[:, 1:])]["mean_run"] == 100.0
    assert leave_one_out(settings, score)[0] == 3
    assert settings[leave_one_out(settings, score)[1]]["mean_run"] == 10.0

"""Networks from parameters to series: what they see, what they do not, and that training finds what is there."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import DataError
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.emulators.network_training import TrainingConfig, fit_networks
from jaxsci.emulators.sequence import AutoregressiveLstm, NaLstm, NaMlp, NaTcn
from jaxsci.emulators.sequence.layers import dropped, scan_lstm
from jaxsci.emulators.trajectory import (
    TrajectoryEmulator,
    TrajectoryEnsemble,
    TrajectoryScale,
    predict_flagged,
)
from jaxsci.emulators.uncertainty import calibration, dropout_prediction, ensemble_prediction, spread_factor

KEY = jax.random.key(0)
FEATURES, TIMES, MODES = 3, 7, 5
BUILDERS = {
    "na_lstm": lambda key: NaLstm(FEATURES, TIMES, MODES, width=6, embedding=8, key=key),
    "na_blstm": lambda key: NaLstm(FEATURES, TIMES, MODES, width=6, embedding=8, both_ways=True, key=key),
    "na_mlp": lambda key: NaMlp(FEATURES, TIMES, MODES, width=8, waves=4, key=key),
    "na_tcn": lambda key: NaTcn(FEATURES, TIMES, MODES, width=8, waves=4, key=key),
}


def drawn(network, key=KEY):
    """With weights everywhere: heads start at zero."""
    arrays, rest = eqx.partition(network, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(arrays)
    keys = jax.random.split(key, len(leaves))
    new = [0.5 * jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(tree, new), rest)


@pytest.mark.parametrize("name", BUILDERS)
def test_shape_and_start_at_the_mean_trajectory(name):
    network = BUILDERS[name](KEY)
    np.testing.assert_array_equal(network(jnp.ones(FEATURES)), np.zeros((TIMES, MODES)))
    assert np.abs(drawn(network)(jnp.ones(FEATURES))).min() > 0


def test_lstm_scan_is_the_cell_applied_step_by_step():
    cell = eqx.nn.LSTMCell(4, 3, key=KEY)
    inputs = jax.random.normal(KEY, (5, 4))
    state = (jnp.zeros(3), jnp.zeros(3))
    for k, x in enumerate(inputs):
        state = cell(x, state)
        np.testing.assert_allclose(scan_lstm(cell, inputs)[k], state[0], rtol=1e-5, atol=1e-6)  # float32
    np.testing.assert_allclose(
        scan_lstm(cell, inputs, reverse=True), scan_lstm(cell, inputs[::-1])[::-1], rtol=1e-5, atol=1e-6
    )


def influence(network):
    """Whether mode j's projection changes the series of mode k."""
    network = drawn(network)
    at = lambda p: eqx.tree_at(lambda n: n.projections, network, p)(jnp.ones(FEATURES))  # noqa: E731
    slope = jax.jacfwd(at)(network.projections)  # (times, modes, modes, width, embedding)
    return np.abs(slope).max((0, 3, 4)) > 0


def test_the_recurrence_runs_over_the_modes_not_over_time():
    one_way, both_ways = influence(BUILDERS["na_lstm"](KEY)), influence(BUILDERS["na_blstm"](KEY))
    np.testing.assert_array_equal(one_way, np.tril(np.ones((MODES, MODES), bool)))
    assert both_ways.all()
    network = drawn(BUILDERS["na_blstm"](KEY))
    order = jnp.array([1, 0, 2, 3, 4])
    permuted = eqx.tree_at(lambda n: n.projections, network, network.projections[order])
    ahead, behind = network(jnp.ones(FEATURES)), permuted(jnp.ones(FEATURES))
    assert np.abs(np.asarray(behind) - np.asarray(ahead)[:, order]).max() > 1e-3  # the order of the modes matters
    # The number of times is the width of the head and nothing else.
    sizes = [{leaf.shape for leaf in jax.tree.leaves(NaLstm(2, t, 3, key=KEY)) if eqx.is_array(leaf)} for t in (5, 9)]
    assert {s for s in sizes[0] ^ sizes[1]} == {(5, 96), (5,), (9, 96), (9,)}


def test_convolutions_are_causal_and_reach_the_beginning():
    network = drawn(BUILDERS["na_tcn"](KEY))
    block = network.blocks[0]
    slope = jax.jacfwd(block)(jnp.ones((TIMES, 8)))
    seen = np.abs(slope).max((1, 3)) > 0
    expected = np.array([[j in (k, k - 1, k - 2) for j in range(TIMES)] for k in range(TIMES)])
    np.testing.assert_array_equal(seen, expected)
    assert sum(2 * b.dilation for b in network.blocks) >= TIMES - 1


def test_a_perceptron_writes_cosines():
    wide = NaMlp(FEATURES, 6, 2, waves=99, key=KEY)
    assert wide.waves == 6
    network = drawn(NaMlp(FEATURES, 50, 2, waves=1, key=KEY))
    assert np.ptp(network(jnp.ones(FEATURES)), axis=0).max() < 1e-5  # one wave is a constant in time


def test_autoregression_feeds_back_its_own_answers():
    network = drawn(AutoregressiveLstm(FEATURES, 2, width=4, depth=2, key=KEY))
    states, features = jax.random.normal(KEY, (3, 2)), jnp.ones(FEATURES)
    found, states = network.continue_from(states, features, 3), list(states)
    for k in range(3):
        states.append(network(jnp.stack(states[-3:]), features))
        np.testing.assert_allclose(found[k], states[-1], rtol=1e-5, atol=1e-6)  # float32


def test_dropout_keeps_the_mean_and_is_off_without_a_key():
    x = jnp.ones(10_000)
    np.testing.assert_array_equal(dropped(x, 0.3, None), x)
    some = dropped(x, 0.3, KEY)
    assert float(some.mean()) == pytest.approx(1.0, abs=0.03)  # 3 standard errors of sqrt(0.3 / 0.7 / 10000)
    assert float((some == 0).mean()) == pytest.approx(0.3, abs=0.015)


def bilinear(runs: int, seed: int):
    """Series that are smooth in their two parameters."""
    rng = np.random.default_rng(seed)
    parameters = rng.uniform(-1, 1, (runs, 2))
    time = np.linspace(0, 1, TIMES)[:, None] * np.arange(1, MODES + 1)
    series = 3 + parameters[:, :1, None] * np.sin(time) + parameters[:, 1:, None] * np.cos(time) * 0.5
    return parameters.astype(np.float32), series.astype(np.float32)


def encode(p):
    return jnp.concatenate([p, jnp.ones(1)])


@pytest.fixture(scope="module")
def fitted():
    """An ensemble of three trained on 40 runs."""
    parameters, series = bilinear(40, 0)
    scale = TrajectoryScale.fit(series)

    def error(network, sample, *, key):
        return jnp.mean(jnp.square(network(encode(sample[0]), key=key) - sample[1]))

    samples = (jnp.asarray(parameters), scale.standardise(jnp.asarray(series)))
    train, validation = (jax.tree.map(lambda a, s=s: a[s], samples) for s in (slice(0, 32), slice(32, 40)))
    build = lambda key: NaMlp(3, TIMES, MODES, width=16, depth=1, dropout=0.1, key=key)  # noqa: E731
    config = TrainingConfig(
        members=3, steps=300, batch_size=32, evaluate_every=50, optimizer=OptimizerConfig(learning_rate=1e-2)
    )
    found = fit_networks(build, error, train, validation, config, key=KEY)
    scales = jax.tree.map(lambda a: jnp.broadcast_to(a, (3, *a.shape)), scale)
    return TrajectoryEnsemble(TrajectoryEmulator(found.members, scales, encode)), found


def test_training_learns_what_unseen_runs_do(fitted):
    ensemble, found = fitted
    parameters, series = bilinear(20, 1)
    predicted = jax.vmap(ensemble)(jnp.asarray(parameters))
    left = np.mean(np.square(predicted - series)) / np.mean(np.square(series - series.mean(0)))
    assert left < 0.05  # the mean trajectory, where training starts, leaves 1
    assert found.best_step > 0 and found.validation_loss < 0.1 and not found.interrupted


def test_an_ensemble_is_the_mean_of_its_members_and_scatters(fitted):
    ensemble, _ = fitted
    parameters = jnp.asarray(bilinear(4, 2)[0])
    found = ensemble_prediction(ensemble, parameters)
    each = jax.vmap(ensemble.each)(parameters)
    np.testing.assert_allclose(found.mean, each.mean(1), rtol=1e-5)
    np.testing.assert_allclose(found.spread, np.std(each, axis=1, ddof=1), rtol=1e-3, atol=1e-6)
    member = jax.tree.map(lambda leaf: leaf[0] if eqx.is_array(leaf) else leaf, ensemble.members)
    drawn_often = dropout_prediction(member, parameters, 200, key=KEY)
    assert float(drawn_often.spread.min()) > 0
    # 200 draws: a mean is known to a fifteenth of the spread, and dropout is nearly unbiased for one layer.
    off = np.abs(drawn_often.mean - jax.vmap(member)(parameters)) / drawn_often.spread
    assert np.median(off) < 0.3


def test_runs_outside_the_range_are_flagged(fitted):
    inside = lambda p: np.all(np.abs(p) <= 1, axis=-1)  # noqa: E731
    answer = predict_flagged(fitted[0], inside, np.array([[0.5, 0.5], [0.5, 1.5]]))
    np.testing.assert_array_equal(answer.outside, [False, True])
    assert answer.trajectories.shape == (2, TIMES, MODES)


def test_calibration_knows_right_spreads_from_wrong_ones():
    rng = np.random.default_rng(0)
    error = rng.standard_normal((10, 40, 50)).astype(np.float32)
    right = calibration(error, np.ones_like(error))
    assert right.coverage_90 == pytest.approx(0.9, abs=0.01)  # 20000 values: three standard errors are 0.006
    assert right.spread_over_error == pytest.approx(1.0, abs=0.02)
    narrow = 0.5 * np.ones_like(error)
    assert calibration(error, narrow).coverage_90 < 0.65
    factor = spread_factor(error, narrow)
    assert factor == pytest.approx(2.0, rel=0.03)
    assert calibration(error, narrow, factor).coverage_90 == pytest.approx(0.9, abs=1e-3)


def test_one_run_has_no_spread():
    with pytest.raises(DataError, match="2 or more"):
        TrajectoryScale.fit(np.zeros((1, 3, 2), np.float32))

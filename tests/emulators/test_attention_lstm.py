"""AIEADA's network: its cell is an LSTM, it learns a map of windows, its spans share no day."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.emulators.attention_lstm import AttentionLstm, AttentionLstmConfig, Lstm, pairs, train_attention_lstm


def test_with_tanh_the_cell_is_equinox_lstm():
    ours = Lstm(3, 5, jnp.tanh, key=jax.random.key(0))
    theirs = eqx.nn.LSTMCell(3, 5, key=jax.random.key(1))
    theirs = eqx.tree_at(
        lambda cell: (cell.weight_ih, cell.weight_hh, cell.bias), theirs, (ours.inputs, ours.recurrent, ours.bias)
    )
    sequence = jax.random.normal(jax.random.key(2), (7, 3))
    state, expected = (jnp.zeros(5), jnp.zeros(5)), []
    for entry in sequence:
        state = theirs(entry, state)
        expected.append(state[0])
    np.testing.assert_allclose(ours(sequence), jnp.stack(expected), atol=1e-6)  # float32


def test_windows_and_what_follows_them():
    found = pairs(np.arange(10.0)[:, None], 3, 2)
    assert len(found.inputs) == len(found.targets) == 6
    np.testing.assert_array_equal(found.inputs[5, :, 0], [5, 6, 7])
    np.testing.assert_array_equal(found.targets[5, :, 0], [8, 9])
    with pytest.raises(ConfigError, match="spans of 5 days"):
        pairs(np.zeros((4, 1)), 3, 2)


def test_every_lead_is_a_weighted_mean_of_the_value_sequence():
    """With equal values at all leads attention cannot tell them apart: the head of that value, whatever the query."""
    network = AttentionLstm(jnp.zeros(2), jnp.ones(2), 4, 3, key=jax.random.key(0))
    network = eqx.tree_at(lambda n: n.value.inputs, network, jnp.zeros_like(network.value.inputs))
    network = eqx.tree_at(lambda n: n.value.bias, network, jnp.zeros_like(network.value.bias))
    found = network(jax.random.normal(jax.random.key(1), (6, 2)))
    np.testing.assert_allclose(found, jnp.broadcast_to(network.head(jnp.zeros(3)), (4, 2)), atol=1e-6)


def test_training_learns_a_wave_better_than_its_mean():
    days = np.arange(400)
    wave = np.stack([np.sin(0.3 * days), np.cos(0.3 * days)], axis=1) * [3.0, 1.0] + [10.0, -5.0]
    seen = []
    trained = train_attention_lstm(
        pairs(wave[:300], 12, 4),
        pairs(wave[300:], 12, 4),
        AttentionLstmConfig(width=12, epochs=40, batches=20, learning_rate=1e-2),
        key=jax.random.key(0),
        on_epoch=lambda epoch, loss, rate: seen.append(loss),
    )
    assert trained.validation_loss == min(seen)
    assert trained.validation_loss < 0.1 * np.var(wave[:, 0]) / np.ptp(wave[:, 0]) ** 2  # of scaled coefficients
    window, after = wave[350:362], wave[362:366]
    error = np.asarray(trained.network(jnp.asarray(window, jnp.float32))) - after
    assert np.sqrt(np.mean(error**2)) < 0.5 * np.sqrt(np.mean((wave.mean(axis=0) - after) ** 2))

"""One key, one stream; another key, another."""

import jax
import numpy as np

from jaxsci.core.host_random import generator


def test_a_key_is_a_seed():
    key = jax.random.key(3)
    draws = [generator(k).random(1000) for k in (key, key, *jax.random.split(key, 2))]
    np.testing.assert_array_equal(draws[0], draws[1])
    correlation = np.corrcoef(draws[1:]) - np.eye(3)
    assert np.abs(correlation).max() < 5 / np.sqrt(1000)  # five standard deviations of independent streams

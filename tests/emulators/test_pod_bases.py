"""Every way to the leading modes finds the same subspace, and says what it holds."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError
from jaxsci.emulators import Pod
from jaxsci.emulators.pod_bases import leading, sign_fixed, streamed

pytestmark = pytest.mark.usefixtures("x64")
RNG = np.random.default_rng(0)
LOW_RANK = RNG.normal(size=(60, 6)) @ RNG.normal(size=(6, 25))
DECAYING = RNG.normal(size=(60, 25)) @ np.diag(2.0 ** -np.arange(25)) @ np.linalg.qr(RNG.normal(size=(25, 25)))[0]


def angle(a, b):
    """Sine of the largest angle between two subspaces."""
    return np.linalg.norm(a - b @ (b.T @ a), 2)


@pytest.mark.parametrize("matrix", [DECAYING, DECAYING[:15]], ids=["tall", "wide"])
@pytest.mark.parametrize("method", ["snapshots", "randomised", "streaming"])
def test_subspace_and_singular_values_are_those_of_the_svd(method, matrix):
    exact, found = leading(matrix, 5), leading(matrix, 5, method)
    # Squares in the Gram matrix and what sketch and stream cut off: 2^-15 of the first at worst, squared or powered.
    assert angle(found.vectors, exact.vectors) < 1e-5
    np.testing.assert_allclose(found.singular, exact.singular, rtol=1e-6)


def test_a_stream_is_exact_where_the_data_have_few_dimensions():
    whole = leading(LOW_RANK, 6)
    for batches in (LOW_RANK[:10], LOW_RANK[10:13], LOW_RANK[13:]), np.array_split(LOW_RANK, 20):
        found = streamed(batches, 6)
        assert angle(found.vectors, whole.vectors) < 1e-10
        np.testing.assert_allclose(found.singular, whole.singular, rtol=1e-10)


@pytest.mark.parametrize("method", ["svd", "snapshots", "randomised", "streaming"])
def test_the_largest_entry_of_each_mode_is_positive(method):
    vectors = leading(DECAYING, 5, method).vectors
    assert (vectors[np.argmax(np.abs(vectors), 0), np.arange(5)] > 0).all()
    flipped = sign_fixed(leading(-DECAYING, 5, method))
    assert np.abs(flipped.vectors - vectors).max() < 1e-6


@pytest.mark.parametrize("method", ["svd", "randomised"])
def test_centring_takes_the_mean_off_and_puts_it_back(method):
    snapshots = DECAYING + 10 + np.arange(25)
    pod = Pod.fit(snapshots, np.ones(25), 8, centre="mean", method=method)
    np.testing.assert_allclose(np.asarray(pod.mean), snapshots.mean(0), rtol=1e-12)
    np.testing.assert_allclose(pod.encode(jnp.asarray(snapshots)).mean(0), 0, atol=1e-10)
    back = pod.decode(pod.encode(jnp.asarray(snapshots)))
    left = np.sum(np.square(back - snapshots)) / np.sum(np.square(snapshots - snapshots.mean(0)))
    assert left == pytest.approx(1 - pod.captured, rel=1e-6)
    plain = Pod.fit(snapshots, np.ones(25), 1, method=method)
    assert plain.captured > 0.99  # without centring the mean is the first mode, and says nothing of the rest


def test_a_sketch_knows_the_next_directions_if_asked():
    exact = Pod.fit(DECAYING, np.ones(25), 4)
    sketched = Pod.fit(DECAYING, np.ones(25), 4, method="randomised", extra=8)
    assert sketched.truncated.shape == (25, 8)
    covariance = np.asarray(exact.truncated @ exact.truncated.T)
    # Of the remainder, directions 5 to 12 are known; variances halve twice each, so 2^-16 of it is left.
    np.testing.assert_allclose(sketched.truncated @ sketched.truncated.T, covariance, atol=2**-16 * covariance.max())


def test_more_modes_than_snapshots_are_refused_whatever_the_method():
    with pytest.raises(ConfigError, match="modes: expected 1 to 8"):
        Pod.fit(DECAYING[:8], np.ones(25), 9, method="randomised")

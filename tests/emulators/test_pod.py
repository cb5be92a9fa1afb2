"""Proper orthogonal decomposition: weighted orthonormality, Pythagoras, optimality, and what it leaves out."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsci.core.errors import ConfigError
from jaxsci.emulators import Pod

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(1)
WEIGHTS = RNG.uniform(0.2, 1.8, size=12)
SNAPSHOTS = RNG.normal(size=(60, 12)) @ (RNG.normal(size=(12, 12)) * np.geomspace(10, 0.1, 12))
# Rounding of sums of 60 to 720 products of values up to about 100.
EXACT: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-10}


def norm2(field):
    """Mean over days of the weighted squared norm."""
    return np.mean(np.sum(WEIGHTS * np.square(field), -1))


@pytest.mark.parametrize("modes", [1, 4, 12])
def test_modes_are_orthonormal_in_the_weighted_product(modes):
    pod = Pod.fit(SNAPSHOTS, WEIGHTS, modes)
    np.testing.assert_allclose((pod.modes.T * WEIGHTS) @ pod.modes, np.eye(modes), atol=1e-12)


def test_encode_undoes_decode_and_projection_repeats_itself():
    pod = Pod.fit(SNAPSHOTS, WEIGHTS, 5)
    coefficients = jnp.asarray(RNG.normal(size=(3, 2, 5)))
    np.testing.assert_allclose(pod.encode(pod.decode(coefficients)), coefficients, **EXACT)
    once = pod.decode(pod.encode(jnp.asarray(SNAPSHOTS)))
    np.testing.assert_allclose(pod.decode(pod.encode(once)), once, **EXACT)


def test_all_modes_reconstruct_everything():
    pod = Pod.fit(SNAPSHOTS, WEIGHTS, 12)
    np.testing.assert_allclose(pod.decode(pod.encode(jnp.asarray(SNAPSHOTS))), SNAPSHOTS, **EXACT)
    assert pod.truncated.shape == (12, 0) and pod.captured == pytest.approx(1.0, rel=1e-15)


@pytest.mark.parametrize("modes", [1, 4, 11])
def test_pythagoras_and_captured_variance(modes):
    pod = Pod.fit(SNAPSHOTS, WEIGHTS, modes)
    kept = np.asarray(pod.decode(pod.encode(jnp.asarray(SNAPSHOTS))))
    np.testing.assert_allclose(norm2(kept) + norm2(SNAPSHOTS - kept), norm2(SNAPSHOTS), **EXACT)
    np.testing.assert_allclose(np.sum(pod.variance), norm2(kept), **EXACT)
    np.testing.assert_allclose(pod.captured, norm2(kept) / norm2(SNAPSHOTS), **EXACT)


@pytest.mark.parametrize("modes", [1, 4, 11])
def test_truncated_is_the_factor_of_the_covariance_left_out(modes):
    pod = Pod.fit(SNAPSHOTS, WEIGHTS, modes)
    rest = SNAPSHOTS - np.asarray(pod.decode(pod.encode(jnp.asarray(SNAPSHOTS))))
    np.testing.assert_allclose(pod.truncated @ pod.truncated.T, rest.T @ rest / len(rest), **EXACT)
    kept = pod.modes * pod.variance @ pod.modes.T
    whole = SNAPSHOTS.T @ SNAPSHOTS / len(SNAPSHOTS)
    np.testing.assert_allclose(kept + pod.truncated @ pod.truncated.T, whole, **EXACT)


def test_variance_is_that_of_each_coefficient_and_falls_and_coefficients_are_uncorrelated():
    pod = Pod.fit(SNAPSHOTS, WEIGHTS, 12)
    coefficients = np.asarray(pod.encode(jnp.asarray(SNAPSHOTS)))
    np.testing.assert_allclose(coefficients.T @ coefficients / 60, np.diag(pod.variance), **EXACT)
    assert (np.diff(pod.variance) < 0).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_no_other_basis_of_the_size_captures_more(seed):
    best = Pod.fit(SNAPSHOTS, WEIGHTS, 3).captured
    scaled = SNAPSHOTS * np.sqrt(WEIGHTS)
    rng = np.random.default_rng(seed)
    # Bases from unrelated to nearly the best one.
    near = np.linalg.svd(scaled)[2][:3].T + rng.choice([0.01, 0.3, 10]) * rng.normal(size=(12, 3))
    basis = np.linalg.qr(near)[0]
    assert np.sum(np.square(scaled @ basis)) / np.sum(np.square(scaled)) <= best + 1e-14


@pytest.mark.parametrize("modes", [0, -1, 13])
def test_impossible_numbers_of_modes(modes):
    with pytest.raises(ConfigError, match=rf"modes: expected .*12 .*60 snapshots of 12 points.*got {modes}"):
        Pod.fit(SNAPSHOTS, WEIGHTS, modes)
    with pytest.raises(ConfigError, match=r"expected .*8 .*8 snapshots"):
        Pod.fit(SNAPSHOTS[:8], WEIGHTS, 9)

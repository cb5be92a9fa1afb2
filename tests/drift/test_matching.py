"""Moments matched exactly, covariances recoloured, laws recovered, medians weighted, regimes recognised."""

import jax.numpy as jnp
import numpy as np

from jaxsci.drift.changepoint import DEAD
from jaxsci.drift.matching import affine_law, class_median, class_moments, coral, match_moments, since_change
from jaxsci.drift.regimes import recall, remember


def test_matched_values_have_the_new_moments_of_each_class(x64):
    rng = np.random.default_rng(0)
    kind = jnp.asarray(rng.integers(0, 3, 300))
    y = jnp.asarray(rng.standard_normal(300) + np.asarray(kind))
    new_kind = jnp.asarray(np.repeat([0, 1], 40))
    new_y = jnp.asarray(5 + 2 * rng.standard_normal(80))
    old = class_moments(y, kind, jnp.ones(300), kinds=3)
    new = class_moments(new_y, new_kind, jnp.ones(80), kinds=3)
    moved = match_moments(y, kind, old, new, shrinkage=0.0)
    after = class_moments(moved, kind, jnp.ones(300), kinds=3)
    np.testing.assert_allclose(after.mean[:2], new.mean[:2], rtol=1e-10)
    np.testing.assert_allclose(after.deviation[:2], new.deviation[:2], rtol=1e-10)
    np.testing.assert_array_equal(moved[kind == 2], y[kind == 2])  # a class without new samples


def test_recoloured_samples_have_the_new_mean_and_covariance(x64):
    rng = np.random.default_rng(1)
    old = jnp.asarray(rng.standard_normal((500, 3)) @ np.diag([1.0, 3.0, 0.5]) + 2)
    new = jnp.asarray(rng.standard_normal((400, 3)) @ rng.standard_normal((3, 3)) - 1)
    moved = coral(old, jnp.ones(500), new, jnp.ones(400), ridge=0.0)
    np.testing.assert_allclose(moved.mean(axis=0), new.mean(axis=0), atol=1e-9)
    # 1e-5: the floor added to both covariances.
    np.testing.assert_allclose(jnp.cov(moved.T, ddof=0), jnp.cov(new.T, ddof=0), rtol=1e-4, atol=1e-4)


def test_recolouring_with_fewer_samples_than_dimensions_is_finite():
    rng = np.random.default_rng(2)
    old = jnp.asarray(rng.standard_normal((50, 8)), jnp.float32)
    assert bool(jnp.isfinite(coral(old, jnp.ones(50), old[:4] + 1, jnp.ones(4))).all())


def test_an_affine_law_is_recovered_and_the_prior_is_no_change(x64):
    y = jnp.linspace(0, 4, 200)
    law = affine_law(y, 1.5 + 0.5 * y, jnp.ones(200))
    np.testing.assert_allclose(law.coefficients, [1.5, 0.5], atol=0.05)  # the prior is worth one sample
    np.testing.assert_allclose(affine_law(y, y, jnp.zeros(200)).coefficients, [0.0, 1.0], atol=1e-12)
    mean, deviation = law(y)
    assert bool((jnp.abs(mean - 1.5 - 0.5 * y) < 2 * deviation).all())


def test_class_median_is_numpy_s_and_heeds_weights(x64):
    rng = np.random.default_rng(3)
    y, kind = rng.standard_normal(41), rng.integers(0, 4, 41)
    kind[kind == 3] = 0
    medians, counts = class_median(jnp.asarray(y), jnp.asarray(kind), jnp.ones(41), kinds=4)
    for k in range(3):
        np.testing.assert_allclose(medians[k], np.median(y[kind == k]), rtol=1e-12)
    assert counts[3] == 0 and np.isclose(medians[3], np.median(y))  # nothing of that class: the median of all
    doubled = np.r_[y, y[:20]]
    weight = np.where(np.arange(41) < 20, 2.0, 1.0)
    weighted = class_median(jnp.asarray(y), jnp.zeros(41, int), jnp.asarray(weight), kinds=1)[0][0]
    np.testing.assert_allclose(weighted, np.median(doubled), rtol=1e-12)


def test_weights_since_a_known_change():
    log_mass = jnp.full(11, DEAD).at[4].set(jnp.log(0.75)).at[2].set(jnp.log(0.25))
    expected = [0, 0, 0.75, 0.75, 1, 1]  # of the last six points, oldest first
    np.testing.assert_allclose(since_change(log_mass, 6), expected, atol=1e-6)


def test_a_returning_level_is_recognised_kind_by_kind(x64):
    """Kind 0 returns to its first level, kind 1 goes where it has never been."""
    rng = np.random.default_rng(4)
    regime = np.repeat([0, 1], 60)
    kind = np.tile([0, 1], 60)
    levels = np.array([[1.0, 2.0], [3.0, 4.0]])
    y = levels[regime, kind] + 0.02 * rng.standard_normal(120)
    past = remember(jnp.asarray(y), jnp.asarray(kind), jnp.ones(120), jnp.asarray(regime), kinds=2, regimes=2)
    new_kind = jnp.asarray([0, 1] * 10)
    new = jnp.asarray(np.array([1.0, 5.5] * 10) + 0.02 * rng.standard_normal(20))
    found = recall(past, new, new_kind, jnp.ones(20))
    assert found.returned[0, 0] > 0.6  # an even chance of a new level beforehand
    assert found.returned[:, 1].sum() < 0.01
    np.testing.assert_allclose(found.level, [1.0, 5.5], atol=0.03)

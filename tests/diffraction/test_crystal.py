"""Bodies have the volumes, habits and limits that geometry gives them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.diffraction import crystal

AXIS = np.arange(-20, 21).astype(float)
POINTS = np.stack(np.meshgrid(AXIS, AXIS, AXIS, indexing="ij"), -1)


def test_a_superellipsoid_of_exponent_two_is_an_ellipsoid(x64):
    axes = np.array([9.0, 11.0, 13.0])
    volume = float(crystal.superellipsoid(jnp.asarray(axes), 2.0, jnp.asarray(POINTS)).sum())
    # The logistic face of width s (in units of the radius) has <r^3> = 1 + pi^2 s^2; sums over a smooth body are exact.
    widening = 1 + (np.pi * 0.35 / axes.min()) ** 2
    assert volume == pytest.approx(4 / 3 * np.pi * axes.prod() * widening, rel=1e-3)


def test_a_superellipsoid_of_large_exponent_is_a_box(x64):
    axes = np.array([8.5, 10.5, 12.5])  # halfway between points, so that counting them is the volume
    inside = crystal.superellipsoid(jnp.asarray(axes), 60.0, jnp.asarray(POINTS)) > 0.5
    assert int(inside.sum()) == pytest.approx((2 * axes).prod(), rel=0.02)  # what rounded edges lack


def test_a_substrate_cuts_off_what_is_behind_it(x64):
    body = crystal.wulff(radius=10.0, ratio=1.15, jitter=0.0, key=jax.random.key(0))
    up = jnp.array([0.0, 0.0, 1.0])
    whole = crystal.support(body, jnp.asarray(POINTS))
    far = crystal.support(crystal.on_substrate(body, up, 100.0), jnp.asarray(POINTS))
    half = crystal.support(crystal.on_substrate(body, up, 0.0), jnp.asarray(POINTS))
    np.testing.assert_allclose(far, whole, atol=1e-12)  # sigmoid(80 / 0.35) is 1 in float64
    assert float(half.sum() / whole.sum()) == pytest.approx(0.5, abs=1e-6)  # a soft cut through a centre of symmetry


def test_random_cuts_are_convex_bodies_of_about_their_radius(x64):
    body = crystal.random_cuts(radius=8.0, facets=14, key=jax.random.key(1))
    np.testing.assert_allclose(jnp.linalg.norm(body.normals, axis=1), 1.0, rtol=1e-6)  # float32 draws
    assert float(body.distances.min()) >= 6.0 and float(body.distances.max()) <= 10.0
    assert float(crystal.support(body, jnp.zeros(3))) > 0.99  # no cut reaches the centre


def test_on_a_grid_the_support_is_the_same(x64):
    body = crystal.wulff(radius=7.0, ratio=1.2, key=jax.random.key(2))
    axis = AXIS[8:33]
    places = jnp.asarray(np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3))
    ours = crystal.support_on_grid(body, crystal.grid_points(axis))
    np.testing.assert_allclose(ours, crystal.support(body, places), atol=1e-5)  # float32

"""Optimal interpolation is the best linear unbiased estimate, in each of its forms."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import (
    Background,
    LinearOperator,
    Window,
    assimilate,
    covariance_root,
    observe,
    optimal_interpolation,
)

pytestmark = pytest.mark.usefixtures("x64")

solve = eqx.filter_jit(assimilate)

RNG = np.random.default_rng(0)
H = RNG.normal(size=(5, 3))
ROOT_B, ROOT_R = RNG.normal(size=(3, 3)), RNG.normal(size=(5, 5))
B, R = ROOT_B @ ROOT_B.T, ROOT_R @ ROOT_R.T + np.eye(5)
VALUES = RNG.normal(size=(7, 5))


def interpolate(values, h=H, b=B, r=R):
    return optimal_interpolation(*(jnp.asarray(a) for a in (values, h, b, r)))


def test_equals_the_information_form():
    # (B^-1 + H' R^-1 H)^-1 H' R^-1 y, by the matrix inversion lemma. Conditioning of the random B costs three digits.
    information = np.linalg.inv(B) + H.T @ np.linalg.solve(R, H)
    expected = np.linalg.solve(information, H.T @ np.linalg.solve(R, VALUES.T)).T
    np.testing.assert_allclose(interpolate(VALUES), expected, rtol=1e-9, atol=1e-11)


def test_equals_variational_analysis_of_one_time():
    background = Background(jnp.zeros(3), covariance_root(B))
    for values, found in zip(VALUES, interpolate(VALUES), strict=True):
        observations = observe(jnp.asarray(values)[None], LinearOperator(jnp.asarray(H)), jnp.asarray(R))
        solution = solve(Window(lambda x: x, background, observations))
        np.testing.assert_allclose(solution.value[0], found, atol=1e-11)  # both exact up to rounding


def test_no_linear_estimate_has_a_smaller_error_variance():
    gain = np.asarray(interpolate(np.eye(5))).T

    def variance(k):
        left = np.eye(3) - k @ H
        return np.trace(left @ B @ left.T + k @ R @ k.T)

    best = variance(gain)
    for _ in range(20):
        assert variance(gain + 0.01 * RNG.normal(size=gain.shape)) > best


def test_limits_of_certainty():
    square = H[:3]
    exact = interpolate(VALUES[:, :3], square, B, 1e-12 * np.eye(3))
    # Perfect observations of everything: the state itself, up to R / B = 1e-12 amplified by conditioning.
    np.testing.assert_allclose(exact @ square.T, VALUES[:, :3], atol=1e-8)
    np.testing.assert_allclose(interpolate(VALUES, r=1e12 * R), 0, atol=1e-9)  # worthless ones: climatology

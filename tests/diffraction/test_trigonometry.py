"""Quick angles and phase factors: exact to rounding, with derivatives, and finite where the angle has none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.diffraction.trigonometry import angle, cosine_and_sine, unit_phasor


@pytest.mark.parametrize("largest", [1.0, 50.0, 1e4])
def test_phase_factors_are_right_to_rounding(largest):
    phase = np.random.default_rng(0).uniform(-largest, largest, 100_000).astype(np.float32)
    exact = np.exp(1j * phase.astype(np.float64))
    np.testing.assert_allclose(jax.jit(unit_phasor)(phase), exact, atol=2e-7)


def test_phase_factors_at_multiples_of_a_quarter_turn():
    phase = (np.arange(-9, 10) * np.pi / 2).astype(np.float32)
    np.testing.assert_allclose(unit_phasor(jnp.asarray(phase)), np.exp(1j * phase.astype(np.float64)), atol=1e-7)


def test_angles_are_right_to_rounding():
    y, x = np.random.default_rng(1).normal(size=(2, 100_000)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(angle)(y, x), np.arctan2(y.astype(float), x.astype(float)), atol=4e-7)


@pytest.mark.parametrize("y", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("x", [-1.0, 0.0, 1.0])
def test_angles_on_axes_and_diagonals(y, x):
    assert float(angle(jnp.float32(y), jnp.float32(x))) == pytest.approx(np.arctan2(y, x), abs=1e-6)


def test_derivatives_are_those_of_the_library():
    y, x, phase = (jnp.asarray(v, jnp.float32) for v in np.random.default_rng(2).normal(size=(3, 50)))
    ours, theirs = (jax.grad(lambda y, x, f=f: f(y, x).sum(), (0, 1))(y, x) for f in (angle, jnp.arctan2))
    np.testing.assert_allclose(jnp.stack(ours), jnp.stack(theirs), rtol=2e-5)
    slope = jax.grad(lambda p: jnp.sum(cosine_and_sine(p)[0] + 2 * cosine_and_sine(p)[1]))(phase)
    np.testing.assert_allclose(slope, -jnp.sin(phase) + 2 * jnp.cos(phase), atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_double_precision_is_the_library():
    phase = jnp.linspace(-1e6, 1e6, 1001)
    np.testing.assert_array_equal(unit_phasor(phase), jax.lax.complex(jnp.cos(phase), jnp.sin(phase)))
    assert angle(phase, -phase).dtype == jnp.float64


def test_the_origin_has_an_angle_and_a_slope():
    zero = jnp.float32(0)
    assert float(angle(zero, zero)) == 0
    assert jax.grad(angle, (0, 1))(zero, zero) == (0, 0)

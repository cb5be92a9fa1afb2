"""Fourier analysis on a circle, checks of resolution and periodicity, Burgers, Kuramoto-Sivashinsky on a torus."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import Burgers, KuramotoSivashinsky, KuramotoSivashinsky2D
from jaxsci.dynamics.attractor_statistics import energy, energy_spectrum
from jaxsci.dynamics.burgers import random_phases, shock
from jaxsci.dynamics.kuramoto_sivashinsky import long_waves
from jaxsci.dynamics.periodic import derivative, mode_noise, two_thirds
from jaxsci.dynamics.resolution import require_periodic, resolution_warning

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("points", [64, 63])
def test_derivatives_are_exact_on_waves_and_zero_at_the_shortest(points):
    x = 22.0 * np.arange(points) / points
    k = 2 * np.pi * 3 / 22.0
    for order, exact in ((1, k * np.cos(k * x)), (2, -(k**2) * np.sin(k * x)), (3, -(k**3) * np.cos(k * x))):
        np.testing.assert_allclose(derivative(jnp.sin(k * x), 22.0, order), exact, atol=1e-11)
    if points % 2 == 0:
        assert (derivative(jnp.asarray((-1.0) ** np.arange(points)), 22.0) == 0).all()


def test_the_mask_keeps_products_from_aliasing():
    kept = two_thirds(64)
    assert kept[21] and not kept[22]


def test_noise_lies_in_its_modes_with_its_size():
    u = mode_noise(jax.random.key(0), 64, range(20, 32), 0.1)
    np.testing.assert_allclose(jnp.sqrt(jnp.mean(u**2)), 0.1, rtol=1e-12)
    assert energy_spectrum(u)[:20].max() < 1e-30
    with pytest.raises(ConfigError, match="modes"):
        mode_noise(jax.random.key(0), 64, range(20, 33), 0.1)


def test_too_coarse_a_grid_is_told_with_the_number():
    model = lambda length: KuramotoSivashinsky(length, 0.25)  # noqa: E731
    run = lambda length, n: rollout(model(length), 600)(long_waves(jax.random.key(0), n))[-1]  # noqa: E731
    assert resolution_warning(run(22.0, 64), 22.0) is None
    coarse = resolution_warning(run(66.0, 32), 66.0)
    assert coarse is not None and "32 points are too few for length 66; take 64" in coarse


def test_fields_that_do_not_close_are_refused():
    x = np.arange(64) / 64
    require_periodic(np.sin(2 * np.pi * x))
    require_periodic(np.sign(np.sin(2 * np.pi * x) + 1e-9))  # a shock inside is none of the seam's business
    with pytest.raises(DataError, match="seam is 63 times"):
        require_periodic(x)
    with pytest.raises(DataError, match="finite"):
        require_periodic(np.full((2, 64), np.nan))


def test_burgers_against_its_exact_solution():
    """Cole-Hopf of one wave: u = -2 nu phi_x / phi, phi = 1 + b exp(-nu k^2 t) cos(kx)."""
    nu, points, k = 0.05, 64, 2 * np.pi
    x = jnp.arange(points) / points

    def exact(t):
        wave = 0.8 * jnp.exp(-nu * k**2 * t)
        return 2 * nu * k * wave * jnp.sin(k * x) / (1 + wave * jnp.cos(k * x))

    found = rollout(Burgers(1.0, nu, 1e-3), 300)(exact(0.0))[-1]
    np.testing.assert_allclose(found, exact(0.3), atol=1e-9)


def test_burgers_decays_keeps_its_mean_and_makes_shocks():
    u = random_phases(jax.random.key(0), 512)
    np.testing.assert_allclose(energy(u), 0.25, rtol=1e-12)
    spectrum = energy_spectrum(u)
    assert 5 <= int(jnp.argmax(spectrum)) <= 9  # the peak of n^4 exp(-(n/5)^2) is at 7
    states = rollout(Burgers(), 300)(u + 0.1)
    np.testing.assert_allclose(states.mean(axis=1), 0.1, atol=1e-12)
    e = energy(states - 0.1)
    assert (jnp.diff(e) < 0).all()
    # A wave steepens until viscosity holds it: its front is then amplitude^2 / (2 nu) steep.
    wave = 0.5 * jnp.sin(2 * jnp.pi * jnp.arange(512) / 512)
    front, steepness = shock(rollout(Burgers(viscosity=2e-3), 400)(wave)[-1], 1.0)
    assert front == 0.5 and 10 < steepness / shock(wave, 1.0)[1] < 0.5**2 / 4e-3 / jnp.pi
    place, _ = shock(jnp.roll(states[-1], 10), 1.0)
    np.testing.assert_allclose((place - shock(states[-1], 1.0)[0]) % 1.0, 10 / 512, atol=1e-12)


def test_two_dimensions_along_one_axis_are_one_dimension():
    """The derivative of the height solves the one-dimensional equation."""
    length, dt, n = 22.0, 0.05, 32
    x = length * jnp.arange(n) / n
    height = jnp.cos(2 * jnp.pi * x / length) + 0.3 * jnp.sin(4 * jnp.pi * x / length)
    flat = rollout(KuramotoSivashinsky(length, dt, dealias=True), 100)(derivative(height, length))[-1]
    model = KuramotoSivashinsky2D((length, 11.0), dt)
    along = rollout(model, 100)(jnp.tile(height[:, None], (1, 16)))[-1]
    np.testing.assert_allclose(derivative(along[:, 3], length), flat, atol=1e-6)  # masked differently at the last mode
    np.testing.assert_allclose(along - along[:, :1], 0, atol=1e-10)
    across = rollout(KuramotoSivashinsky2D((11.0, length), dt), 100)(jnp.tile(height[None], (16, 1)))[-1]
    np.testing.assert_allclose(across, along.T, atol=1e-9)

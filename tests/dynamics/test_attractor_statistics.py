"""Statistics of attractors: identities, exact special cases, and what each of them must not overlook."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import DataError
from jaxsci.dynamics import KuramotoSivashinsky
from jaxsci.dynamics.attractor_statistics import (
    Bins,
    autocorrelation,
    balance,
    energy,
    energy_spectrum,
    joint_density,
    joint_divergence,
    maximum_mean_discrepancy,
    sliced_wasserstein,
    spectrum_error,
    wasserstein,
)
from jaxsci.dynamics.kuramoto_sivashinsky import long_waves

pytestmark = pytest.mark.usefixtures("x64")
LENGTH = 22.0


@pytest.fixture(scope="module")
def states() -> np.ndarray:
    """Two independent samples `[2, 8, 100, 64]` of the attractor, 5 time units apart."""
    with jax.enable_x64(True):
        model = KuramotoSivashinsky(LENGTH, 0.25)
        starts = jax.vmap(lambda k: long_waves(k, 64))(jax.random.split(jax.random.key(0), 16))
        far = lambda u, n: jax.lax.fori_loop(0, n, lambda _, v: model(v), u)  # noqa: E731

        def run(u):
            return jax.lax.scan(lambda v, _: (far(v, 20), v), far(u, 1000), None, length=100)[1]

        return np.asarray(jax.jit(jax.vmap(run))(starts)).reshape(2, 8, 100, 64)


@pytest.mark.parametrize("points", [64, 33])
def test_the_spectrum_sums_to_the_energy(points):
    u = jax.random.normal(jax.random.key(0), (5, points))
    np.testing.assert_allclose(energy_spectrum(u).sum(axis=-1), energy(u), rtol=1e-13)


def test_invariants_of_the_attractor(states):
    """The reference: rms 1.18 to 1.19, mean energy .70 to .71, largest 1.50, amplitudes of the modes."""
    np.testing.assert_allclose(np.sqrt(np.mean(states**2)), 1.185, rtol=0.02)  # of 8000 time units
    e = np.asarray(energy(jnp.asarray(states)))
    np.testing.assert_allclose(e.mean(), 0.705, rtol=0.03)
    assert e.max() < 1.52
    assert abs(float(balance(jnp.asarray(states), LENGTH))) < 0.02
    amplitudes = np.sqrt(2 * np.mean(np.abs(np.fft.rfft(states) / 64) ** 2, axis=(0, 1, 2)))
    np.testing.assert_allclose(amplitudes[[2, 3, 4, 6, 8]], [0.79, 0.68, 0.46, 0.096, 1.6e-2], rtol=0.1)
    np.testing.assert_allclose(amplitudes[[16, 20, 24]], [7.8e-6, 1.5e-7, 2.7e-9], rtol=0.2)


def test_two_samples_of_the_truth_differ_by_the_floor_and_a_shift_by_more(states):
    first, second = (joint_density(s, LENGTH) for s in states)
    floor = joint_divergence(first, second)
    assert 0 < floor.kl < 0.15 and floor.missed < 0.02  # a quarter of the sheet's sample has four times its floor
    other = joint_divergence(first, joint_density(1.3 * states[1], LENGTH))
    assert other.kl > 3 * floor.kl
    assert joint_divergence(first, first).kl == pytest.approx(0, abs=1e-12)


def test_a_model_that_lives_elsewhere_is_not_overlooked(states):
    truth = joint_density(states[0], LENGTH)
    away = joint_density(100 * states[1], LENGTH)
    assert away.outside > 0.9 and joint_divergence(truth, away).kl > 1
    blown = states[1].copy()
    blown[:4] = np.nan
    assert joint_density(blown, LENGTH).outside == pytest.approx(0.5, abs=0.01)
    assert joint_divergence(truth, joint_density(np.full((3, 64), np.nan), LENGTH)).kl > 1


def test_divergence_by_hand():
    u = np.zeros((1, 64))
    a = joint_density(u, LENGTH, Bins((1, 1), (-1, 1), (-1, 1)))
    np.testing.assert_allclose(a.density, [[1.0]])
    p = a._replace(density=np.array([[0.5, 0.5, 0.0]]), points=100)
    q = a._replace(density=np.array([[0.5, 0.0, 0.5]]), points=100)
    found = joint_divergence(p, q)  # the empty bin counts as one point of a hundred
    np.testing.assert_allclose((found.kl, found.missed, found.invented), (0.5 * np.log(50), 0.5, 0.5), rtol=1e-12)
    half = joint_divergence(p, p._replace(density=np.array([[0.25, 0.75, 0.0]])))
    np.testing.assert_allclose(half.kl, 0.5 * np.log(2) + 0.5 * np.log(2 / 3), rtol=1e-12)


def test_distances_of_shifted_normals():
    a = jax.random.normal(jax.random.key(0), (4000, 3))
    b = a + jnp.array([0.5, 0.0, 0.0])
    np.testing.assert_allclose(wasserstein(a[:, 0], b[:, 0]), 0.5, rtol=1e-6)  # a shift, exactly
    # E |w_1| = 1/2 for a direction uniform on the sphere; 128 directions.
    np.testing.assert_allclose(sliced_wasserstein(a, b, 128, key=jax.random.key(1)), 0.25, rtol=0.1)
    same = maximum_mean_discrepancy(a[:1000], a[1000:2000], 1.0)
    assert abs(same) < 5e-3 < maximum_mean_discrepancy(a[:1000], b[1000:2000], 1.0)


def test_autocorrelation_of_a_wave_and_errors_of_spectra():
    t = np.arange(4000) * 0.1
    found = autocorrelation(jnp.asarray(np.cos(t)[:, None]), 40)
    np.testing.assert_allclose(found, np.cos(t[:40]), atol=0.02)  # ends of 64 periods
    with pytest.raises(DataError, match="lags"):
        autocorrelation(jnp.zeros((5, 2)), 5)
    truth = np.array([1.0, 1e-3, 1e-9])
    assert spectrum_error(10 * truth, truth, slice(0, 3)) == pytest.approx(1.0)

"""Sums over atoms and grids agree with each other, with FFTs and with the measured disagreement of the two models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.diffraction import dislocation, scattering
from jaxsci.diffraction.benchmark_case import amplitudes_of_gold_sphere
from jaxsci.diffraction.crystal import lattice_sites
from jaxsci.diffraction.nonuniform import nonuniform_sum


def cloud(atoms: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    positions = rng.uniform(-50, 50, (atoms, 3)).astype(np.float32)
    weights = np.exp(1j * rng.uniform(0, 6, atoms)).astype(np.complex64)
    return jnp.asarray(positions), jnp.asarray(weights)


def test_gemm_is_the_direct_sum():
    positions, weights = cloud(700)
    direct = scattering.direct_sum(positions, weights, n=12, length=120.0)
    # Blocks that do not divide the atoms, and one block that holds them all.
    for chunk in (256, 4096):
        gemm = scattering.gemm_sum(positions, weights, n=12, length=120.0, chunk=chunk)
        assert float(jnp.max(jnp.abs(gemm - direct)) / jnp.max(jnp.abs(direct))) < 1e-5  # float32; the sheet's bound


def test_direct_sum_is_its_definition(x64):
    positions, weights = (np.asarray(a) for a in cloud(40))
    positions = positions.astype(float)
    ours = scattering.direct_sum(jnp.asarray(positions), jnp.asarray(weights, complex), n=6, length=110.0)
    q = 2 * np.pi / 110.0 * (np.arange(6) - 3)
    grid = np.stack(np.meshgrid(q, q, q, indexing="ij"), -1)
    np.testing.assert_allclose(ours, np.exp(1j * grid @ positions.T) @ weights, atol=1e-11)  # rounding of 40 terms


def test_gemm_gradient_is_the_direct_sums(x64):
    positions, weights = cloud(60)
    positions = positions.astype(jnp.float64)

    def total(sum_over_atoms):
        field = lambda r: sum_over_atoms(r, weights.astype(complex), n=6, length=120.0)  # noqa: E731
        return jax.grad(lambda r: jnp.sum(scattering.intensity(field(r))[:4]))(positions)

    np.testing.assert_allclose(total(scattering.gemm_sum), total(scattering.direct_sum), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("width", [4, 7])
def test_nonuniform_fft_is_the_direct_sum(x64, width):
    """Its error falls tenfold with every point of the kernel; some atoms lie beyond the box, where the sum repeats."""
    positions, weights = (np.asarray(a) for a in cloud(300))
    positions, weights = jnp.asarray(1.3 * positions, float), jnp.asarray(weights, complex)
    direct = scattering.direct_sum(positions, weights, n=12, length=120.0)
    ours = nonuniform_sum(positions, weights, n=12, length=120.0, width=width)
    assert float(jnp.max(jnp.abs(ours - direct)) / jnp.max(jnp.abs(direct))) < 10 ** (1.5 - width)


def test_nonuniform_gradients_are_the_direct_sums(x64):
    positions, weights = cloud(60)
    positions, weights = positions.astype(jnp.float64), weights.astype(complex)

    def slopes(sum_over_atoms):
        total = lambda r, w: jnp.sum(scattering.intensity(sum_over_atoms(r, w, n=6, length=120.0))[:4])  # noqa: E731
        return jax.grad(total, (0, 1))(positions, weights)

    for one, other in zip(slopes(nonuniform_sum), slopes(scattering.direct_sum), strict=True):
        # The kernel's error, 2e-6 for seven points, and its slope's.
        np.testing.assert_allclose(one, other, atol=3e-5 * float(jnp.max(jnp.abs(other))))


@pytest.mark.parametrize("oversampling", [1, 2, 3])
def test_far_field_is_the_padded_fft(oversampling):
    points = len(scattering.fine_axis(9.0, oversampling))
    parts = np.random.default_rng(0).normal(size=(2, points, points, points)).astype(np.float32)
    field = jnp.asarray(parts[0] + 1j * parts[1])
    ours = scattering.far_field(field, 12, oversampling)
    theirs = scattering.padded_far_field(field, 12, oversampling)
    assert float(jnp.max(jnp.abs(ours - theirs)) / jnp.max(jnp.abs(theirs))) < 1e-5  # float32


def test_a_twin_has_the_same_intensity():
    parts = np.random.default_rng(1).normal(size=(2, 9, 9, 9)).astype(np.float32)
    field = jnp.asarray(parts[0] + 1j * parts[1])
    twin = jnp.conj(field[::-1, ::-1, ::-1])  # odd: the reversal keeps the centre
    one, other = (scattering.intensity(scattering.far_field(f, 12, 1)) for f in (field, twin))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * float(jnp.max(one)))  # float32


def test_gold_sphere_continuum_against_atoms():
    """The sheet's case: R = 0.393 without supersampling, 0.088 with four points a voxel."""
    atoms, continuum = amplitudes_of_gold_sphere(oversamplings=(1, 4))
    naive, fine = (float(scattering.amplitude_disagreement(c, atoms)) for c in continuum)
    assert abs(naive - 0.393) < 0.005 and abs(fine - 0.088) < 0.005
    assert fine < 0.1


def test_neglected_momentum_dependence():
    """A screw with g.b = 0 is a perfect crystal to the continuum; atoms show it by R = 0.082 at this size."""
    sites = jnp.asarray(lattice_sites("fcc", 4.08, lambda r: np.linalg.norm(r + 0.1, axis=1) < 60.0, 61.0), jnp.float32)
    g = jnp.ones(3)
    found = {}
    for name, b in (("none", (0.0, 0.0, 0.0)), ("lost", (0.5, -0.5, 0.0)), ("seen", (0.5, 0.5, 0.0))):
        t = jnp.asarray((1.0, -1.0, 0.0) if name == "lost" else (1.0, 1.0, 0.0)) / jnp.sqrt(2.0)
        normal = jnp.cross(t, jnp.array([0.0, 0.0, 1.0]))  # the cut along [001]: where it meets the surface matters
        line = dislocation.Line(jnp.asarray(b) * 4.08, t, normal, jnp.array([0.7, 0.3, 0.2]))
        u = dislocation.displacement(line, sites, poisson=0.42)
        found[name] = scattering.intensity(scattering.atomistic(sites, u, g, a=4.08, n=32, length=240.0))
    assert abs(float(scattering.amplitude_disagreement(found["lost"], found["none"])) - 0.082) < 0.002
    assert abs(float(scattering.amplitude_disagreement(found["seen"], found["none"])) - 0.797) < 0.002

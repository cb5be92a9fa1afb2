"""The chain from a dislocation to counts: identities, gradients, and noise of the right size."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxsci.core.errors import ConfigError
from jaxsci.diffraction import crystal, detector, generator, scattering
from jaxsci.diffraction.classifier import visible_class
from jaxsci.diffraction.generator import EDGE, MIXED, NONE, SCREW, Prior

SMALL = Prior(n=16, span=14.0, radius=(3.5, 4.5))


def scene_of(kind: int, seed: int = 0, prior: Prior = SMALL):
    return generator.draw(prior, jnp.asarray(kind), key=jax.random.key(seed))


def test_an_invisible_screw_is_a_perfect_crystal():
    seeds = [seed for seed in range(12) if float(scene_of(SCREW, seed)[1].visibility) == 0]
    assert seeds, "half of the screws have g.b = 0"
    scene, label = scene_of(SCREW, seeds[0])
    perfect, _ = scene_of(NONE, seeds[0])
    one, other = (np.asarray(generator.expected(s, SMALL)) for s in (scene, perfect))
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5 * one.max())  # float32: g.b = 0 to rounding
    assert int(visible_class(label)) == NONE and not bool(generator.is_visible(label))


def test_the_crystal_does_not_depend_on_the_class():
    bodies = [scene_of(kind)[0] for kind in (NONE, EDGE, SCREW, MIXED)]
    for other in bodies[1:]:
        np.testing.assert_array_equal(bodies[0].body.distances, other.body.distances)
        np.testing.assert_array_equal(bodies[0].wave_vectors, other.wave_vectors)


def test_taylor_remainder_of_the_whole_chain(x64):
    """Second order in every leaf at once: from facets, core, Burgers vector, strain and flux to the counts."""
    prior = replace(SMALL, n=8, span=8.0, radius=(2.2, 2.6))
    scene = jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(leaf, jnp.float64)), scene_of(MIXED, 3, prior)[0])
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 8)))
    value = lambda s: jnp.sum(weights * jnp.log(generator.expected(s, prior)))  # noqa: E731
    rng = np.random.default_rng(1)

    def random_like(leaf):
        step = 1e-2 * rng.normal(size=leaf.shape)
        return jnp.asarray(step + (1j * step if jnp.iscomplexobj(leaf) else 0), leaf.dtype)

    direction = jax.tree.map(random_like, scene)
    base, slope = jax.jvp(value, (scene,), (direction,))
    remainders = []
    for size in (1.0, 0.5, 0.25):
        moved = jax.tree.map(lambda leaf, d, size=size: leaf + size * d, scene, direction)
        remainders.append(abs(float(value(moved) - base - size * slope)))
    orders = np.log2(np.array(remainders[:-1]) / np.array(remainders[1:]))
    np.testing.assert_allclose(orders, 2.0, atol=0.25)  # third-order terms at these step sizes
    # and reverse mode is the adjoint of forward mode
    gradient = jax.grad(lambda parts: value(scene._replace(line=parts)))(scene.line)
    _, along = jax.jvp(lambda parts: value(scene._replace(line=parts)), (scene.line,), (direction.line,))
    inner = sum(jax.tree.leaves(jax.tree.map(lambda g, d: jnp.sum(g * d), gradient, direction.line)))
    np.testing.assert_allclose(inner, along, rtol=1e-9)


def test_photons_and_background_are_counted():
    scene, _ = scene_of(EDGE)
    mean = generator.expected(scene, SMALL)
    assert float(jnp.sum(mean)) == pytest.approx(1e6 + 0.02 * 16**3, rel=1e-4)


def test_z_is_along_the_reflection():
    scene, _ = scene_of(NONE, prior=replace(SMALL, misset=0.0, reflection=(2, 2, 0)))
    np.testing.assert_allclose(scene.reflection, (0, 0, np.sqrt(8)), atol=1e-5)


@pytest.mark.parametrize("mean", [0.02, 3.0, 11.9, 12.1, 400.0])
def test_counts_are_poisson(mean):
    counts = np.asarray(detector.count(jnp.full(100_000, mean, jnp.float32), key=jax.random.key(0)))
    assert counts.mean() == pytest.approx(mean, abs=5 * np.sqrt(mean / 1e5))  # five standard errors
    assert counts.var() == pytest.approx(mean, rel=0.05)  # of the variance of 1e5 draws 0.5 %, of rare ones 2 %
    k = np.arange(int(mean + 8 * np.sqrt(mean) + 3))
    empirical = np.searchsorted(np.sort(counts), k, side="right") / len(counts)
    assert np.abs(empirical - stats.poisson.cdf(k, mean)).max() < 6e-3  # Kolmogorov's 1 % point for 1e5 draws: 5.1e-3


def test_deviance_gradient_is_finite_without_counts():
    slope = jax.grad(lambda lam: jnp.sum(detector.poisson_deviance(lam, jnp.array([0.0, 2.0]))))(jnp.array([0.5, 2.0]))
    np.testing.assert_allclose(slope, (2.0, 0.0), atol=1e-6)  # 2 (1 - n / lambda)


def test_full_coherence_changes_nothing_and_partial_blurs():
    scene, _ = scene_of(NONE)
    pattern = generator.expected(scene, SMALL)
    same = detector.partially_coherent(pattern, jnp.full(3, 1e6))
    np.testing.assert_allclose(same, pattern, rtol=1e-3, atol=1e-6 * float(pattern.max()))  # float32 FFTs
    blurred = detector.partially_coherent(pattern, jnp.full(3, 4.0))
    assert float(blurred.max()) < 0.95 * float(pattern.max())
    assert float(blurred.sum()) == pytest.approx(float(pattern.sum()), rel=1e-4)


def test_flaws_belong_to_pixels():
    flaws = detector.Flaws(dead=0.1, gap=2)
    seen = np.asarray(detector.flawed(jnp.ones((5, 16, 16)), flaws, key=jax.random.key(1)))
    assert (seen == seen[0]).all()
    assert (seen[0, 10] == 0).all() and (seen[0, :, 10] == 0).all()  # the gap: an eighth off the centre


@pytest.mark.parametrize("by", ["maximum", "centroid"])
def test_centring_finds_the_peak(by):
    pattern = np.zeros((9, 10, 11), np.float32)
    pattern[6, 2, 5] = 100.0
    found = np.asarray(detector.centred(jnp.asarray(pattern), 6, by=by))
    assert found[3, 3, 3] == 100 and found.sum() == 100


def test_the_grid_support_is_the_support():
    body = crystal.wulff(radius=4.0, ratio=1.2, key=jax.random.key(0))
    grid = crystal.grid_points(scattering.fine_axis(14.0, 2))
    np.testing.assert_allclose(
        crystal.support_on_grid(body, grid), crystal.support(body, jnp.asarray(grid[:3].T)), atol=2e-6
    )


def test_volume_of_a_cube_and_its_atoms():
    cube = crystal.Body(jnp.asarray(crystal.family_normals((1, 0, 0)), jnp.float32), jnp.full(6, 3.0))
    grid = crystal.grid_points(scattering.fine_axis(12.0, 4))
    volume = float(jnp.sum(crystal.support_on_grid(cube, grid, softness=0.1))) / 4**3
    assert volume == pytest.approx(6**3, rel=0.03)  # soft edges
    atoms = crystal.atoms_in_body(cube._replace(distances=jnp.full(6, 20.01)), "fcc", 4.0)
    assert len(atoms) == 4 * 10**3 + 6 * 10**2 + 3 * 10 + 1  # all sites of 10^3 closed cells


def test_impossible_priors_are_refused():
    with pytest.raises(ConfigError, match=r"reflection: \(1 0 0\) is forbidden for fcc"):
        Prior(reflection=(1, 0, 0))
    with pytest.raises(ConfigError, match="did you mean 'Au'|known"):
        Prior(material="Gold")

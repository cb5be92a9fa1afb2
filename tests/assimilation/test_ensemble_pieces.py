"""The parts of the ensemble methods, each against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize_scalar

from jaxsci.assimilation.ensemble.enkf_n import dual_inflation, hyperprior
from jaxsci.assimilation.ensemble.etkf import rotated_transform, spectrum, transform
from jaxsci.assimilation.ensemble.inflation import relax_to_prior_perturbations, relax_to_prior_spread
from jaxsci.assimilation.ensemble.letkf import LETKF
from jaxsci.assimilation.ensemble.localisation import distances, gaspari_cohn, line, neighbourhoods
from jaxsci.assimilation.ensemble.members import EnsembleSettings, centre
from jaxsci.assimilation.ensemble.particle import systematic_resampling
from jaxsci.assimilation.ensemble.rotation import complement_of_ones, mean_preserving_rotation
from jaxsci.assimilation.problem import Places

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)


def anomalies(rows: int, columns: int, seed: int = 0) -> jax.Array:
    return centre(jnp.asarray(np.random.default_rng(seed).normal(size=(rows, columns))))[1]


def test_gaspari_cohn_values():
    """At 0, 1/2, 1, 3/2 and 2 half-widths, by hand from the published polynomials; beyond is zero."""
    at = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 7.0])
    exact = [1.0, 1 - 5 / 12 + 5 / 64 + 1 / 32 - 1 / 128, 5 / 24]
    z = 1.5
    exact += [4 - 5 * z + 5 / 3 * z**2 + 5 / 8 * z**3 - z**4 / 2 + z**5 / 12 - 2 / (3 * z), 0.0, 0.0]
    np.testing.assert_allclose(gaspari_cohn(3.0 * at, 3.0), exact, atol=1e-14)
    # With the half-width 1.82 r it starts as exp(-d^2 / 2 r^2) does, to the third order and the digits of 1.82.
    np.testing.assert_allclose(1 - gaspari_cohn(np.array([0.04]), 1.82 * 4), 0.5 * 0.01**2, rtol=1.5e-2)
    smooth = gaspari_cohn(np.linspace(0, 2.5, 10_001), 1.0)
    assert np.all(np.diff(smooth) <= 0) and np.abs(np.diff(smooth)).max() < 3e-4  # no jump where the pieces meet


def test_distance_goes_the_shorter_way_round():
    around = distances(line(10), np.array([0, 3]))
    np.testing.assert_array_equal(around[:, 0], [0, 1, 2, 3, 4, 5, 4, 3, 2, 1])
    np.testing.assert_array_equal(around[[9, 8, 3]][:, 1], [4, 5, 0])
    np.testing.assert_array_equal(distances(line(10, periodic=False), np.array([0]))[[0, 9], 0], [0, 9])
    grid = Places(np.array([[0.0, 0.0], [3.0, 4.0], [7.0, 9.0]]), (8.0, None))
    np.testing.assert_allclose(distances(grid, np.array([0]))[:, 0], [0, 5, np.sqrt(1 + 81)], rtol=1e-15)


def test_neighbourhoods_hold_what_the_taper_says():
    n, radius = 40, 4.0
    found = neighbourhoods(line(n), np.arange(n), radius=radius, batch=2)
    np.testing.assert_array_equal(found.batches.ravel(), np.arange(n))
    around = distances(line(n), np.arange(n))
    for batch, nearby, weights in zip(*found, strict=True):
        expected = gaspari_cohn(around[batch].mean(axis=0), 1.82 * radius)
        dense = np.zeros(n)
        dense[nearby] = weights
        np.testing.assert_array_equal(dense, np.where(expected > 1e-3, expected, 0.0))
    assert (found.taper[found.taper > 0] > 1e-3).all() and found.observations.shape[1] < n


def test_rotation_keeps_mean_and_covariance():
    members = jnp.asarray(RNG.normal(size=(9, 5)))
    q = mean_preserving_rotation(9, key=jax.random.key(0))
    np.testing.assert_allclose(q @ q.T, np.eye(9), atol=1e-14)
    mean, around = centre(members)
    turned = mean + q @ around
    np.testing.assert_allclose(turned.mean(axis=0), mean, atol=1e-12)
    np.testing.assert_allclose(np.cov(turned.T), np.cov(members.T), atol=1e-12)
    assert np.abs(turned - members).max() > 0.1
    basis = complement_of_ones(9)
    np.testing.assert_allclose(basis.T @ basis, np.eye(8), atol=1e-14)
    np.testing.assert_allclose(basis.sum(axis=0), 0, atol=1e-14)


def test_rotations_are_uniform():
    """Haar measure: traces of random rotations have mean zero and variance one, and no entry is favoured."""
    basis = complement_of_ones(6)
    q = jax.vmap(lambda key: mean_preserving_rotation(6, key=key))(jax.random.split(jax.random.key(1), 4000))
    inner = np.einsum("ia,kij,jb->kab", basis, np.asarray(q), basis)
    traces = np.trace(inner, axis1=1, axis2=2)
    assert abs(traces.mean()) < 4 / np.sqrt(4000)
    assert abs(traces.var() - 1) < 4 * np.sqrt(2 / 4000)
    assert np.abs(inner.mean(axis=0)).max() < 5 / np.sqrt(5 * 4000)  # entries have variance 1/5


@pytest.mark.parametrize("stations", [3, 20])
def test_transforms_agree_on_mean_and_covariance(stations):
    size, around = 8, anomalies(8, 5)
    observed, departure = anomalies(size, stations, 1), jnp.asarray(RNG.normal(size=stations))
    weights, turn = transform(spectrum(observed, departure))
    quick_weights, quick = jax.jit(lambda key: rotated_transform(observed, departure, key=key))(jax.random.key(3))
    inverse = np.linalg.inv(observed @ observed.T + (size - 1) * np.eye(size))
    np.testing.assert_allclose(weights, inverse @ observed @ departure, atol=1e-12)
    np.testing.assert_allclose(turn @ turn, (size - 1) * inverse, atol=1e-12)  # symmetric root
    np.testing.assert_allclose(quick_weights, weights, atol=1e-12)
    np.testing.assert_allclose((quick @ around).T @ quick @ around, (turn @ around).T @ turn @ around, atol=1e-12)
    np.testing.assert_allclose((quick @ around).mean(axis=0), 0, atol=1e-12)


def test_rotated_transform_is_distributed_as_the_symmetric_one_rotated():
    """One member's first coordinate, both ways: the Kolmogorov-Smirnov test sees no difference."""
    around, observed, departure = anomalies(5, 4), anomalies(5, 3, 1), jnp.ones(3)
    _, turn = transform(spectrum(observed, departure))
    keys = jax.random.split(jax.random.key(4), 4000)
    quickly = lambda k: (rotated_transform(observed, departure, key=k)[1] @ around)[2, 0]  # noqa: E731
    slowly = lambda k: (mean_preserving_rotation(5, key=k) @ turn @ around)[2, 0]  # noqa: E731
    quick, slow = jax.jit(jax.vmap(quickly))(keys[:2000]), jax.jit(jax.vmap(slowly))(keys[2000:])
    assert stats.ks_2samp(np.asarray(quick), np.asarray(slow)).pvalue > 1e-3  # pyright: ignore


@pytest.mark.parametrize("stations", [2, 12])
@pytest.mark.parametrize("surprise", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("certainty", [1.0, 2.0])
def test_finite_size_inflation_minimises_the_dual_cost(stations, surprise, certainty):
    size = 6
    observed = anomalies(size, stations, 7)
    departure = surprise * jnp.asarray(np.random.default_rng(8).normal(size=stations))
    of = spectrum(observed, departure)
    e, c = (float(x) for x in hyperprior(of.values, certainty))
    _, s, vt = np.linalg.svd(np.asarray(observed), full_matrices=False)
    du = vt @ np.asarray(departure)

    padded = np.concatenate([s, np.zeros(size - len(s))])
    k = np.mean((size - 1) / (padded**2 + size - 1))
    mode = (((size + 1) / size) / (size / (size - 1))) ** (k / 2)
    np.testing.assert_allclose((e, c), (certainty * (size + 1) / size / mode, certainty * size / (size - 1) * mode))

    def dual(x):
        return np.sum(du**2 / ((x * s) ** 2 + size - 1)) + e / x**2 + c * np.log(x**2)

    found = float(jax.jit(lambda s: dual_inflation(s, *hyperprior(s.values, certainty)))(of))
    exact = minimize_scalar(dual, bounds=(0.3, 30.0), method="bounded", options={"xatol": 1e-10}).x  # pyright: ignore
    # The minimiser sees the cost to 1e-16 only, hence its place to the root of that.
    np.testing.assert_allclose(found, exact, rtol=1e-6)
    slope = (dual(found * (1 + 1e-5)) - dual(found * (1 - 1e-5))) / 2e-5
    assert abs(slope) < 1e-6


def test_inflation_acts_on_the_anomalies():
    members, key = jnp.asarray(RNG.normal(size=(7, 3))), jax.random.key(0)
    wider = EnsembleSettings(size=7, inflation=1.5).after_analysis(members, members, key=key)
    np.testing.assert_allclose(wider.mean(axis=0), members.mean(axis=0), atol=1e-14)
    np.testing.assert_allclose(np.cov(wider.T), 1.5**2 * np.cov(members.T), rtol=1e-12)


def test_relaxations_by_their_formulas():
    after, before = anomalies(6, 3, 1), 2 * anomalies(6, 3, 2)
    np.testing.assert_allclose(relax_to_prior_perturbations(after, before, 0.3), 0.7 * after + 0.3 * before, atol=1e-15)
    relaxed = relax_to_prior_spread(after, before, 0.4)
    wanted = 0.6 * np.std(after, axis=0, ddof=1) + 0.4 * np.std(before, axis=0, ddof=1)
    np.testing.assert_allclose(np.std(relaxed, axis=0, ddof=1), wanted, rtol=1e-12)
    np.testing.assert_allclose(np.corrcoef(relaxed.T), np.corrcoef(after.T), atol=1e-12)
    whole = EnsembleSettings(size=6, rtpp=1.0).after_analysis(3.0 + after, before, key=jax.random.key(0))
    np.testing.assert_allclose(whole, 3.0 + before, atol=1e-12)
    assert np.isfinite(relax_to_prior_spread(0 * after, before, 0.5)).all()


def test_systematic_resampling_is_unbiased_and_nearly_even():
    weights = jnp.asarray([0.5, 0.26, 0.2, 0.04])
    counts = jax.vmap(lambda k: jnp.bincount(systematic_resampling(weights, key=k), length=4))(
        jax.random.split(jax.random.key(0), 4000)
    )
    assert np.all(np.abs(np.asarray(counts) - 4 * np.asarray(weights)) < 1)
    np.testing.assert_allclose(counts.mean(axis=0), 4 * weights, atol=4 * 0.5 / np.sqrt(4000))


def test_letkf_without_localisation_is_the_etkf(make_ring):
    """So wide a taper weighs every observation by one, up to the fourth order of distance over radius."""
    from jaxsci.assimilation.ensemble.etkf import ETKF

    problem = make_ring(8)
    infos = []
    for method in (LETKF(size=6, radius=1e5, batch=2), ETKF(size=6)):
        algorithm = method.build(problem)
        state = algorithm.init(jax.random.key(1))
        infos.append(jax.jit(algorithm.update)(state, jnp.arange(8.0), jax.random.key(2))[1])
    np.testing.assert_allclose(infos[0].mean, infos[1].mean, atol=1e-8)  # 1 - taper is near (4 / 1e5)^2
    np.testing.assert_allclose(infos[0].spread, infos[1].spread, atol=1e-8)


def test_letkf_far_from_an_observation_is_the_forecast(make_ring):
    problem = make_ring(20)
    algorithm = LETKF(size=6, radius=1.0, batch=2).build(problem)
    observation = jnp.full(20, jnp.nan).at[0].set(5.0)
    _, info = jax.jit(algorithm.update)(algorithm.init(jax.random.key(1)), observation, jax.random.key(2))
    np.testing.assert_allclose(info.mean[6:14], info.forecast[6:14], atol=1e-14)  # the mean is taken anew
    assert abs(info.mean[0] - info.forecast[0]) > 0.1


def test_letkf_names_what_it_cannot_do(make_ring):
    import equinox as eqx

    from jaxsci.core.errors import JaxsciError

    with pytest.raises(JaxsciError, match="batch: expected a divisor of the 8 variables, got 3"):
        LETKF(batch=3).build(make_ring(8))
    correlated = eqx.tree_at(lambda p: p.noise, make_ring(8), jnp.eye(8))
    with pytest.raises(JaxsciError, match="use etkf"):
        LETKF().build(correlated)


@pytest.fixture
def make_ring(x64):
    from jaxsci.assimilation.background import Background
    from jaxsci.assimilation.problem import Problem, select

    def make(n: int) -> Problem:
        start = Background(jnp.zeros(n), jnp.eye(n))
        return Problem(lambda x: 1.1 * jnp.roll(x, 1), select(None, n), jnp.ones(n), start, start)

    return make

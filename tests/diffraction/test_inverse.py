"""Fits through the simulator: the truth fits best, ties are ties, and the proposed reflection parts them."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.diffraction import detector, inverse
from jaxsci.diffraction.generator import Prior
from jaxsci.diffraction.inverse_case import measured

PRIOR = Prior(n=16, span=12.0, radius=(3.4, 4.2), oversampling=1)
CANDIDATES = inverse.hypotheses("fcc")
G = (1, 1, 1)


def counts_of(hypothesis, seed: int = 0):
    vectors = jnp.asarray([hypothesis.burgers, hypothesis.direction, hypothesis.normal], jnp.float32)
    distances = jnp.asarray(3.8 * np.r_[np.ones(8), np.full(6, 1.2)], jnp.float32)
    shape = inverse.Shape(distances, jnp.array([0.4, -0.3, 0.6]), jnp.zeros((1, 16)))
    mean = inverse.expected_of(vectors, shape, PRIOR, [G])
    mean = detector.expected_counts(mean, photons=1e6, background=PRIOR.background)
    return detector.count(mean, key=jax.random.key(seed))


def test_hypotheses_and_what_they_show():
    assert [h.kind for h in CANDIDATES].count("screw") == 6 and len(CANDIDATES) == 19
    assert sum(h.kind == "screw" and h.visibility(G) == 0 for h in CANDIDATES) == 3


def test_truth_fits_best():
    seen = [h for h in CANDIDATES if h.kind == "screw" and h.visibility(G) > 0.5]
    config = inverse.FitConfig(screening=30, kept=3, steps=30, starts=2)
    ranking = inverse.rank(counts_of(seen[0]), [G], [CANDIDATES[0], seen[0]], PRIOR, config, key=jax.random.key(1))
    assert ranking.fits[0].hypothesis == seen[0] and ranking.resolved
    assert ranking.fits[1].deviance > 2 * ranking.fits[0].deviance


def test_what_cannot_be_seen_is_a_tie():
    lost = [h for h in CANDIDATES if h.kind == "screw" and h.visibility(G) < 0.5]
    config = inverse.FitConfig(screening=30, kept=3, steps=30, starts=2)
    ranking = inverse.rank(counts_of(lost[0]), [G], [CANDIDATES[0], *lost[:2]], PRIOR, config, key=jax.random.key(1))
    assert len(ranking.tied) == 3  # without g.b the three models are one and the same
    proposed = inverse.next_reflection(ranking, [(1, 1, 1), (1, -1, 1), (-1, 1, 1), (2, 0, 0)])
    assert proposed != G
    assert len({round(fit.hypothesis.visibility(proposed), 6) for fit in ranking.tied}) > 1


def test_one_crystal_in_any_reflection():
    """The same key is the same crystal: what is added to the list of reflections does not change the others."""
    truth = CANDIDATES[1]
    one = measured(truth, [G], PRIOR, key=jax.random.key(2))
    both = measured(truth, [(2, 0, 0), G], PRIOR, key=jax.random.key(2))
    np.testing.assert_allclose(one[0], both[1])
    assert float(jnp.sum(one)) > 0.99e6


def test_the_reflection_that_shows_all_is_proposed():
    """Of none and the three screws that (111) hides, (3 1 -1) shows all three, which the others do not."""
    lost = [h for h in CANDIDATES if h.kind == "none" or (h.kind == "screw" and not h.shows(G))]
    shape = inverse.Shape(jnp.ones(14), jnp.zeros(3), jnp.zeros((1, 16)))
    fits = tuple(inverse.Fit(h, 1.0, shape) for h in lost)
    options = [(1, -1, 1), (2, 0, 0), (2, 2, 0), (3, 1, -1)]
    best = inverse.next_reflection(inverse.Ranking(fits, fits), options)
    assert len(lost) == 4 and best == (3, 1, -1)
    assert sum(h.shows(best) for h in lost) == 3

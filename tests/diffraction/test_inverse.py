"""Fits through the simulator: the truth fits best, ties are ties, and the proposed reflection parts them."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.diffraction import detector, inverse
from jaxsci.diffraction.generator import Prior

PRIOR = Prior(n=16, span=12.0, radius=(3.4, 4.2), oversampling=1)
CANDIDATES = inverse.hypotheses("fcc")
G = (1, 1, 1)


def counts_of(hypothesis, seed: int = 0):
    vectors = jnp.asarray([hypothesis.burgers, hypothesis.direction, hypothesis.normal], jnp.float32)
    distances = jnp.asarray(3.8 * np.r_[np.ones(8), np.full(6, 1.2)], jnp.float32)
    shape = inverse.Shape(distances, jnp.array([0.4, -0.3, 0.6]), jnp.zeros((1, 6)))
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

"""Which coordinate changed: exact Bayes factors of the normal-gamma model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import gammaln

from jaxsci.drift.attribution import attribute
from jaxsci.drift.segments import Autoregressive, Level

pytestmark = pytest.mark.usefixtures("x64")


def log_marginal(x, precision=0.5, alpha=2.0, beta=3.0):
    """log p(x) of points with unknown mean and variance (Murphy 2007, equation 95)."""
    n = len(x)
    if n == 0:
        return 0.0
    after = beta + 0.5 * np.sum((x - x.mean()) ** 2) + 0.5 * precision * n * x.mean() ** 2 / (precision + n)
    return (
        gammaln(alpha + n / 2)
        - gammaln(alpha)
        + alpha * np.log(beta)
        - (alpha + n / 2) * np.log(after)
        + 0.5 * np.log(precision / (precision + n))
        - 0.5 * n * np.log(2 * np.pi)
    )


@pytest.mark.parametrize(("before", "start", "end"), [(0, 20, 30), (5, 12, 40), (0, 39, 40)])
def test_it_is_the_ratio_of_marginal_likelihoods(before, start, end):
    x = np.random.default_rng(0).normal(size=(40, 2)) + np.array([0.0, 2.0]) * (np.arange(40) >= 20)[:, None]
    level = Level(intercept_precision=0.5, alpha=2.0, beta=3.0)
    found = jax.jit(lambda: attribute(level, jnp.asarray(x), before, start, end))()
    for d in range(2):
        alone = log_marginal(x[start:end, d])
        going_on = log_marginal(x[before:end, d]) - log_marginal(x[before:start, d])
        np.testing.assert_allclose(found[d], alone - going_on, rtol=1e-9, atol=1e-9)


def test_the_coordinate_that_changed_has_the_evidence_and_gaps_count_for_nothing():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 3))
    x[40:, 1] += 3.0
    known = np.ones(x.shape, bool)
    known[45:50] = False
    hidden = np.where(known, x, 1e6)
    level = Level(intercept_precision=0.5, alpha=2.0, beta=2.0)
    found = attribute(level, jnp.asarray(hidden), 0, 40, 60, jnp.asarray(known))
    assert int(jnp.argmax(found)) == 1 and found[1] > 5 and found[0] < 0 and found[2] < 0
    without = np.delete(x, np.arange(45, 50), axis=0)
    np.testing.assert_allclose(found, attribute(level, jnp.asarray(without), 0, 40, 55), atol=1e-9)


def test_models_with_a_memory_keep_it():
    x = jnp.asarray(np.cumsum(np.random.default_rng(2).normal(size=(50, 1)), axis=0))
    same = attribute(Autoregressive(inputs=1, persistence=1.0), x, 0, 30, 50)
    assert np.isfinite(same).all() and same[0] < 0  # nothing changed: a segment of its own must learn again

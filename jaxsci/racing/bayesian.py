"""A Bayesian race: how probable is it that each configuration is the best?

    c_lj = block_l + mu_j + e_lj     e ~ Normal(0, sigma^2),  mu_j ~ Normal(m, tau^2)

Blocks and m have flat priors, sigma^2 has the Jeffreys prior, tau^2 is estimated (empirical Bayes), which draws the
means of many configurations together (Gelman et al., Bayesian Data Analysis, chapter 5). Meant for costs whose noise
is about normal, such as the logarithm of a gap.
"""

import numpy as np
from jaxtyping import Float
from scipy import stats

DRAWS = 4000


def posterior(costs: Float[np.ndarray, "k n"]) -> tuple[Float[np.ndarray, " n"], float, float]:
    """Posterior means relative to the grand mean, their common standard deviation, and degrees of freedom of sigma."""
    k, n = costs.shape
    centred = costs - costs.mean(1, keepdims=True)
    means = centred.mean(0)
    freedom = max((k - 1) * (n - 1), 1)
    noise = float(np.sum((centred - means) ** 2)) / freedom
    between = max(float(np.sum(means**2)) / (n - 1) - noise / k, 0.0)
    shrink = between / (between + noise / k) if between > 0 else 0.0
    # Where nothing tells the configurations apart, all means are equal and their uncertainty is that of one mean.
    deviation = np.sqrt(noise / k * shrink) if shrink > 0 else np.sqrt(noise / k)
    return shrink * means, float(deviation), float(freedom)


def probability_best(costs: Float[np.ndarray, "k n"], *, draws: int = DRAWS) -> Float[np.ndarray, " n"]:
    """P(mu_j is the least) by simulation with fixed quasi-random draws: the same costs give the same probabilities."""
    k, n = costs.shape
    means, deviation, freedom = posterior(np.asarray(costs, float))
    if deviation == 0.0:
        best = np.isclose(means, means.min())
        return best / best.sum()
    rng = np.random.default_rng(0)
    scale = np.sqrt(freedom / stats.chi2.ppf((np.arange(draws) + 0.5) / draws, freedom))
    samples = means + deviation * rng.permutation(scale)[:, None] * rng.standard_normal((draws, n))
    return np.bincount(np.argmin(samples, axis=1), minlength=n) / draws

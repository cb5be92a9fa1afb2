"""Verification of ensembles and of Gaussian predictions against what came true.

Binned spread against error and Gaussian coverage are in `jaxsci.emulators.verification`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


def crps_ensemble(members: Float[Array, "members *cases"], truth: Float[Array, "*cases"]) -> Float[Array, "*cases"]:
    """Fair continuous ranked probability score, in the units of the truth; two members or more.

    `mean |x_i - y| - sum_{i,j} |x_i - x_j| / (2 N (N - 1))`: its expectation does not depend on the number of members
    drawn from one distribution. Source: Ferro 2014, Q. J. R. Meteorol. Soc. 140, 1917-1923.
    """
    count = len(members)
    ordered = jnp.sort(members, axis=0)
    # sum over pairs i < j of x_j - x_i, from ranks
    coefficients = (2 * jnp.arange(1, count + 1) - count - 1).astype(members.dtype)
    pairs = jnp.tensordot(coefficients, ordered, axes=1)
    return jnp.mean(jnp.abs(members - truth), axis=0) - pairs / (count * (count - 1))


def crps_gaussian(
    mean: Float[Array, "*cases"], spread: Float[Array, "*cases"], truth: Float[Array, "*cases"]
) -> Float[Array, "*cases"]:
    """CRPS of N(mean, spread^2). Source: Gneiting et al. 2005, Mon. Wea. Rev. 133, 1098-1118, equation 5."""
    z = (truth - mean) / spread
    normal = jax.scipy.stats.norm
    return spread * (z * (2 * normal.cdf(z) - 1) + 2 * normal.pdf(z) - 1 / jnp.sqrt(jnp.pi))


def rank_histogram(
    members: Float[Array, "members *cases"], truth: Float[Array, "*cases"], *, key: PRNGKeyArray
) -> Int[Array, " ranks"]:
    """How often the truth has 0, 1, ..., N members below it; flat for a reliable ensemble. Ties are broken at random.

    Source: Hamill 2001, Mon. Wea. Rev. 129, 550-560.
    """
    below, ties = jnp.sum(members < truth, axis=0), jnp.sum(members == truth, axis=0)
    among = jnp.floor(jax.random.uniform(key, truth.shape) * (ties + 1)).astype(below.dtype)
    return jnp.bincount((below + among).ravel(), length=len(members) + 1)


def spread_skill(members: Float[Array, "members *cases"], truth: Float[Array, "*cases"]) -> Float[Array, ""]:
    """RMS spread over RMS error of the mean, corrected for N members: one for a reliable ensemble, below one if
    overconfident. Source: Fortin et al. 2014, J. Hydrometeor. 15, 1708-1713, equation 15."""
    count = len(members)
    spread = jnp.mean(jnp.var(members, axis=0, ddof=1)) * (count + 1) / count
    return jnp.sqrt(spread / jnp.mean(jnp.square(jnp.mean(members, axis=0) - truth)))


def ensemble_coverage(
    members: Float[Array, "members *cases"], truth: Float[Array, "*cases"], level: float = 0.9
) -> Float[Array, ""]:
    """Share of truths within the central `level` interval of the ensemble.

    Quantiles at `i / (N + 1)` (Weibull's), which a reliable ensemble covers exactly; `level` of `1 - 2 / (N + 1)` or
    less can be told from the members.
    """
    tail = (1 - level) / 2
    low, high = (jnp.quantile(members, _weibull(q, len(members)), axis=0) for q in (tail, 1 - tail))
    return jnp.mean((truth >= low) & (truth <= high))


def _weibull(probability: float, count: int) -> float:
    """The level that `jnp.quantile`, with points at `(i - 1) / (N - 1)`, needs for points at `i / (N + 1)`."""
    return min(max((probability * (count + 1) - 1) / (count - 1), 0.0), 1.0)

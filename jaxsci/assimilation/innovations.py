"""What an ensemble expects of an observation, and by how much, and in which way, the observation differs.

The innovation `d = y - H(x)` of a sound system is N(0, S), `S = H P H' + R`. Its chi-square `d' S^{-1} d` splits
exactly into a shift that all stations share and what is left: with `1` the vector of ones, in the observations' unit,

    shift^2 = (1' S^{-1} d)^2 / (1' S^{-1} 1) ~ chi^2(1),     d' S^{-1} d - shift^2 ~ chi^2(p - 1),

the two independent of each other. A bias shows in the first, wrong variances in the second.
Source: generalised least squares of a constant; Menard et al. 2000, Mon. Wea. Rev. 128, 2654-2671, for the chi-square.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.assimilation.ensemble.members import innovation_factor, observe_members
from jaxsci.assimilation.problem import Problem


class Innovation(NamedTuple):
    """One cycle's innovation in numbers that are alike at every cycle as long as nothing changes."""

    shift: Float[Array, ""]
    """What all stations differ by together, in its own standard deviations: N(0, 1)."""
    scatter: Float[Array, ""]
    """The rest of the chi-square, less its mean and over its standard deviation: mean 0, variance 1."""
    chi_square: Float[Array, ""]
    """`d' S^{-1} d` per observation: mean 1, variance 2 / p."""


def innovation_statistics(
    problem: Problem, members: Float[Array, "members n"], observation: Float[Array, " stations"]
) -> Innovation:
    """Of forecast `members` and what was then observed. Missing (NaN) values are left out; two must be present."""
    observed, departure = observe_members(problem, members, observation)
    shared = problem.whiten(observation, jnp.ones_like(observation))
    factor = jnp.sqrt(len(members) - 1) * innovation_factor(observed)
    expected, found = factor @ shared, factor @ departure
    count = jnp.sum(jnp.isfinite(observation))
    shift = expected @ found / jnp.linalg.norm(expected)
    total = found @ found
    rest = (total - shift**2 - (count - 1)) / jnp.sqrt(2.0 * (count - 1))
    return Innovation(shift, rest, total / count)

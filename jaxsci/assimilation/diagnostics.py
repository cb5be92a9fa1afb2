"""Are B and R what the observations say they are? Checks of an analysis against its own assumptions."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.assimilation.observation import Observations
from jaxsci.assimilation.variational import LeastSquares, Solution


def chi_square(solution: Solution, observations: Observations) -> Float[Array, ""]:
    """`2 J_min / p`, p the number of observations present: one on average where model, B and R are right.

    Above one, errors are larger than assumed; below, smaller. Its standard deviation is `sqrt(2 / p)`.
    Source: Talagrand 1999, ECMWF Workshop on Diagnosis of Data Assimilation Systems, 17-28.
    """
    return 2 * solution.stats.cost / jnp.maximum(jnp.sum(observations.present), 1)


def degrees_of_freedom(problem: LeastSquares, control: Float[Array, " control"]) -> Float[Array, ""]:
    """Degrees of freedom for signal, `tr(H K) = tr(Y'Y (I + Y'Y)^{-1})`: how many numbers the observations determine.

    Between 0 (the background alone) and the number of observations or controls, whichever is less.
    Source: Rodgers 2000, Inverse Methods for Atmospheric Sounding, section 2.4.
    """
    sensitivity = jax.jacfwd(problem.departures)(control)
    squares = jnp.linalg.svd(sensitivity, compute_uv=False) ** 2
    return jnp.sum(squares / (1 + squares))


class Desroziers(NamedTuple):
    """Covariances in observation space that the cases imply; symmetric in expectation only."""

    observation: Float[Array, "stations stations"]
    """R."""
    background: Float[Array, "stations stations"]
    """H B H'."""


def desroziers(innovations: Float[Array, "cases stations"], residuals: Float[Array, "cases stations"]) -> Desroziers:
    """R and HBH' from innovations `d_b = y - H(x_b)` and analysis residuals `d_a = y - H(x_a)`, all unbiased.

    `R = E[d_a d_b']`, `H B H' = E[(d_b - d_a) d_b']`. Equal to the assumed ones where those are right; where they are
    not, one step of a fixed-point iteration. Source: Desroziers et al. 2005, Q. J. R. Meteorol. Soc. 131, 3385-3396.
    """
    cases = len(innovations)
    return Desroziers(residuals.T @ innovations / cases, (innovations - residuals).T @ innovations / cases)

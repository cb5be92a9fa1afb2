"""The finite-size EnKF: inflation that follows from how few members there are, found anew at each analysis."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.assimilation.ensemble.etkf import Spectrum, spectrum, transform
from jaxsci.assimilation.ensemble.members import EnsembleSettings, centre, ensemble_filter
from jaxsci.assimilation.problem import Algorithm, Method, Problem
from jaxsci.core.config import positive

Scalar = Float[Array, ""]
NEWTON_STEPS = 60  # bisection alone gains a digit in three; Newton doubles them near the root
LARGEST = 1e12  # of l^2: only an ensemble that has lost the truth altogether asks for more


def hyperprior(values: Float[Array, " members"], certainty: float) -> tuple[Scalar, Scalar]:
    """The coefficients e and c of the prior of the inflation, mode-corrected, times `certainty` (DAPPER's xN).

    `values` are the eigenvalues of Y Y'. Source: Bocquet, Raanes and Hannart 2015, Nonlin. Processes Geophys. 22,
    645-662, equation 36.
    """
    members = len(values)
    less = members - 1
    e, c = (members + 1) / members, members / less
    mode = (e / c) ** (jnp.mean(less / (values + less)) / 2)
    return certainty * e / mode, certainty * c * mode


def dual_inflation(of: Spectrum, e: Scalar, c: Scalar) -> Scalar:
    """The l that minimises `sum du_i^2 / ((l s_i)^2 + N-1) + e / l^2 + c ln l^2` (Bocquet et al. 2015).

    In z = l^2 the derivative, times z^2, is `c z - e - sum (g_i z / (z s_i^2 + N-1))^2` with `g = V' Y d`: not above
    zero at z = e/c, positive far out. A bracketed Newton iteration cannot leave the root between.
    """
    less = len(of.values) - 1

    def slope(z: Scalar) -> Scalar:
        return c * z - e - jnp.sum((of.projected * z / (z * of.values + less)) ** 2)

    def curvature(z: Scalar) -> Scalar:
        below = z * of.values + less
        return c - 2 * jnp.sum(of.projected**2 * z * less / below**3)

    def narrow(_: Any, bracket: tuple[Scalar, Scalar, Scalar]) -> tuple[Scalar, Scalar, Scalar]:
        low, high, z = bracket
        rising = slope(z) > 0
        low, high = jnp.where(rising, low, z), jnp.where(rising, z, high)
        newton = z - slope(z) / curvature(z)
        inside = (newton > low) & (newton < high)
        return low, high, jnp.where(inside, newton, (low + high) / 2)

    low = e / c
    high = lax.while_loop(lambda z: (slope(z) < 0) & (z < LARGEST), lambda z: 2 * z, 2 * low)
    return jnp.sqrt(lax.fori_loop(0, NEWTON_STEPS, narrow, (low, high, jnp.maximum(low, jnp.minimum(1.0, high))))[2])


@dataclass(frozen=True)
class FiniteSizeEnKF(EnsembleSettings, Method, kind="enkf_n"):
    """EnKF-N, dual form, with the ETKF's update. `certainty` above 1 trusts the ensemble more than its size says.

    Source: Bocquet 2011, Nonlin. Processes Geophys. 18, 735-750.
    """

    certainty: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "certainty")

    def build(self, problem: Problem) -> Algorithm:
        def analyse(members: Array, observed: Array, departure: Array, key: PRNGKeyArray) -> Array:
            mean, anomalies = centre(members)
            of = spectrum(observed, departure)
            weights, turn = transform(of, dual_inflation(of, *hyperprior(of.values, self.certainty)))
            return mean + (weights + turn) @ anomalies

        return ensemble_filter(problem, self, analyse)

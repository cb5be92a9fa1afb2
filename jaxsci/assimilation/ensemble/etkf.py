"""The ensemble transform Kalman filter with the symmetric square root."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.assimilation.ensemble.members import EnsembleSettings, centre, ensemble_filter
from jaxsci.assimilation.ensemble.rotation import complement_of_ones, random_rotation
from jaxsci.assimilation.inverse_factor import inverse_factor
from jaxsci.assimilation.problem import Algorithm, Method, Problem


class Spectrum(NamedTuple):
    """`Y Y' = V diag(values) V'` of whitened observed anomalies Y, and the departure seen from the members."""

    values: Float[Array, " members"]
    vectors: Float[Array, "members members"]
    projected: Float[Array, " members"]
    """`V' Y d`"""


def spectrum(observed: Float[Array, "members stations"], departure: Float[Array, " stations"]) -> Spectrum:
    """Eigenvectors of the anomalies' Gram matrix, its eigenvalues (none below zero), and the departure seen in them.

    `observed` holds the whitened anomalies, one member a row; `departure` is observation less observed mean, whitened.
    """
    values, vectors = jnp.linalg.eigh(observed @ observed.T)
    return Spectrum(jnp.maximum(values, 0.0), vectors, vectors.T @ (observed @ departure))


def transform(of: Spectrum, inflation: Float[Array, ""] | float = 1.0) -> tuple[Array, Array]:
    """Weights w (members,) of the mean and T (members, members) of the anomalies: `E_a = mean + (w + T) A`.

    `w = (Y Y' + (N-1) I)^{-1} Y d`, `T = sqrt(N-1) (Y Y' + (N-1) I)^{-1/2}`; `inflation` multiplies the prior
    anomalies A and Y first, and is part of the w and T returned.
    """
    less = len(of.values) - 1
    curvature = inflation**2 * of.values + less
    weights = inflation**2 * of.vectors @ (of.projected / curvature)
    return weights, inflation * (of.vectors * jnp.sqrt(less / curvature)) @ of.vectors.T


def rotated_transform(
    observed: Float[Array, "members stations"], departure: Float[Array, " stations"], *, key: PRNGKeyArray
) -> tuple[Array, Array]:
    """`transform`, its T turned by a random mean-preserving rotation, at a third of the cost.

    After a uniformly random rotation all roots of one covariance are distributed alike, so the cheapest will do: the
    inverse Cholesky factor in the space orthogonal to the vector of ones.
    """
    less = len(observed) - 1
    basis = jnp.asarray(complement_of_ones(len(observed)))
    reduced = basis.T @ observed
    factor = inverse_factor(reduced @ reduced.T + less * jnp.eye(less, dtype=observed.dtype))
    weights = basis @ (factor.T @ (factor @ (reduced @ departure)))
    return weights, jnp.sqrt(less) * basis @ (random_rotation(less, key=key) @ factor) @ basis.T


@dataclass(frozen=True)
class ETKF(EnsembleSettings, Method, kind="etkf"):
    """DAPPER's EnKF 'Sqrt'. Source: Hunt, Kostelich and Szunyogh 2007, Physica D 230, 112-126."""

    def build(self, problem: Problem) -> Algorithm:
        at_once = self.rotate and not self.rtpp  # RTPP mixes members with their forecasts: rotate after it

        def analyse(members: Array, observed: Array, departure: Array, key: PRNGKeyArray) -> Array:
            mean, anomalies = centre(members)
            if at_once:
                weights, turn = rotated_transform(observed, departure, key=key)
            else:
                weights, turn = transform(spectrum(observed, departure))
            return mean + (weights + turn) @ anomalies

        return ensemble_filter(problem, replace(self, rotate=self.rotate and not at_once), analyse)

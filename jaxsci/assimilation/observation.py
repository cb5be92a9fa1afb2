"""What was measured: values in time, an operator from state to measured quantity, an error covariance."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from jaxsci.assimilation.positive_definite import require_positive_definite
from jaxsci.core.errors import DataError

State = Any


class Observations(eqx.Module):
    """Observations of one window, at every step from its start (for `cycle` of several, along a leading axis).

    `values` (times, stations); NaN marks a missing value. `operator` maps a state to (stations,).
    `whitener` is `R^(-1/2)`, one for all times or one each; R is instrument error plus whatever the model cannot
    represent. Make one from R with `observe`.
    """

    values: Float[Array, "*windows times stations"]
    operator: Callable[[State], Float[Array, " stations"]]
    whitener: Float[Array, "... stations stations"]

    @property
    def present(self) -> Bool[Array, "*windows times stations"]:
        """Where a value was measured: finite entries."""
        return jnp.isfinite(self.values)

    def departures(self, states: State) -> Float[Array, "times stations"]:
        """`y - H(x)` at every time; zero where the value is missing."""
        predicted = jax.vmap(self.operator)(states)
        return jnp.where(self.present, jnp.where(self.present, self.values, 0.0) - predicted, 0.0)

    def whitened(self, states: State) -> Float[Array, "times stations"]:
        """`R^(-1/2) (y - H(x))`: independent and of unit variance where R is right; zero where missing."""
        departures = self.departures(states)
        if self.whitener.ndim == 2:
            return departures @ self.whitener.T
        return jnp.einsum("tij,tj->ti", self.whitener, departures)


def whitening(covariance: Float[Array, "stations stations"]) -> Float[Array, "stations stations"]:
    """The inverse of the lower Cholesky factor of R. As a dense matrix it is applied by one product, everywhere."""
    factor = jnp.linalg.cholesky(covariance)
    identity = jnp.eye(len(covariance), dtype=covariance.dtype)
    return jax.scipy.linalg.solve_triangular(factor, identity, lower=True)


def observe(
    values: Float[Array, "*windows times stations"],
    operator: Callable[[State], Float[Array, " stations"]],
    covariance: Float[Array, "stations stations"],
    *,
    missing: bool | None = None,
) -> Observations:
    """Observations with error covariance R at every time, of one window or (leading axis) of several.

    `missing=True` cuts missing (NaN) stations out of R exactly, time by time; `None` does so where it finds any, which
    it cannot inside `jit`: say it there. Raises `DataError` for a window without times, values that do not fit R, or an
    R that is not positive definite (outside `jit`).
    """
    if values.ndim < 2 or values.shape[-2] == 0:
        raise DataError(f"values: expected (times, stations) with one time or more, got shape {values.shape}")
    if covariance.shape != (values.shape[-1], values.shape[-1]):
        raise DataError(f"covariance: expected that of the {values.shape[-1]} stations, got shape {covariance.shape}")
    if not isinstance(covariance, Tracer):
        require_positive_definite("covariance", np.asarray(covariance))
    if missing is None:
        missing = not isinstance(values, Tracer) and bool(np.isnan(np.asarray(values)).any())
    if not missing:
        return Observations(values, operator, whitening(covariance))

    def without(present: Bool[Array, " stations"]) -> Float[Array, "stations stations"]:
        both = present[:, None] & present[None, :]
        kept = whitening(jnp.where(both, covariance, jnp.eye(len(covariance), dtype=covariance.dtype)))
        return jnp.where(both, kept, 0.0)

    present = jnp.isfinite(values)
    whiteners = jax.vmap(without)(present.reshape(-1, values.shape[-1]))
    return Observations(values, operator, whiteners.reshape(*values.shape, values.shape[-1]))


class LinearOperator(eqx.Module):
    """`H(x) = matrix x` of the newest entry of a delay state, or of a flat state."""

    matrix: Float[Array, "stations n"]

    def __call__(self, state: Float[Array, "*lags n"]) -> Float[Array, " stations"]:
        return self.matrix @ (state[0] if state.ndim == 2 else state)


def station_covariance(
    instrument_std: float | Float[np.ndarray, " stations"], truncated: Float[Array, "stations rest"]
) -> Float[Array, "stations stations"]:
    """R of point observations seen by a truncated basis: instrument variance plus truncation (representativeness).

    `truncated` holds the stations' rows of `Pod.truncated`. Without that term the analysis fits what its modes cannot
    express (Janjic et al. 2018, Q. J. R. Meteorol. Soc. 144, 1257-1278).
    """
    variances = jnp.broadcast_to(jnp.asarray(instrument_std, truncated.dtype) ** 2, len(truncated))
    return jnp.diag(variances) + truncated @ truncated.T

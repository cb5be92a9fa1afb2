"""What a sequential method is told about its world, and what it has to offer: the contract of filters and cyclers."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.observation import whitening
from jaxsci.assimilation.positive_definite import require_positive_definite
from jaxsci.assimilation.variational import StepMap
from jaxsci.core.config import Choice
from jaxsci.core.errors import DataError

Operator = Callable[[Array], Array]


class Select(eqx.Module):
    """The operator that observes single variables of a flat state."""

    indices: Int[np.ndarray, " stations"]

    def __call__(self, state: Float[Array, " n"]) -> Float[Array, " stations"]:
        return state[self.indices]


class Places(NamedTuple):
    """Where the variables of a flat state are, for methods that act locally."""

    coordinates: Float[np.ndarray, "n axes"]
    periods: tuple[float | None, ...]
    """Of each axis, in the unit of its coordinate; `None` is an open one."""


class Problem(eqx.Module):
    """A world to estimate: `x_k = forecast(x_{k-1})`, `y_k = operator(x_k) + N(0, noise)`, on flat states.

    `noise` is R, as variances (stations,) or as a matrix. `start` is what is known of the state one cycle before the
    first observation, `climate` what is known of it at any time. `interval` is the time between observations, in the
    model's units. `places` of the variables, where they are known; methods that need them take a line for granted.
    """

    forecast: StepMap
    operator: Operator
    noise: Float[Array, " stations"] | Float[Array, "stations stations"]
    start: Background
    climate: Background
    interval: float = eqx.field(static=True, default=1.0)
    places: Places | None = None

    def whiten(self, observation: Float[Array, " stations"], departures: Float[Array, "... stations"]) -> Array:
        """`R^(-1/2)` applied along the last axis. A missing (NaN) observation leaves zeros, its row of R is cut."""
        present = jnp.isfinite(observation)
        kept = jnp.where(present, departures, 0.0)
        if self.noise.ndim == 1:
            return kept / jnp.sqrt(self.noise)
        both = present[:, None] & present[None, :]
        identity = jnp.eye(len(self.noise), dtype=self.noise.dtype)
        return kept @ whitening(jnp.where(both, self.noise, identity)).T

    def linearise(self, state: Float[Array, " n"], observation: Float[Array, " stations"]) -> tuple[Array, Array]:
        """Whitened departure `R^(-1/2) (y - H(x))` (stations,) and operator `R^(-1/2) H'` (stations, n) at a state."""
        departure = self.whiten(observation, observation - self.operator(state))
        return departure, self.whiten(observation, jax.jacfwd(self.operator)(state).T).T


class Analysis(NamedTuple):
    """What one update found."""

    mean: Float[Array, " n"]
    """The analysis, at the time of the observation."""
    spread: Float[Array, ""]
    """What the method believes its RMS error to be: root of the mean variance."""
    forecast: Float[Array, " n"]
    """The mean just before the observation was used."""
    forecast_spread: Float[Array, ""]
    fit: Float[Array, ""]
    """Twice the least cost over the number of observations; near one where prior and R are right."""
    smoothed: Float[Array, " n"]
    """The state `Algorithm.lag` cycles earlier, as known now (of a filter: the analysis)."""
    members: Float[Array, "members n"] | None = None
    """The analysed ensemble, of methods that carry one of equal weights."""


class Algorithm(NamedTuple):
    """A method at work on one problem; both functions are pure."""

    init: Callable[[PRNGKeyArray], Any]
    """From a key to the state (a NamedTuple) at the time of `Problem.start`."""
    update: Callable[[Any, Float[Array, " stations"], PRNGKeyArray], tuple[Any, Analysis]]
    """`update(state, observation, key)`: one cycle on, the observation used; NaN marks a missing value."""
    lag: int = 0


class Method(Choice):
    """Family of the sequential methods' configs. A member is a frozen dataclass with `build(problem) -> Algorithm`."""

    def build(self, problem: Problem) -> Algorithm:
        raise NotImplementedError


def root_mean(variance: Float[Array, " n"]) -> Float[Array, ""]:
    """Root of the mean over sites: the spread of a state, in its own units, from its variances."""
    return jnp.sqrt(jnp.mean(variance))


def per_observation(twice_cost: Float[Array, ""], observation: Float[Array, " stations"]) -> Float[Array, ""]:
    """`twice_cost` over the number of observations that are present."""
    return twice_cost / jnp.maximum(jnp.sum(jnp.isfinite(observation)), 1)


def select(observed: Sequence[int] | np.ndarray | None, n: int) -> Select:
    """The operator for these variables of `n`, or for all. Raises `DataError` for none, or one outside the state."""
    indices = np.arange(n) if observed is None else np.asarray(observed, int).reshape(-1)
    if len(indices) == 0:
        raise DataError("observed: expected one variable or more, got none; None observes all")
    outside = indices[(indices < 0) | (indices >= n)]
    if len(outside):
        raise DataError(f"observed: expected indices from 0 to {n - 1}, got {outside[0]}; the state has {n} variables")
    return Select(indices)


def error_covariance(noise: Any, stations: int) -> Array:
    """R from one variance, variances (stations,) or a matrix. Raises `DataError` unless it is positive definite."""
    matrix = np.asarray(noise, float)
    if matrix.ndim == 0:
        matrix = np.full(stations, float(matrix))
    if matrix.shape not in ((stations,), (stations, stations)):
        raise DataError(
            f"noise: expected one variance, ({stations},) variances or a ({stations}, {stations}) covariance, "
            f"got shape {matrix.shape}"
        )
    require_positive_definite("noise", matrix)
    return jnp.asarray(matrix)

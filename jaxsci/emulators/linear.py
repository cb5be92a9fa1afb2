"""Direct linear forecasts: one ridge map per lead from a delay state."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.emulators.delay import advance, training_pairs


class LinearEmulator(eqx.Module):
    """`x(t + L) = sum_lag A[L, lag] x(t - lag)`, fitted lead by lead (direct, not iterated).

    With two lags this is the damped-wave model that daily mid-latitude weather follows to first order
    (linear inverse modelling: Penland and Sardeshmukh 1995, J. Climate 8, 1999-2024).
    """

    maps: Float[Array, "leads inputs modes"]
    lags: int = eqx.field(static=True)
    leads: int = eqx.field(static=True)

    def forecast(self, state: Float[Array, "lags modes"]) -> Float[Array, "leads modes"]:
        """The following days, first lead first."""
        return state.reshape(-1) @ self.maps

    def __call__(self, state: Float[Array, "lags modes"]) -> Float[Array, "lags modes"]:
        return advance(state.reshape(1, -1) @ self.maps[0], state)


def fit_linear(
    train: Float[np.ndarray, "days modes"],
    validation: Float[np.ndarray, "validation_days modes"],
    *,
    lags: int,
    leads: int,
    ridges: tuple[float, ...],
) -> LinearEmulator:
    """Ridge regression on the training days; each lead's penalty is the best of `ridges` on the validation days.

    A ridge is a variance per sample in squared units of the coefficients' mean variance.
    """
    states, targets = training_pairs(train, lags, leads)
    checks, truths = training_pairs(validation, lags, leads)
    inputs, held_out = states.reshape(len(states), -1), checks.reshape(len(checks), -1)
    gram = inputs.T @ inputs / len(inputs)
    unit = np.mean(np.diag(gram))
    maps = []
    for lead in range(leads):
        cross = inputs.T @ targets[:, lead] / len(inputs)
        fits = [np.linalg.solve(gram + ridge * unit * np.eye(len(gram)), cross) for ridge in ridges]
        errors = [np.square(held_out @ fit - truths[:, lead]).mean() for fit in fits]
        maps.append(fits[int(np.argmin(errors))])
    return LinearEmulator(jnp.asarray(np.stack(maps)), lags, leads)

"""Delay coordinates: a few consecutive days as one state, so that a direct forecaster becomes a step map."""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.core.errors import DataError


@runtime_checkable
class DirectEmulator(Protocol):
    """Forecasts all leads at once (non-autoregressively) from a delay state; newest day first, `state[0]` is now.

    `lags` and `leads` count days. As a callable it is a step map on delay states: one day forward.
    """

    @property
    def lags(self) -> int: ...

    @property
    def leads(self) -> int: ...

    def forecast(self, state: Float[Array, "lags modes"]) -> Float[Array, "leads modes"]: ...

    def __call__(self, state: Float[Array, "lags modes"]) -> Float[Array, "lags modes"]: ...


def advance(tomorrow: Float[Array, "1 modes"], state: Float[Array, "lags modes"]) -> Float[Array, "lags modes"]:
    """The delay state one day later: tomorrow enters as the newest day, the oldest leaves."""
    return jnp.concatenate([tomorrow, state[:-1]])


def delay_states(coefficients: Float[np.ndarray, "days modes"], lags: int) -> Float[np.ndarray, "samples lags modes"]:
    """All delay states of a series; the first belongs to day `lags - 1`. Raises `DataError` on too few days."""
    if len(coefficients) < lags:
        raise DataError(f"time: expected at least {lags} days for {lags} lags, got {len(coefficients)}")
    windows = np.lib.stride_tricks.sliding_window_view(coefficients, lags, axis=0)  # (days, modes, lags), oldest first
    return np.ascontiguousarray(windows.transpose(0, 2, 1)[:, ::-1])


def training_pairs(
    coefficients: Float[np.ndarray, "days modes"], lags: int, leads: int
) -> tuple[Float[np.ndarray, "samples lags modes"], Float[np.ndarray, "samples leads modes"]]:
    """Every delay state whose `leads` following days lie inside the series, and those days.

    Raises `DataError` where the series (a span of the data) is too short for a single pair.
    """
    if len(coefficients) < lags + leads:
        raise DataError(
            f"time: expected at least {lags + leads} days for {lags} lags and {leads} leads, got {len(coefficients)}"
        )
    states = delay_states(coefficients, lags)
    samples = len(coefficients) - lags - leads + 1
    targets = np.lib.stride_tricks.sliding_window_view(coefficients[lags:], leads, axis=0).transpose(0, 2, 1)
    return states[:samples], targets[:samples]

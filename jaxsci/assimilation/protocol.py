"""Which observations an analysis may see, and what it is verified against."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.core.errors import ConfigError


class ForecastProtocol(eqx.Module):
    """Observations at the days `t - window .. t`; verification of the analysis at `t` and of forecasts after `t`.

    The windows of a chain follow one another without overlap, so no observation is used twice; `window + 1` chains,
    one day apart, give every day an analysis. Observations carry noise: an analysis that sees the truth would be a fit.
    """

    window: int = eqx.field(static=True)
    stations: int = eqx.field(static=True)
    noise_std: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if self.window < 0:
            raise ConfigError(f"window: expected 0 or more days before the analysis, got {self.window}")
        if self.stations < 1:
            raise ConfigError(f"stations: expected 1 or more, got {self.stations}")
        if not self.noise_std > 0:
            raise ConfigError(f"noise_std: expected a value above 0 (protocol forecast), got {self.noise_std}")

    @property
    def days_per_window(self) -> int:
        return self.window + 1

    def windows(self, days: int) -> Int[Array, "chains windows times"]:
        """Day indices of every window. Chain `c` starts at day `c`; windows that would pass the last day are left out,
        so all chains have the same number of windows."""
        length = self.days_per_window
        count = (days - length + 1) // length
        if count < 1:
            raise ConfigError(f"window: expected windows shorter than the {days} days observed, got {length} days")
        starts = jnp.arange(length)[:, None] + length * jnp.arange(count)
        return starts[:, :, None] + jnp.arange(length)


class Network(NamedTuple):
    """A draw of stations and of what they measured."""

    stations: Int[Array, " stations"]
    """Indices of grid points, all different."""
    values: Float[Array, "days stations"]
    """Truth at the stations plus white Gaussian noise."""


def draw_network(protocol: ForecastProtocol, truth: Float[Array, "days points"], *, key: PRNGKeyArray) -> Network:
    """Stations drawn uniformly from the grid, observing `truth` every day with noise.

    Raises `ConfigError` where there are more stations than points.
    """
    if protocol.stations > truth.shape[1]:
        raise ConfigError(f"stations: expected at most {truth.shape[1]}, one a point, got {protocol.stations}")
    place, noise = jax.random.split(key)
    stations = jax.random.choice(place, truth.shape[1], (protocol.stations,), replace=False)
    seen = truth[:, stations]
    return Network(stations, seen + protocol.noise_std * jax.random.normal(noise, seen.shape, seen.dtype))

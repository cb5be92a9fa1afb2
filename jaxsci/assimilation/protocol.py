"""Which observations an analysis may see, and what it is verified against."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.core.errors import ConfigError


class ForecastProtocol(eqx.Module):
    """Observations at the days `t - window .. t`; verification of the analysis at `t` and of forecasts after `t`.

    The windows of a chain follow one another without overlap, so no observation is used twice; `window + 1` chains,
    one day apart, give every day an analysis. Observations carry noise: an analysis that sees the truth would be a fit.

    Where several variables lie side by side on the same points, `companion_noise` holds the noise of each after the
    first, `None` where stations do not report it.
    """

    window: int = eqx.field(static=True)
    stations: int = eqx.field(static=True)
    noise_std: float = eqx.field(static=True)
    companion_noise: tuple[float | None, ...] = eqx.field(static=True, default=())

    def __check_init__(self) -> None:
        if self.window < 0:
            raise ConfigError(f"window: expected 0 or more days before the analysis, got {self.window}")
        if self.stations < 1:
            raise ConfigError(f"stations: expected 1 or more, got {self.stations}")
        for noise in self.reported:
            if not noise > 0:
                raise ConfigError(f"noise_std: expected a value above 0 (protocol forecast), got {noise}")

    @property
    def reported(self) -> tuple[float, ...]:
        """Noise of each variable that stations report."""
        return tuple(noise for noise in (self.noise_std, *self.companion_noise) if noise is not None)

    def deviations(self, stations: int) -> Float[np.ndarray, " observations"]:
        """Standard deviation of every observation of a day from so many stations, variable after variable."""
        return np.repeat(np.array(self.reported), stations)

    def columns(self, stations: Int[Array, " stations"], points: int) -> Int[Array, " observations"]:
        """Where the observations lie among the `points` of all variables, stations of one variable after the other."""
        variables = 1 + len(self.companion_noise)
        starts = points // variables * np.arange(variables)
        noise = (self.noise_std, *self.companion_noise)
        kept = [start for start, n in zip(starts, noise, strict=True) if n is not None]
        return jnp.ravel(jnp.array(kept)[:, None] + stations[None, :])

    @property
    def days_per_window(self) -> int:
        """Days that one analysis sees, its own included."""
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
    values: Float[Array, "days observations"]
    """Truth at the stations plus white Gaussian noise, variable after variable."""


def draw_network(protocol: ForecastProtocol, truth: Float[Array, "days points"], *, key: PRNGKeyArray) -> Network:
    """Stations drawn uniformly from the grid, observing `truth` every day with noise.

    `truth` holds the points of the first variable, then those of each companion. Raises `ConfigError` where there are
    more stations than points.
    """
    points = truth.shape[1] // (1 + len(protocol.companion_noise))
    if protocol.stations > points:
        raise ConfigError(f"stations: expected at most {points}, one a point, got {protocol.stations}")
    place, noise = jax.random.split(key)
    stations = jax.random.choice(place, points, (protocol.stations,), replace=False)
    return observe_network(protocol, stations, truth, key=noise)


def observe_network(
    protocol: ForecastProtocol,
    stations: Int[Array, " stations"],
    truth: Float[Array, "days points"],
    *,
    key: PRNGKeyArray,
) -> Network:
    """What given stations measure of `truth`."""
    seen = truth[:, protocol.columns(stations, truth.shape[1])]
    noise = protocol.deviations(len(stations)) * jax.random.normal(key, seen.shape, seen.dtype)
    return Network(stations, seen + noise)

"""ADWIN: a window that is cut wherever its two parts differ too much (Bifet & Gavalda 2007)."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsci.drift.alarm import Verdict


class AdwinState(NamedTuple):
    """The window of ADWIN; `time` counts the points seen."""

    window: Float[Array, " n"]
    """Latest points, newest first; only the first `length` count."""
    length: Int[Array, ""]
    time: Int[Array, ""]


class Adwin(eqx.Module):
    """The exact form of the method, ADWIN0, that tries every cut of the window (of at most `capacity` points).

    Parts of n0 and n1 points (m their harmonic mean, v the variance of the window) differ when their means do by more
    than sqrt(2 v ln(2 n / delta) / m) + 2 ln(2 n / delta) / (3 m). The older part is then dropped.
    """

    confidence: float = 0.002
    capacity: int = eqx.field(static=True, default=512)
    least: int = eqx.field(static=True, default=5)

    def init(self) -> AdwinState:
        """The state before the first point."""
        return AdwinState(jnp.zeros(self.capacity), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def update(self, state: AdwinState, x: Float[Array, ""]) -> tuple[AdwinState, Verdict]:
        """Take in a point; the verdict says whether the window was cut."""
        window = jnp.concatenate([x[None].astype(state.window.dtype), state.window[:-1]])
        length = jnp.minimum(state.length + 1, self.capacity)
        position = jnp.arange(self.capacity)
        values = jnp.where(position < length, window, 0.0)
        newer = jnp.arange(1, self.capacity + 1)  # points in the newer part, for a cut after each position
        older = length - newer
        total = values.sum()
        sums = jnp.cumsum(values)
        mean = total / length
        variance = jnp.where(position < length, (window - mean) ** 2, 0.0).sum() / length
        harmonic = 1 / (1 / newer + 1 / jnp.maximum(older, 1))
        log_term = jnp.log(2 * jnp.maximum(length, 1) / self.confidence)
        bound = jnp.sqrt(2 * variance * log_term / harmonic) + 2 * log_term / (3 * harmonic)
        difference = jnp.abs(sums / newer - (total - sums) / jnp.maximum(older, 1))
        allowed = (newer >= self.least) & (older >= self.least)
        excess = jnp.where(allowed, difference - bound, -jnp.inf)
        cut = jnp.argmax(excess)
        alarm = excess[cut] > 0
        kept = jnp.where(alarm, newer[cut], length).astype(jnp.int32)
        time = state.time + 1
        return AdwinState(window, kept, time), Verdict(alarm, time - kept, excess[cut])

"""KSWIN-like: the latest points against those before them by the Kolmogorov-Smirnov distance (Raab et al. 2020)."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsci.drift.alarm import Verdict


class KswinState(NamedTuple):
    """The latest points; `length` of them count, `time` counts the points seen."""

    window: Float[Array, " n"]
    """Latest points, newest first."""
    length: Int[Array, ""]
    time: Int[Array, ""]


class Kswin(eqx.Module):
    """Compares the last `recent` of `size` points with all older ones of the window.

    The published method compares with a random sample of them; all of them need no random numbers. Alarm when the
    distance D exceeds sqrt(ln(2 / level) (n + m) / (2 n m)); the older points are then dropped.
    """

    level: float = 1e-4
    size: int = eqx.field(static=True, default=100)
    recent: int = eqx.field(static=True, default=30)

    def init(self) -> KswinState:
        """The state before the first point."""
        return KswinState(jnp.zeros(self.size), jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))

    def update(self, state: KswinState, x: Float[Array, ""]) -> tuple[KswinState, Verdict]:
        """Take in a point and compare the latest with those before."""
        window = jnp.concatenate([x[None].astype(state.window.dtype), state.window[:-1]])
        length = jnp.minimum(state.length + 1, self.size)
        old = length - self.recent
        order = jnp.argsort(window)
        new_share = (order < self.recent) / self.recent
        old_share = ((order >= self.recent) & (order < length)) / jnp.maximum(old, 1)
        gap = jnp.abs(jnp.cumsum(new_share - old_share))
        ordered = window[order]
        last_of_ties = jnp.concatenate([ordered[1:] != ordered[:-1], jnp.ones(1, bool)])
        distance = jnp.where(last_of_ties, gap, 0.0).max()
        bound = jnp.sqrt(jnp.log(2 / self.level) * (1 / self.recent + 1 / jnp.maximum(old, 1)) / 2)
        alarm = (old >= self.recent) & (distance > bound)
        kept = jnp.where(alarm, self.recent, length).astype(jnp.int32)
        time = state.time + 1
        return KswinState(window, kept, time), Verdict(alarm, time - kept, distance - bound)

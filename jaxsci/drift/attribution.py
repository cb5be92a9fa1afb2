"""What changed: the evidence, coordinate by coordinate, that a change found in all of them together was theirs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxsci.drift.segments.segment import Segment


def attribute(
    segment: Segment,
    x: Float[Array, "t d"],
    before: Int[Array, ""] | int,
    start: Int[Array, ""] | int,
    end: Int[Array, ""] | int,
    known: Bool[Array, "t d"] | None = None,
) -> Float[Array, " d"]:
    """Log Bayes factor of each coordinate for a new segment at `start` against the old one going on.

        log p(x[start:end] | a segment of their own) - log p(x[start:end] | x[before:start])

    `segment` models one coordinate, as the one inside `Independent` does; `before` is the first point of the old
    segment. Pure; `vmap` over series and alarms.
    """
    known = jnp.ones(x.shape, bool) if known is None else known
    time = jnp.arange(len(x))

    def one(x: Float[Array, " t"], known: Bool[Array, " t"]) -> Float[Array, ""]:
        def step(state: tuple, point: tuple) -> tuple[tuple, Float[Array, ""]]:
            memory, old, new = state
            value, there, now = point
            memory, z = segment.observe(memory, value[None], there[None])
            looked, later = (there & (now >= first) & (now < end) for first in (before, start))
            went_on, old = segment.step(old, z, looked[None])
            fresh, new = segment.step(new, z, later[None])
            return (memory, old, new), jnp.where(later, fresh - went_on, 0.0)

        empty = jax.tree.map(jnp.asarray, segment.empty())
        return jnp.sum(jax.lax.scan(step, (segment.memory(), empty, empty), (x, known, time))[1])

    return jax.vmap(one, in_axes=1)(x, known)

"""A library of past regimes: machines return to old levels, for some kinds of work and not for others.

Each regime is a level (log10 performance) per kind. After a change, the first new values of a kind are weighed against
every remembered level of it and against a level never seen.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsci.drift.matching import class_median

RANGE = 2.0  # decades over which a level never seen is thought to lie


class Regimes(NamedTuple):
    """`levels` (regime, kind) in log10; `spread` (kind): typical absolute deviation of a value from its level.

    A regime without values of a kind has a level of NaN there.
    """

    levels: Float[Array, "m k"]
    spread: Float[Array, " k"]


class Recall(NamedTuple):
    """What the library of m regimes says about k kinds of job."""

    level: Float[Array, " k"]
    """Expected level of each kind: remembered levels and the new median, by their probabilities."""
    returned: Float[Array, "m k"]
    """Probability that a kind has returned to the level of each regime; 1 less their sum: to none."""


def recall(
    regimes: Regimes,
    y: Float[Array, " n"],
    kind: Int[Array, " n"],
    weight: Float[Array, " n"],
    *,
    prior_new: float = 0.5,
) -> Recall:
    """Weigh the remembered levels with Laplace noise, which a single odd value does not mislead.

    A level never seen has prior `prior_new`, uniform over RANGE; its evidence by Laplace's method at the new median.
    A kind without new values keeps the prior mixture, that is the mean of its past levels and of all new values.
    """
    kinds = regimes.levels.shape[1]
    median, count = class_median(y, kind, weight, kinds=kinds)
    known = jnp.isfinite(regimes.levels)
    levels = jnp.where(known, regimes.levels, 0.0)

    def fit(level: Float[Array, " k"]) -> Float[Array, " k"]:
        """log likelihood of each kind's values about `level`."""
        scores = -weight * (jnp.abs(y - level[kind]) / regimes.spread[kind] + jnp.log(2 * regimes.spread[kind]))
        return jax.ops.segment_sum(scores, kind, num_segments=kinds)

    past = jnp.where(
        known, jax.vmap(fit)(levels) + jnp.log(1 - prior_new) - jnp.log(jnp.maximum(known.sum(axis=0), 1)), -jnp.inf
    )
    width = regimes.spread * jnp.sqrt(2 * jnp.pi / jnp.maximum(count, 1.0))  # of the new level's posterior
    new = fit(median) + jnp.log(prior_new) + jnp.where(count > 0, jnp.log(jnp.minimum(width / RANGE, 1.0)), 0.0)
    share = jax.nn.softmax(jnp.concatenate([past, new[None]]), axis=0)
    level = (share[:-1] * levels).sum(axis=0) + share[-1] * median
    return Recall(level, share[:-1])


def remember(
    y: Float[Array, " n"],
    kind: Int[Array, " n"],
    weight: Float[Array, " n"],
    regime: Int[Array, " n"],
    *,
    kinds: int,
    regimes: int,
) -> Regimes:
    """The library of labelled past values: `regime` says between which changes each was taken."""

    def one(number: Int[Array, ""]) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
        return class_median(y, kind, weight * (regime == number), kinds=kinds)

    levels, counts = jax.vmap(one)(jnp.arange(regimes))
    deviations = jnp.abs(y - levels[regime, kind])
    spread, _ = class_median(deviations, kind, weight, kinds=kinds)
    return Regimes(jnp.where(counts > 0, levels, jnp.nan), jnp.maximum(1.5 * spread, 0.01))

"""How good probabilities are: proper scores, calibration errors, and the error that perfect calibration would show."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

BINS = 15
TINY = 1e-12  # float32 keeps it apart from 0; a prediction of exactly 0 costs 27.6 nats


class Scores(NamedTuple):
    """Of predicted class probabilities against labels; every field is a mean over examples."""

    accuracy: Float[Array, ""]
    nll: Float[Array, ""]
    """Negative log-likelihood in nats."""
    brier: Float[Array, ""]
    """Sum over classes of squared differences from the one-hot label."""
    ece: Float[Array, ""]
    """Expected calibration error of the top class, 15 bins of equal width."""
    adaptive_ece: Float[Array, ""]
    """The same with bins of equal mass."""
    classwise_ece: Float[Array, ""]
    """Mean over classes of the error of that class's probability, bins of equal width."""
    gap: Float[Array, ""]
    """Mean confidence less accuracy: above 0 is overconfident."""


def scores(p: Float[Array, "examples classes"], y: Int[Array, " examples"]) -> Scores:
    """All scores of one prediction. `vmap` over arms, members or corruptions."""
    confidence, correct = top(p, y)
    one_hot = jax.nn.one_hot(y, p.shape[-1])
    classwise = jax.vmap(equal_width_error, in_axes=(1, 1))(p, one_hot)
    return Scores(
        jnp.mean(correct),
        jnp.mean(negative_log(p, y)),
        jnp.mean(jnp.sum(jnp.square(p - one_hot), axis=-1)),
        equal_width_error(confidence, correct),
        equal_mass_error(confidence, correct),
        jnp.mean(classwise),
        jnp.mean(confidence) - jnp.mean(correct),
    )


def negative_log(p: Float[Array, "examples classes"], y: Int[Array, " examples"]) -> Float[Array, " examples"]:
    """Negative log-likelihood of each label, in nats."""
    return -jnp.log(jnp.maximum(jnp.take_along_axis(p, y[:, None], axis=-1)[:, 0], TINY))


def top(
    p: Float[Array, "examples classes"], y: Int[Array, " examples"]
) -> tuple[Float[Array, " examples"], Float[Array, " examples"]]:
    """Probability of the most probable class, and 1 where it is the label."""
    return jnp.max(p, axis=-1), (jnp.argmax(p, axis=-1) == y).astype(p.dtype)


def equal_width_error(
    confidence: Float[Array, " examples"], correct: Float[Array, " examples"], bins: int = BINS
) -> Float[Array, ""]:
    """Sum over bins of share x |mean confidence - accuracy| (Guo et al., arXiv:1706.04599, eq. 3).

    Bins are (k/bins, (k+1)/bins], the first one includes 0.
    """
    number = jnp.clip(jnp.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = jnp.zeros(bins, confidence.dtype).at[number].add(confidence - correct)
    return jnp.sum(jnp.abs(gaps)) / len(confidence)


def equal_mass_error(
    confidence: Float[Array, " examples"], correct: Float[Array, " examples"], bins: int = BINS
) -> Float[Array, ""]:
    """The same over consecutive groups of the sorted confidences, their sizes equal up to one."""
    order = jnp.argsort(confidence)
    number = jnp.arange(len(confidence)) * bins // len(confidence)
    gaps = jnp.zeros(bins, confidence.dtype).at[number].add((confidence - correct)[order])
    return jnp.sum(jnp.abs(gaps)) / len(confidence)


class Floor(NamedTuple):
    """What a perfectly calibrated model with the same confidences would show by chance."""

    ece: Float[Array, ""]
    ece_std: Float[Array, ""]
    adaptive_ece: Float[Array, ""]
    adaptive_ece_std: Float[Array, ""]


def floor(confidence: Float[Array, " examples"], *, draws: int = 300, key: Key[Array, ""]) -> Floor:
    """Simulate labels as Bernoulli(confidence): a finite test set alone makes both errors positive."""

    def once(key: Key[Array, ""]) -> tuple[Array, Array]:
        correct = jax.random.bernoulli(key, confidence).astype(confidence.dtype)
        return equal_width_error(confidence, correct), equal_mass_error(confidence, correct)

    width, mass = jax.lax.map(once, jax.random.split(key, draws), batch_size=50)
    return Floor(jnp.mean(width), jnp.std(width), jnp.mean(mass), jnp.std(mass))


class Interval(NamedTuple):
    """Ends of a bootstrap interval, in the units of what was resampled."""

    low: Float[Array, "..."]
    high: Float[Array, "..."]


def bootstrap(
    statistic: Callable[[Array, Array], Array],
    p: Float[Array, "examples classes"],
    y: Int[Array, " examples"],
    *,
    level: float = 0.95,
    draws: int = 500,
    key: Key[Array, ""],
) -> Interval:
    """Percentile interval of `statistic(p, y)` over test examples drawn again with replacement."""

    def once(key: Key[Array, ""]) -> Array:
        rows = jax.random.randint(key, (len(y),), 0, len(y))
        return statistic(p[rows], y[rows])

    values = jax.lax.map(once, jax.random.split(key, draws), batch_size=50)
    return Interval(*jnp.quantile(values, jnp.array([(1 - level) / 2, (1 + level) / 2]), axis=0))


class Reliability(NamedTuple):
    """One row per bin of equal width, for a reliability diagram; empty bins have count 0 and values 0."""

    confidence: Float[Array, " bins"]
    accuracy: Float[Array, " bins"]
    count: Float[Array, " bins"]


def reliability(p: Float[Array, "examples classes"], y: Int[Array, " examples"], bins: int = BINS) -> Reliability:
    """Mean confidence, accuracy and number of examples in each of `bins` equally wide bins of confidence; empty bins
    hold 0.
    """
    confidence, correct = top(p, y)
    number = jnp.clip(jnp.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    add = lambda values: jnp.zeros(bins, p.dtype).at[number].add(values)  # noqa: E731
    count = add(jnp.ones_like(confidence))
    safe = jnp.maximum(count, 1)
    return Reliability(add(confidence) / safe, add(correct) / safe, count)


class BrierParts(NamedTuple):
    """Murphy's split of the two-class Brier score of the top class: score = reliability - resolution + uncertainty, up
    to the spread of confidences within a bin.
    """

    reliability: Float[Array, ""]
    resolution: Float[Array, ""]
    uncertainty: Float[Array, ""]


def brier_parts(p: Float[Array, "examples classes"], y: Int[Array, " examples"]) -> BrierParts:
    """Murphy 1973, doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2, over 15 bins of equal width."""
    rows = reliability(p, y)
    share = rows.count / jnp.sum(rows.count)
    base = jnp.sum(share * rows.accuracy)
    return BrierParts(
        jnp.sum(share * jnp.square(rows.confidence - rows.accuracy)),
        jnp.sum(share * jnp.square(rows.accuracy - base)),
        base * (1 - base),
    )

"""Making data from before a change useful after it.

Four pure functions of old and new samples. The transformation of Madireddy et al. 2019 (doi 10.1145/3337821.3337922) is
not published in detail, so these are definitions of our own:

    M0  `class_median`: the median of the new samples of a class, the baseline that everything else has to beat
    M1  `match_moments`: per class, y' = mu_new + (s_new / s_old)^w (y - mu_old), w = n / (n + 5)
    M2  `coral`: z' = mu_new + S_new^(1/2) S_old^(-1/2) (z - mu_old) on z = (x, y); Sun, Feng & Saenko 2016
    M3  `affine_law`: y_new = a + b y_old, a conjugate linear map from old predictions to new values

Weights make all of them soft: an old sample counts by the probability that nothing has changed since it was taken
(`since_change`), and arrays can be padded with weights of zero.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

SHRINKAGE = 5.0  # samples at which a class's own spread counts half


class Moments(NamedTuple):
    """Of each class: total weight, mean and standard deviation (ddof 0)."""

    weight: Float[Array, " k"]
    mean: Float[Array, " k"]
    deviation: Float[Array, " k"]


def class_moments(y: Float[Array, " n"], kind: Int[Array, " n"], weight: Float[Array, " n"], *, kinds: int) -> Moments:
    """Weighted moments of each class; those of a class without samples are 0."""

    def total(values: Float[Array, " n"]) -> Float[Array, " k"]:
        return jax.ops.segment_sum(weight * values, kind, num_segments=kinds)

    count = total(jnp.ones_like(y))
    mean = total(y) / jnp.maximum(count, 1e-12)
    variance = total((y - mean[kind]) ** 2) / jnp.maximum(count, 1e-12)
    return Moments(count, mean, jnp.sqrt(variance))


def match_moments(
    y: Float[Array, " n"], kind: Int[Array, " n"], old: Moments, new: Moments, *, shrinkage: float = SHRINKAGE
) -> Float[Array, " n"]:
    """M1: old values on the level and, as far as the new samples allow, the spread of the new ones.

    A class with fewer than two new samples is left as it is.
    """
    trust = new.weight / (new.weight + shrinkage)
    positive = (old.deviation > 0) & (new.deviation > 0)
    ratio = jnp.where(positive, new.deviation, 1.0) / jnp.where(positive, old.deviation, 1.0)
    moved = new.mean[kind] + (ratio**trust)[kind] * (y - old.mean[kind])
    return jnp.where(new.weight[kind] >= 2, moved, y)


def coral(
    old: Float[Array, "n d"],
    old_weight: Float[Array, " n"],
    new: Float[Array, "m d"],
    new_weight: Float[Array, " m"],
    *,
    ridge: float = 0.1,
) -> Float[Array, "n d"]:
    """M2: old samples with the mean and covariance of the new ones, both covariances plus `ridge` times their diagonal.

    Finite for any number of new samples; with fewer than d the direction of the recolouring is mostly the ridge.
    """
    old_mean, old_root = _mean_and_root(old, old_weight, ridge)
    new_mean, new_root = _mean_and_root(new, new_weight, ridge)
    return new_mean + (old - old_mean) @ jnp.linalg.solve(old_root, new_root)


class AffineLaw(NamedTuple):
    """y_new = intercept + slope y_old, with the covariance of both and the noise variance."""

    coefficients: Float[Array, "2"]
    covariance: Float[Array, "2 2"]
    noise: Float[Array, ""]

    def __call__(self, y_old: Float[Array, " n"]) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """Mean and standard deviation of the new value."""
        design = jnp.stack([jnp.ones_like(y_old), y_old], axis=1)
        spread = jnp.einsum("ni,ij,nj->n", design, self.covariance, design)
        return design @ self.coefficients, jnp.sqrt(self.noise * (1 + spread))


def affine_law(
    y_old: Float[Array, " n"],
    y_new: Float[Array, " n"],
    weight: Float[Array, " n"],
    *,
    precision: float = 1.0,
) -> AffineLaw:
    """M3: conjugate Bayesian regression of new values on what the old model says of the same samples.

    The prior, worth `precision` samples in each coefficient, is that nothing has changed: intercept 0, slope 1.
    """
    design = jnp.stack([jnp.ones_like(y_old), y_old], axis=1)
    residual = y_new - y_old
    gram = (design.T * weight) @ design + precision * jnp.eye(2)
    shift = jnp.linalg.solve(gram, design.T @ (weight * residual))
    squares = (weight * residual**2).sum() - shift @ gram @ shift
    noise = (0.02 + jnp.maximum(squares, 0.0)) / (2 + weight.sum())
    return AffineLaw(jnp.array([0.0, 1.0]) + shift, jnp.linalg.inv(gram), noise)


def class_median(
    y: Float[Array, " n"], kind: Int[Array, " n"], weight: Float[Array, " n"], *, kinds: int
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """M0: weighted median and total weight of each class; the value in the middle, or the mean of the middle two.

    A class without samples gets the median of all of them, so that there is always an answer.
    """
    order = jnp.argsort(y)
    y, kind, weight = y[order], kind[order], weight[order]

    def median(share: Float[Array, " n"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        below = jnp.cumsum(share)
        total = below[-1]
        half = 0.5 * total * jnp.array([1 - 1e-9, 1 + 1e-9])
        middle = jnp.searchsorted(below, half).clip(0, len(y) - 1)
        return y[middle].mean(), total

    medians, counts = jax.vmap(lambda k: median(jnp.where(kind == k, weight, 0.0)))(jnp.arange(kinds))
    return jnp.where(counts > 0, medians, median(weight)[0]), counts


def since_change(log_mass: Float[Array, " r"], length: int) -> Float[Array, " t"]:
    """P(no change since point i | x_1:t) for the last `length` points, oldest first: P(r_t > points after i).

    Of the capacity's last cell nothing more is known than that the run is at least that long.
    """
    mass = jnp.exp(log_mass)
    longer = jnp.cumsum(mass[::-1])[::-1]  # longer[r] = P(r_t >= r)
    age = jnp.arange(length, 0, -1)  # point i is inside the run if r_t >= age
    return longer[jnp.minimum(age, len(mass) - 1)]


def _mean_and_root(
    samples: Float[Array, "n d"], weight: Float[Array, " n"], ridge: float
) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
    """Weighted mean and the symmetric square root of the covariance plus a ridge."""
    total = jnp.maximum(weight.sum(), 1e-12)
    mean = weight @ samples / total
    centred = samples - mean
    covariance = (centred.T * weight) @ centred / total
    variances = jnp.diag(covariance)
    covariance += jnp.diag(ridge * variances + 1e-6 * (1e-6 + variances.mean()))
    values, vectors = jnp.linalg.eigh(covariance)
    return mean, (vectors * jnp.sqrt(jnp.maximum(values, 0.0))) @ vectors.T

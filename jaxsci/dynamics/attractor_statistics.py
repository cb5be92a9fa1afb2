"""What a long trajectory is judged by: energy, spectrum, joint densities, distances between distributions, memory."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.core.errors import DataError
from jaxsci.dynamics.periodic import derivative


def energy(u: Float[Array, "*batch n"]) -> Float[Array, "*batch"]:
    """`<u^2> / 2`, the mean over space."""
    return 0.5 * jnp.mean(jnp.square(u), axis=-1)


def energy_spectrum(u: Float[Array, "*batch n"]) -> Float[Array, "*batch frequencies"]:
    """Energy of each Fourier mode n; the sum over n is `energy(u)` (Parseval)."""
    n = u.shape[-1]
    power = jnp.square(jnp.abs(jnp.fft.rfft(u) / n))
    twice = jnp.ones(power.shape[-1]).at[0].set(0.5)
    return power * (twice.at[-1].set(0.5) if n % 2 == 0 else twice)


def spectrum_error(
    found: Float[np.ndarray, " frequencies"], truth: Float[np.ndarray, " frequencies"], modes: slice
) -> float:
    """Root mean square of `log10(E_found / E_truth)` over a band of modes, in decades."""
    tiny = np.finfo(np.float64).tiny
    ratio = np.log10(np.maximum(found[modes], tiny) / np.maximum(truth[modes], tiny))
    return float(np.sqrt(np.mean(ratio**2)))


def balance(u: Float[Array, "*batch n"], length: float) -> Float[Array, ""]:
    """`<u_x^2> - <u_xx^2>` over `<u_x^2>`: zero in the long-time mean of the Kuramoto-Sivashinsky equation, exactly."""
    slope, bend = (jnp.mean(jnp.square(derivative(u, length, order))) for order in (1, 2))
    return (slope - bend) / slope


class Bins(NamedTuple):
    """A fixed grid for the joint density of `u_x` and `u_xx`, common to all that is compared."""

    counts: tuple[int, int] = (100, 100)
    slope: tuple[float, float] = (-3.5, 3.5)
    bend: tuple[float, float] = (-5.0, 5.0)


class Joint(NamedTuple):
    """A histogram: share of the points in each bin, and the share that lies outside the grid."""

    density: Float[np.ndarray, "slopes bends"]
    outside: float
    points: int


def joint_density(u: Float[np.ndarray, "*batch n"], length: float, bins: Bins = Bins()) -> Joint:  # noqa: B008
    """The joint histogram of `(u_x, u_xx)` over all points and states. States that are not finite count as outside."""
    u = np.asarray(u, np.float64).reshape(-1, np.shape(u)[-1])
    sound = np.isfinite(u).all(axis=1)
    slope, bend = (np.asarray(derivative(jnp.asarray(u[sound]), length, order)).ravel() for order in (1, 2))
    counts, _, _ = np.histogram2d(slope, bend, bins=bins.counts, range=(bins.slope, bins.bend))
    return Joint(counts / u.size, float(1 - counts.sum() / u.size), u.size)


class Divergence(NamedTuple):
    """Kullback-Leibler divergence of two histograms, and the mass that only one of them has."""

    kl: float
    missed: float
    """Share of the truth in bins that the other leaves empty."""
    invented: float
    """Share of the other in bins that the truth leaves empty, or outside the grid."""


def joint_divergence(truth: Joint, other: Joint) -> Divergence:
    """`sum p log(p / q)` over the bins of the truth p. Report it beside its floor, that of two samples of the truth.

    Where the other has no point, it counts as having one (of as many as the larger sample has): the divergence is
    finite, and does not overlook a model that lives elsewhere, as a sum over common bins alone would.
    """
    p, q = truth.density, other.density
    occupied = p > 0
    floored = np.maximum(q[occupied], 1 / max(truth.points, other.points))
    kl = float(np.sum(p[occupied] * np.log(p[occupied] / floored)))
    return Divergence(kl, float(p[q == 0].sum()), float(q[~occupied].sum() + other.outside))


def wasserstein(a: Float[Array, " m"], b: Float[Array, " n"], quantiles: int = 1000) -> Float[Array, ""]:
    """First Wasserstein distance of two samples on the line, `integral |F_a^-1 - F_b^-1|` by the midpoint rule."""
    levels = (jnp.arange(quantiles) + 0.5) / quantiles
    return jnp.mean(jnp.abs(jnp.quantile(a, levels) - jnp.quantile(b, levels)))


def sliced_wasserstein(
    a: Float[Array, "m d"], b: Float[Array, "n d"], directions: int = 64, *, key: PRNGKeyArray
) -> Float[Array, ""]:
    """Mean of `wasserstein` over random directions. Source: Bonneel et al. 2015, J. Math. Imaging Vis. 51, 22-45."""
    w = jax.random.normal(key, (directions, a.shape[1]), a.dtype)
    w = w / jnp.linalg.norm(w, axis=1, keepdims=True)
    return jnp.mean(jax.vmap(lambda v: wasserstein(a @ v, b @ v))(w))


def maximum_mean_discrepancy(a: Float[Array, "m d"], b: Float[Array, "n d"], scale: float) -> Float[Array, ""]:
    """Unbiased squared MMD with the kernel `exp(-|x - y|^2 / (2 scale^2))`; near zero, of either sign, for one law.

    Source: Gretton et al. 2012, J. Mach. Learn. Res. 13, 723-773, lemma 6.
    """

    def kernel(x: Array, y: Array) -> Array:
        squares = jnp.sum(x**2, -1)[:, None] + jnp.sum(y**2, -1) - 2 * x @ y.T
        return jnp.exp(-squares / (2 * scale**2))

    m, n = len(a), len(b)
    within = lambda k, size: (jnp.sum(k) - size) / (size * (size - 1))  # noqa: E731  the diagonal is ones
    return within(kernel(a, a), m) + within(kernel(b, b), n) - 2 * jnp.mean(kernel(a, b))


def autocorrelation(u: Float[Array, "time n"], lags: int) -> Float[Array, " lags"]:
    """Of the anomaly at a point, mean over points, at lags 0 to `lags - 1`. Raises `DataError` on too few times."""
    if lags >= len(u):
        raise DataError(f"lags: expected fewer than the {len(u)} times, got {lags}")
    anomaly = u - jnp.mean(u, axis=0)
    padded = jnp.fft.rfft(anomaly, 2 * len(u), axis=0)
    sums = jnp.fft.irfft(jnp.square(jnp.abs(padded)), axis=0)[:lags]
    covariance = jnp.mean(sums, axis=1) / (len(u) - jnp.arange(lags))
    return covariance / covariance[0]

"""From parameters to trajectories without training a network: radial basis functions and Gaussian processes."""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.optimize import minimize

from jaxsci.core.errors import DataError
from jaxsci.emulators.trajectory import Encoding, Trajectories, TrajectoryScale


class KernelEmulator(eqx.Module):
    """`parameters -> (times, modes)`: a weighted sum of kernels about the training runs, plus a linear part.

    `spline` is the thin-plate spline `r^2 log r` with a linear part, `gaussian` is `exp(-r^2 / 2)` without; r is the
    distance of encoded parameters, each divided by its `length`.
    """

    kernel: Literal["spline", "gaussian"] = eqx.field(static=True)
    centres: Float[Array, "runs features"]
    length: Float[Array, " features"]
    weights: Float[Array, "terms outputs"]
    scale: TrajectoryScale
    encode: Encoding = eqx.field(static=True)

    def __call__(self, parameters: Float[Array, " parameters"]) -> Float[Array, "times modes"]:
        features = self.encode(parameters).astype(self.centres.dtype) / self.length
        values = _kernel(self.kernel, jnp.sum(jnp.square(features - self.centres / self.length), -1))
        if self.kernel == "spline":
            values = jnp.concatenate([values, jnp.ones(1, values.dtype), features])
        return self.scale.restore((values @ self.weights).reshape(self.scale.centre.shape))


class GaussianProcess(eqx.Module):
    """The Gaussian-process mean, and the standard deviation it believes in; one covariance serves every output."""

    mean: KernelEmulator
    factor: Float[np.ndarray, "runs runs"]
    """Cholesky factor of the covariance of the training runs over the amplitude, in float64."""
    amplitude: float = eqx.field(static=True)
    noise: float = eqx.field(static=True)

    def __call__(self, parameters: Float[Array, " parameters"]) -> Float[Array, "times modes"]:
        return self.mean(parameters)

    def spread(self, parameters: Float[np.ndarray, "asked parameters"]) -> Float[np.ndarray, "asked times modes"]:
        """Posterior standard deviation of each coefficient.

        On the host in float64: the difference of the prior's variance and what the runs explain is lost in float32.
        """
        encoded = jax.vmap(self.mean.encode)(jnp.asarray(parameters, jnp.float32))
        length = np.asarray(self.mean.length, np.float64)
        here = np.asarray(encoded, np.float64) / length
        there = np.asarray(self.mean.centres, np.float64) / length
        to_runs = _kernel("gaussian", np.square(here[:, None] - there).sum(-1), np)
        explained = np.square(np.linalg.solve(self.factor, to_runs.T)).sum(0)
        root = np.sqrt(self.amplitude * np.maximum(1 + self.noise - explained, 0))
        scale = self.mean.scale
        return root[:, None, None] * np.broadcast_to(np.asarray(scale.spread), scale.centre.shape)


def fit_rbf(train: Trajectories, encode: Encoding) -> KernelEmulator:
    """Thin-plate splines with a linear part through every training run (Duchon 1977; the default of EZyRB and SciPy).

    Raises `DataError` where the runs do not determine the linear part.
    """
    scale, features, targets = _prepared(train, encode)
    runs, size = features.shape
    if runs <= size or np.linalg.matrix_rank(np.c_[np.ones(runs), features]) <= size:
        raise DataError(f"runs: expected more than {size} in general position for {size} features, got {runs}")
    kernel = _kernel("spline", _distances(features), np)
    linear = np.concatenate([np.ones((runs, 1)), features], axis=1)
    system = np.block([[kernel, linear], [linear.T, np.zeros((size + 1, size + 1))]])
    weights = np.linalg.solve(system, np.concatenate([targets, np.zeros((size + 1, targets.shape[1]))]))
    return _emulator("spline", features, np.ones(size), weights, scale, encode)


def fit_gaussian_process(train: Trajectories, encode: Encoding) -> GaussianProcess:
    """Length scales, noise and amplitude of greatest marginal likelihood, shared by all outputs.

    Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, section 5.4.1; the amplitude is profiled out.
    """
    scale, features, targets = _prepared(train, encode)
    runs, outputs = targets.shape
    gram = targets @ targets.T / outputs

    def covariance(logs: Float[np.ndarray, " logs"]) -> Float[np.ndarray, "runs runs"]:
        scaled = features / np.exp(logs[:-1])
        return np.exp(-_distances(scaled) / 2) + np.exp(logs[-1]) * np.eye(runs)

    def objective(logs: Float[np.ndarray, " logs"]) -> float:
        factor = np.linalg.cholesky(covariance(logs))
        whitened = np.linalg.solve(factor, np.linalg.solve(factor, gram).T)
        return float(np.log(np.diag(factor)).mean() + 0.5 * np.log(np.trace(whitened) / runs))

    sides = features.shape[1]
    bounds = [(np.log(0.05), np.log(20.0))] * sides + [(np.log(1e-8), 0.0)]
    begins = [np.array([np.log(length)] * sides + [np.log(1e-3)]) for length in (0.3, 1.0, 3.0)]
    found = min((minimize(objective, b, method="L-BFGS-B", bounds=bounds) for b in begins), key=lambda r: r.fun)
    matrix = covariance(found.x)
    weights = np.linalg.solve(matrix, targets)
    amplitude = np.trace(np.linalg.solve(matrix, gram)) / runs
    length, noise = np.exp(found.x[:-1]), float(np.exp(found.x[-1]))
    mean = _emulator("gaussian", features, length, weights, scale, encode)
    return GaussianProcess(mean, np.linalg.cholesky(matrix), float(amplitude), noise)


class _Prepared(NamedTuple):
    scale: TrajectoryScale
    features: Float[np.ndarray, "runs features"]
    targets: Float[np.ndarray, "runs outputs"]


def _prepared(train: Trajectories, encode: Encoding) -> _Prepared:
    """Everything in float64, as kernel matrices are nearly singular."""
    scale = TrajectoryScale.fit(train.coefficients)
    features = np.asarray(jax.vmap(encode)(jnp.asarray(train.parameters)), np.float64)
    targets = np.asarray(scale.standardise(jnp.asarray(train.coefficients)), np.float64)
    return _Prepared(scale, features, targets.reshape(len(features), -1))


def _kernel(kernel: str, squared: Any, xp: Any = jnp) -> Any:
    """Of squared distances, in NumPy (float64, for fitting) or JAX."""
    if kernel == "gaussian":
        return xp.exp(-squared / 2)
    return 0.5 * squared * xp.log(xp.where(squared > 0, squared, 1.0))


def _distances(features: Float[np.ndarray, "runs features"]) -> Float[np.ndarray, "runs runs"]:
    return np.square(features[:, None] - features[None]).sum(-1)


def _emulator(
    kernel: Literal["spline", "gaussian"],
    features: np.ndarray,
    length: np.ndarray,
    weights: np.ndarray,
    scale: TrajectoryScale,
    encode: Encoding,
) -> KernelEmulator:
    """Fitted in float64, used in float32."""
    centres, lengths, sums = (jnp.asarray(array, jnp.float32) for array in (features, length, weights))
    return KernelEmulator(kernel, centres, lengths, sums, scale, encode)

"""Proper orthogonal decomposition: the basis that captures most variance for its size."""

from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.core.errors import ConfigError
from jaxsci.emulators.pod_bases import Method, leading


class Pod(eqx.Module):
    """Modes orthonormal in the inner product `<a, b> = sum_i w_i a_i b_i`.

    A snapshot is `decode(coefficients) + remainder`; `truncated` holds the covariance factor of the remainder, so
    `truncated @ truncated.T` is what representing the field by these modes leaves out. `mean` is what was taken off
    before (None: nothing, the snapshots were anomalies already).
    Source: Sirovich 1987, Quart. Appl. Math. 45, 561-571.
    """

    modes: Float[Array, "points modes"]
    weights: Float[Array, " points"]
    variance: Float[Array, " modes"]
    truncated: Float[Array, "points rest"]
    captured: float = eqx.field(static=True)
    mean: Float[Array, " points"] | None = None

    @classmethod
    def fit(
        cls,
        snapshots: Float[np.ndarray, "times points"],
        weights: Float[np.ndarray, " points"],
        modes: int,
        *,
        centre: Literal["mean"] | None = None,
        method: Method = "svd",
        extra: int = 0,
        seed: int = 0,
    ) -> "Pod":
        """From snapshots, less their mean with `centre="mean"`; `variance` is that of each coefficient.

        A climatology (`HarmonicClimatology`) is taken off beforehand. Without centring the first mode of a positive
        field is near its mean and `captured` near one, whatever the rest is worth. Methods `svd` and `snapshots` know
        all of the remainder; `randomised` and `streaming` know the next `extra` directions of it.
        """
        times, points = snapshots.shape
        if not 1 <= modes <= min(times, points):
            raise ConfigError(
                f"modes: expected 1 to {min(times, points)} ({times} snapshots of {points} points), got {modes}"
            )
        mean = snapshots.mean(0) if centre == "mean" else None
        root = np.sqrt(weights)
        scaled = (snapshots if mean is None else snapshots - mean) * root
        exact = method in ("svd", "snapshots")
        rank = min(times, points) if exact else min(modes + extra, times, points)
        found = leading(scaled, rank, method, seed=seed)
        physical = found.vectors / root[:, None]
        energy = found.singular**2
        total = float(energy.sum() if exact else np.sum(np.square(scaled)))
        return cls(
            modes=jnp.asarray(physical[:, :modes]),
            weights=jnp.asarray(weights),
            variance=jnp.asarray(energy[:modes] / times),
            truncated=jnp.asarray(physical[:, modes:] * found.singular[modes:] / np.sqrt(times)),
            captured=float(energy[:modes].sum()) / total if total > 0 else 1.0,
            mean=None if mean is None else jnp.asarray(mean),
        )

    def encode(self, field: Float[Array, "... points"]) -> Float[Array, "... modes"]:
        """Coefficients of fields: weighted inner products with the modes."""
        return ((field if self.mean is None else field - self.mean) * self.weights) @ self.modes

    def decode(self, coefficients: Float[Array, "... modes"]) -> Float[Array, "... points"]:
        """Fields of coefficients, the mean added where there is one."""
        field = coefficients @ self.modes.T
        return field if self.mean is None else field + self.mean

    def rows(self, points: slice) -> "Pod":
        """The same modes seen at some of the points: decodes to them, cannot encode."""
        mean = None if self.mean is None else self.mean[points]
        return Pod(self.modes[points], self.weights[points], self.variance, self.truncated[points], self.captured, mean)

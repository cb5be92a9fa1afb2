"""Proper orthogonal decomposition: the basis that captures most variance for its size."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.core.errors import ConfigError


class Pod(eqx.Module):
    """Modes orthonormal in the inner product `<a, b> = sum_i w_i a_i b_i`.

    A snapshot is `decode(coefficients) + remainder`; `truncated` holds the covariance factor of the remainder, so
    `truncated @ truncated.T` is what representing the field by these modes leaves out.
    Source: Sirovich 1987, Quart. Appl. Math. 45, 561-571.
    """

    modes: Float[Array, "points modes"]
    weights: Float[Array, " points"]
    variance: Float[Array, " modes"]
    truncated: Float[Array, "points rest"]
    captured: float = eqx.field(static=True)

    @classmethod
    def fit(
        cls, snapshots: Float[np.ndarray, "times points"], weights: Float[np.ndarray, " points"], modes: int
    ) -> "Pod":
        """From anomalies (mean or climatology removed) by a thin SVD; `variance` is that of each coefficient."""
        times, points = snapshots.shape
        if not 1 <= modes <= min(times, points):
            raise ConfigError(
                f"modes: expected 1 to {min(times, points)} ({times} snapshots of {points} points), got {modes}"
            )
        root = np.sqrt(weights)
        _, singular, right = np.linalg.svd(snapshots * root, full_matrices=False)
        physical = right.T / root[:, None]
        energy = singular**2
        return cls(
            modes=jnp.asarray(physical[:, :modes]),
            weights=jnp.asarray(weights),
            variance=jnp.asarray(energy[:modes] / times),
            truncated=jnp.asarray(physical[:, modes:] * singular[modes:] / np.sqrt(times)),
            captured=float(energy[:modes].sum() / energy.sum()),
        )

    def encode(self, field: Float[Array, "... points"]) -> Float[Array, "... modes"]:
        return (field * self.weights) @ self.modes

    def decode(self, coefficients: Float[Array, "... modes"]) -> Float[Array, "... points"]:
        return coefficients @ self.modes.T

    def rows(self, points: slice) -> "Pod":
        """The same modes seen at some of the points: decodes to them, cannot encode."""
        return Pod(self.modes[points], self.weights[points], self.variance, self.truncated[points], self.captured)

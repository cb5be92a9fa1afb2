"""Dynamic mode decomposition: the linear step that best follows the series."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsci.core.errors import ConfigError, DataError


class Dmd(eqx.Module):
    """`x_{n+1} = operator x_n`: a step map."""

    operator: Float[Array, "n n"]

    def __call__(self, state: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.operator @ state

    def eigenvalues(self) -> Complex[np.ndarray, " n"]:
        """One per dynamic mode; a modulus above one grows without bound."""
        return np.linalg.eigvals(np.asarray(self.operator, np.float64))


def fit_dmd(series: Float[np.ndarray, "runs times n"], *, rank: int | None = None) -> Dmd:
    """Least squares over all pairs of consecutive states within each run, on the first `rank` singular directions.

    Schmid 2010, J. Fluid Mech. 656, 5-28; for several runs Tu et al. 2014, J. Comput. Dyn. 1, 391-421, definition 1.
    """
    runs, times, n = series.shape
    if times < 2:
        raise DataError(f"times: expected 2 or more, got {times}")
    most = min(n, runs * (times - 1))
    if rank is not None and not 1 <= rank <= most:
        raise ConfigError(f"rank: expected 1 to {most}, got {rank}")
    now = np.asarray(series[:, :-1], np.float64).reshape(-1, n).T
    then = np.asarray(series[:, 1:], np.float64).reshape(-1, n).T
    left, singular, right = np.linalg.svd(now, full_matrices=False)
    kept = int(np.sum(singular > singular[0] * 1e-10)) if rank is None else rank
    inverse = right[:kept].T / singular[:kept] @ left[:, :kept].T
    return Dmd(jnp.asarray(then @ inverse, jnp.asarray(series).dtype))

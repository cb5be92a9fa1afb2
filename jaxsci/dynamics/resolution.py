"""Checks of what a periodic model is given: is the grid fine enough, is the field periodic at all."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.core.errors import DataError
from jaxsci.dynamics.attractor_statistics import energy_spectrum

ENOUGH = 1e-6  # share of the energy in the upper third of the modes that a resolved field may have
JUMP = 8.0  # the step across the seam, in units of the largest step elsewhere, that a periodic field may make


def unresolved_share(u: Float[Array, "*batch n"]) -> float:
    """Largest share of a state's energy in the upper third of the modes that the grid has, the mean left out."""
    spectrum = energy_spectrum(u)
    count = spectrum.shape[-1]
    fluctuations = jnp.sum(spectrum[..., 1:], axis=-1)
    upper = jnp.sum(spectrum[..., 2 * count // 3 :], axis=-1)
    return float(jnp.max(upper / jnp.where(fluctuations > 0, fluctuations, 1.0)))


def resolution_warning(u: Float[Array, "*batch n"], length: float, enough: float = ENOUGH) -> str | None:
    """A sentence with the number where the grid is too coarse for the domain, else `None`."""
    share = unresolved_share(u)
    if share <= enough:
        return None
    n = u.shape[-1]
    return (
        f"resolution: {share:.1e} of the energy is in the upper third of the modes (at most {enough:.0e} wanted): "
        f"{n} points are too few for length {length:g}; take {2 * n}, or a shorter domain"
    )


def require_periodic(u: Float[np.ndarray, "*batch n"], name: str = "data") -> None:
    """Raise `DataError` for fields that jump where the circle closes: a periodic model would see a shock there.

    The step from the last point to the first is compared with the largest step between neighbours.
    """
    fields = np.asarray(u, np.float64).reshape(-1, np.shape(u)[-1])
    if not np.isfinite(fields).all():
        raise DataError(f"{name}: expected finite numbers, got some that are not")
    seam = np.abs(fields[:, 0] - fields[:, -1])
    inside = np.abs(np.diff(fields, axis=1)).max(axis=1)
    ratio = float(np.max(seam / np.maximum(inside, 1e-12 * np.abs(fields).max(axis=1) + 1e-300)))
    if ratio > JUMP:
        raise DataError(
            f"{name}: expected a periodic field, but the step across the seam is {ratio:.3g} times the largest step "
            "inside; leave out a repeated end point, remove the trend, or use a dense linear term"
        )

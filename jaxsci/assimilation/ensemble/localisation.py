"""Tapers that let an observation act nearby only, on lines and grids of sites, periodic or open."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Real

from jaxsci.assimilation.problem import Places

GASPARI_COHN_HALF_WIDTH = 1.82  # of a radius: about sqrt(10/3), so that near zero the taper is a Gaussian of that width
NEGLIGIBLE = 1e-3


def gaspari_cohn(distance: Real[np.ndarray, "..."], half_width: float) -> Float[np.ndarray, "..."]:
    """The compactly supported fifth-order correlation function: one at zero, zero from twice `half_width` on.

    Source: Gaspari and Cohn 1999, Q. J. R. Meteorol. Soc. 125, 723-757, equation 4.10.
    """
    z = np.abs(distance) / half_width
    near = 1 - 5 / 3 * z**2 + 5 / 8 * z**3 + z**4 / 2 - z**5 / 4
    outer = np.maximum(z, 1.0)  # keeps the division harmless where `near` holds
    far = 4 - 5 * outer + 5 / 3 * outer**2 + 5 / 8 * outer**3 - outer**4 / 2 + outer**5 / 12 - 2 / (3 * outer)
    return np.where(z <= 1, near, np.where(z < 2, far, 0.0))


def line(n: int, *, periodic: bool = True) -> Places:
    """`n` variables one apart, on a circle or an open line."""
    return Places(np.arange(n, dtype=float)[:, None], (float(n) if periodic else None,))


def distances(places: Places, stations: Int[np.ndarray, " stations"]) -> Float[np.ndarray, "n stations"]:
    """Euclidean distances from every variable to the observed ones, the shorter way round along periodic axes."""
    apart = np.abs(places.coordinates[:, None, :] - places.coordinates[None, stations, :])
    for axis, period in enumerate(places.periods):
        if period is not None:
            around = apart[..., axis] % period
            apart[..., axis] = np.minimum(around, period - around)
    return np.sqrt(np.sum(apart**2, axis=-1))


class Neighbourhoods(NamedTuple):
    """For batches of state variables, the observations that act on each; all batches padded to one size."""

    batches: Int[np.ndarray, "batches size"]
    """State indices."""
    observations: Int[np.ndarray, "batches nearby"]
    taper: Float[np.ndarray, "batches nearby"]
    """Weight of each nearby observation; zero where an entry only pads."""


def neighbourhoods(
    places: Places, stations: Int[np.ndarray, " stations"], *, radius: float, batch: int
) -> Neighbourhoods:
    """Batches of `batch` successive variables (a divisor of their number) and the tapered observations near them.

    The distance of a batch is the mean over its variables; the taper is Gaspari and Cohn's with half-width 1.82
    `radius`, in the unit of the coordinates; weights below 1e-3 are dropped.
    """
    batches = np.arange(len(places.coordinates)).reshape(-1, batch)
    apart = distances(places, stations)[batches].mean(axis=1)
    taper = gaspari_cohn(apart, GASPARI_COHN_HALF_WIDTH * radius)
    taper = np.where(taper > NEGLIGIBLE, taper, 0.0)
    nearby = max(int((taper > 0).sum(axis=1).max()), 1)
    strongest = np.sort(np.argsort(-taper, axis=1, kind="stable")[:, :nearby], axis=1)
    return Neighbourhoods(batches, strongest, np.take_along_axis(taper, strongest, axis=1))

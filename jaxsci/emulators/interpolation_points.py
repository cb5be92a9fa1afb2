"""Where to look at a field in order to know it: interpolation points of the discrete empirical interpolation method."""

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import qr

from jaxsci.core.errors import ConfigError


def deim_points(basis: Float[np.ndarray, "points modes"]) -> Int[np.ndarray, " modes"]:
    """Greedily, the point where the next mode is worst interpolated from the points chosen so far.

    Chaturantabut and Sorensen 2010, SIAM J. Sci. Comput. 32, 2737-2764, algorithm 1.
    """
    chosen = [int(np.argmax(np.abs(basis[:, 0])))]
    for mode in range(1, basis.shape[1]):
        known = basis[:, :mode]
        fit = np.linalg.solve(known[chosen], basis[chosen, mode])
        chosen.append(int(np.argmax(np.abs(basis[:, mode] - known @ fit))))
    return np.array(chosen)


def qdeim_points(basis: Float[np.ndarray, "points modes"]) -> Int[np.ndarray, " modes"]:
    """The pivots of a QR factorisation of the transposed basis: independent of its rotation, with a better bound.

    Drmac and Gugercin 2016, SIAM J. Sci. Comput. 38, A631-A648.
    """
    _, pivots = qr(basis.T, mode="r", pivoting=True)  # pyright: ignore[reportAssignmentType]
    return np.asarray(pivots[: basis.shape[1]])


def gappy_inverse(
    basis: Float[np.ndarray, "points modes"], chosen: Int[np.ndarray, " samples"]
) -> Float[np.ndarray, "modes samples"]:
    """The map from values at the chosen points to coefficients: least squares, interpolation where as many as modes.

    Everson and Sirovich 1995, J. Opt. Soc. Am. A 12, 1657-1664. Raises `ConfigError` where the points do not determine
    the coefficients.
    """
    rows = basis[chosen]
    if len(chosen) < basis.shape[1] or np.linalg.matrix_rank(rows) < basis.shape[1]:
        raise ConfigError(f"points: expected {basis.shape[1]} or more, independent, got {len(chosen)}")
    return np.linalg.pinv(rows)

"""Observing a field on a latitude-longitude grid between its points."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.core.errors import DataError


class Bilinear(eqx.Module):
    """`H(x) = sum_c weights_c x[indices_c]` over the four corners of each station's cell, of a flat or 2-D field.

    Exact for fields linear in latitude and in longitude. `jax.vmap(operator, 1, 1)(modes)` is its matrix on POD modes.
    A nonlinear quantity is a function of it: `lambda x: speed(operator(x))`; any callable is an operator.
    """

    indices: Int[np.ndarray, "stations 4"]
    weights: Float[Array, "stations 4"]

    def __call__(self, field: Float[Array, "..."]) -> Float[Array, " stations"]:
        return jnp.sum(self.weights * field.ravel()[self.indices], axis=1)


def bilinear(
    latitude: Float[np.ndarray, " rows"],
    longitude: Float[np.ndarray, " columns"],
    stations: Float[np.ndarray, "stations 2"],
) -> Bilinear:
    """The operator for stations (latitude, longitude), in degrees, on a grid whose axes rise or fall.

    Raises `DataError` for a station outside the grid or an axis that is not monotonic.
    """
    stations = np.asarray(stations, float)
    rows = _cells("latitude", np.asarray(latitude, float), stations[:, 0])
    columns = _cells("longitude", np.asarray(longitude, float), stations[:, 1])
    width = len(longitude)
    corners = [(i, j) for i in (0, 1) for j in (0, 1)]
    indices = np.stack([(rows.first + i) * width + columns.first + j for i, j in corners], axis=1)
    share = np.stack([_share(rows.fraction, i) * _share(columns.fraction, j) for i, j in corners], axis=1)
    return Bilinear(indices, jnp.asarray(share))


class _Cells(NamedTuple):
    first: np.ndarray
    fraction: np.ndarray


def _share(fraction: np.ndarray, corner: int) -> np.ndarray:
    return fraction if corner else 1 - fraction


def _cells(name: str, axis: np.ndarray, positions: np.ndarray) -> _Cells:
    steps = np.diff(axis)
    if len(axis) < 2 or not (np.all(steps > 0) or np.all(steps < 0)):
        raise DataError(f"{name}: expected two or more values that only rise or only fall")
    sign = np.sign(steps[0])
    outside = ~((positions >= axis.min()) & (positions <= axis.max()))
    if outside.any():
        raise DataError(
            f"stations: expected {name} from {axis.min():g} to {axis.max():g}, "
            f"got {positions[outside][0]:g} at station {np.flatnonzero(outside)[0]}; drop it or widen the grid"
        )
    first = np.clip(np.searchsorted(sign * axis, sign * positions, side="right") - 1, 0, len(axis) - 2)
    return _Cells(first, (positions - axis[first]) / steps[first])

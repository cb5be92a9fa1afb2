"""Fields reduced for emulation: climatology removed, anomalies projected, everything fitted on the training span."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsci.core.errors import DataError
from jaxsci.emulators.climatology import HarmonicClimatology, select_climatology
from jaxsci.emulators.fields import Field, Split
from jaxsci.emulators.pod import Pod


@dataclass(frozen=True)
class ReducedField:
    """`anomalies` (days, points) are departures from the climatology; `coefficients` (days, modes) represent them.

    With companion fields the coefficients are those of all fields together: `joint` encodes and decodes `stacked`, the
    anomalies of all variables side by side, while `pod` decodes to the first field alone. A companion is multiplied by
    its entry of `scales`, which gives it the first field's variance. Without companions the two are the same.
    """

    field: Field
    split: Split
    climatology: HarmonicClimatology
    pod: Pod
    anomalies: Float[np.ndarray, "days points"]
    coefficients: Float[np.ndarray, "days modes"]
    joint: Pod
    stacked: Float[np.ndarray, "days variables_points"]
    scales: tuple[float, ...] = ()

    @property
    def weights(self) -> Float[np.ndarray, " points"]:
        """Area weights of the grid points, of mean one."""
        return self.field.area_weights


def reduce_field(
    field: Field, split: Split, *, modes: int, harmonics: tuple[int, ...], companions: Sequence[Field] = ()
) -> ReducedField:
    """Fit climatology and POD. Of several `harmonics` the best in cross-validation over the training span is taken.

    Raises `DataError` for a companion on another grid or of other days.
    """
    climatology, anomalies = _anomalies(field, split, harmonics)
    scales, columns = [], [anomalies]
    for companion in companions:
        _require_same_places(field, companion)
        _, others = _anomalies(companion, split, harmonics)
        scales.append(_size(field, anomalies[split.train]) / _size(field, others[split.train]))
        columns.append(scales[-1] * others)
    stacked = np.concatenate(columns, axis=1)
    joint = Pod.fit(stacked[split.train], np.tile(field.area_weights, len(columns)), modes)
    coefficients = np.asarray(joint.encode(jnp.asarray(stacked)))
    first = joint.rows(slice(anomalies.shape[1]))
    return ReducedField(field, split, climatology, first, anomalies, coefficients, joint, stacked, tuple(scales))


def _anomalies(field: Field, split: Split, harmonics: tuple[int, ...]) -> tuple[HarmonicClimatology, np.ndarray]:
    train = split.train
    climatology = select_climatology(field.time[train], field.flat[train], field.area_weights, harmonics)
    return climatology, field.flat - climatology(field.time)


def _size(field: Field, anomalies: np.ndarray) -> float:
    """Root of the area-mean variance."""
    return float(np.sqrt(np.mean(field.area_weights * np.square(anomalies))))


def _require_same_places(field: Field, companion: Field) -> None:
    for axis in ("lat", "lon"):
        ours, theirs = getattr(field, axis), getattr(companion, axis)
        if ours.shape != theirs.shape or not np.allclose(ours, theirs):
            raise DataError(
                f"data.companions: expected '{companion.name}' on the grid of '{field.name}', its {axis} differs"
            )
    days = (field.time.astype("datetime64[D]"), companion.time.astype("datetime64[D]"))
    if not np.array_equal(*days):
        raise DataError(
            f"data.companions: expected '{companion.name}' on the days {days[0][0]} to {days[0][-1]} of "
            f"'{field.name}', got {days[1][0]} to {days[1][-1]}"
        )

"""A field reduced for emulation: climatology removed, anomalies projected, everything fitted on the training span."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsci.emulators.climatology import HarmonicClimatology, select_climatology
from jaxsci.emulators.fields import Field, Split
from jaxsci.emulators.pod import Pod


@dataclass(frozen=True)
class ReducedField:
    """`anomalies` (days, points) are departures from the climatology; `coefficients` (days, modes) represent them."""

    field: Field
    split: Split
    climatology: HarmonicClimatology
    pod: Pod
    anomalies: Float[np.ndarray, "days points"]
    coefficients: Float[np.ndarray, "days modes"]

    @property
    def weights(self) -> Float[np.ndarray, " points"]:
        return self.field.area_weights


def reduce_field(field: Field, split: Split, *, modes: int, harmonics: tuple[int, ...]) -> ReducedField:
    """Fit climatology and POD. Of several `harmonics` the best in cross-validation over the training span is taken."""
    train = split.train
    climatology = select_climatology(field.time[train], field.flat[train], field.area_weights, harmonics)
    anomalies = field.flat - climatology(field.time)
    pod = Pod.fit(anomalies[train], field.area_weights, modes)
    coefficients = np.asarray(pod.encode(jnp.asarray(anomalies)))
    return ReducedField(field, split, climatology, pod, anomalies, coefficients)

"""The detector with the settings of the R package ocp 0.1.1, as the published benchmark ran it, on many series."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxsci.drift.changepoint import Bocpd, detect, segment_starts
from jaxsci.drift.hazard import ConstantHazard
from jaxsci.drift.segments import Gaussian, Independent


def reference_detector(dimensions: int, capacity: int) -> Bocpd:
    """Hazard 1/100; independent normal dimensions with m = 0, k = a = b = 1; truncation at 1e-4."""
    return Bocpd(Independent(Gaussian(), dimensions), ConstantHazard(100.0), capacity=capacity)


def reference_segmentations(values: Sequence[Float[np.ndarray, "_ _"]], *, bucket: int = 128) -> list[list[int]]:
    """The offline read-out for each standardised series, which must be complete: ocp refuses missing values.

    Exact: the capacity is the length. Series are padded to multiples of `bucket` points, and those of one padded shape
    run together.
    """
    found: list[list[int]] = [[] for _ in values]
    shapes = [(-(-len(x) // bucket) * bucket, x.shape[1]) for x in values]
    for length, dimensions in sorted(set(shapes)):
        members = [i for i, shape in enumerate(shapes) if shape == (length, dimensions)]
        x = np.stack([np.pad(values[i], ((0, length - len(values[i])), (0, 0))) for i in members])
        starts = np.asarray(_starts(jnp.asarray(x), dimensions, length))
        for row, i in enumerate(members):
            found[i] = segment_starts(starts[row], len(values[i]))
    return found


@partial(jax.jit, static_argnums=(1, 2))
def _starts(x, dimensions: int, capacity: int):
    detector = reference_detector(dimensions, capacity)
    return jax.vmap(lambda x: detect(detector, x, emit=lambda info: info.start)[1])(x)

"""The local ensemble transform Kalman filter: an ETKF for each few neighbouring variables."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxsci.assimilation.ensemble.etkf import spectrum, transform
from jaxsci.assimilation.ensemble.localisation import line, neighbourhoods
from jaxsci.assimilation.ensemble.members import EnsembleSettings, centre, ensemble_filter
from jaxsci.assimilation.problem import Algorithm, Method, Problem, Select
from jaxsci.core.config import positive, require
from jaxsci.core.errors import DataError


@dataclass(frozen=True)
class LETKF(EnsembleSettings, Method, kind="letkf"):
    """Each batch of `batch` successive variables sees the observations around it, tapered over `radius`.

    Needs observations of single variables with independent errors. Distances are those of the problem's places; without
    any, variables are one apart on a line, a circle where `periodic`.
    Source: Hunt, Kostelich and Szunyogh 2007, Physica D 230, 112-126.
    """

    radius: float = 4.0
    batch: int = 2
    periodic: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "radius", "batch")

    def build(self, problem: Problem) -> Algorithm:
        if not isinstance(problem.operator, Select) or problem.noise.ndim != 1:
            raise DataError("letkf: expected observations of single variables with variances as noise; use etkf")
        n = len(jnp.asarray(problem.start.mean))
        require(n % self.batch == 0, "batch", f"a divisor of the {n} variables", self.batch)
        places = line(n, periodic=self.periodic) if problem.places is None else problem.places
        stations = np.asarray(problem.operator.indices)
        batches, nearby, taper = neighbourhoods(places, stations, radius=self.radius, batch=self.batch)
        root = jnp.sqrt(jnp.asarray(taper))

        def analyse(members: Array, observed: Array, departure: Array, key: PRNGKeyArray) -> Array:
            mean, anomalies = centre(members)

            def local(batch: Array, near: Array, root: Array) -> Array:
                weights, turn = transform(spectrum(observed[:, near] * root, departure[near] * root))
                return (weights + turn) @ anomalies[:, batch]

            # Batches lie side by side, in order.
            increments = jax.vmap(local, out_axes=1)(jnp.asarray(batches), jnp.asarray(nearby), root)
            return mean + increments.reshape(members.shape)

        return ensemble_filter(problem, self, analyse)

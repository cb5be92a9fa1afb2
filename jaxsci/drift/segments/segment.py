"""The door to every segment model: what the points between two changes look like.

A segment model keeps sufficient statistics of the points of one run and predicts the next one. The detector maps it
over all run lengths at once, so everything here is about a single run.
"""

from abc import abstractmethod

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree


class Segment(eqx.Module):
    """A conjugate (or nearly conjugate) model of one segment.

    The statistics of a run are a pytree of arrays of fixed shapes. What a model sees at a time step may depend on the
    steps before, whatever the run (lags, say): `observe` keeps that in a `memory`.
    """

    def prepare(self, capacity: int) -> "Segment":
        """The same model with whatever depends only on the number of points (up to `capacity`) tabulated."""
        return self

    def memory(self) -> PyTree:
        """What `observe` starts from."""
        return ()

    def observe(
        self, memory: PyTree, x: Float[Array, " d"], known: Bool[Array, " d"]
    ) -> tuple[PyTree, Float[Array, " z"]]:
        """The new memory, and what `log_predictive` and `update` are given for the point `x`."""
        return memory, x

    @abstractmethod
    def empty(self) -> PyTree:
        """The statistics of a run that holds no point yet."""

    @abstractmethod
    def log_predictive(self, statistics: PyTree, z: Float[Array, " z"]) -> Float[Array, ""]:
        """log p(z | the points of the run)."""

    @abstractmethod
    def update(self, statistics: PyTree, z: Float[Array, " z"]) -> PyTree:
        """The statistics after `z` has joined the run."""

    def step(
        self, statistics: PyTree, z: Float[Array, " z"], known: Bool[Array, " d"]
    ) -> tuple[Float[Array, ""], PyTree]:
        """Score a point, then take it in. A point with any missing coordinate scores 0 and changes nothing."""
        whole = known.all()
        score = jnp.where(whole, self.log_predictive(statistics, z), 0.0)
        taken = self.update(statistics, z)
        return score, jax.tree.map(lambda new, old: jnp.where(whole, new, old), taken, statistics)


class Independent(Segment):
    """One univariate model for each of `dimensions` coordinates; a missing coordinate leaves the others alone."""

    segment: Segment
    dimensions: int = eqx.field(static=True)

    def prepare(self, capacity: int) -> "Independent":
        return Independent(self.segment.prepare(capacity), self.dimensions)

    def memory(self) -> PyTree:
        return self._repeat(self.segment.memory())

    def observe(self, memory, x, known):
        def one(memory, value, known):
            return self.segment.observe(memory, value[None], known[None])

        return jax.vmap(one)(memory, x, known)

    def empty(self) -> PyTree:
        return self._repeat(self.segment.empty())

    def log_predictive(self, statistics, z):
        return jax.vmap(self.segment.log_predictive)(statistics, z).sum()

    def update(self, statistics, z):
        return jax.vmap(self.segment.update)(statistics, z)

    def step(self, statistics, z, known):
        scores, taken = jax.vmap(lambda s, z, k: self.segment.step(s, z, k[None]))(statistics, z, known)
        return scores.sum(), taken

    def _repeat(self, tree: PyTree) -> PyTree:
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.dimensions, *jnp.shape(leaf))), tree)

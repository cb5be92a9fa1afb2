"""Which model to believe: every candidate predicts every job, and those that did well lately speak loudest.

Prequential: a job is predicted before its value counts. The dummy that knows only the median of its kind is one of the
candidates, so that an adaptation that does not beat it is not used.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class GuardState(NamedTuple):
    """Discounted losses of c candidates, over all jobs and for each of k kinds; weights are the discounted numbers of
    jobs.
    """

    loss: Float[Array, " c"]
    """Discounted sum of losses of each candidate over all jobs."""
    weight: Float[Array, ""]
    kind_loss: Float[Array, "k c"]
    """The same for each kind of job."""
    kind_weight: Float[Array, " k"]


class Guard(eqx.Module):
    """Weighted median of the candidates' predictions, weights exp(prior - rate n (loss - least loss)).

    The loss is the relative error of performance, at most `cap`: an outlier says little about a model. A candidate's
    loss for a kind is its discounted mean over the latest jobs of that kind, drawn towards its mean over all kinds as
    if by `shrinkage` jobs; n is how many jobs that mean rests on. `prior` is what speaks for a candidate beforehand, in
    nats; `None` is nothing.

    Good values for the next job: rate 2 to 10, kind_memory 0.8 to 0.95 (5 to 20 jobs of a kind), memory 0.97 to 0.99.
    For hundreds of jobs to come: rate 1 and no forgetting, as what did well lately may have met a passing dip.
    """

    rate: float = 5.0
    kind_memory: float = 0.8
    memory: float = 0.97
    shrinkage: float = 3.0
    cap: float = 0.4
    prior: Float[Array, " c"] | None = None

    def init(self, candidates: int, kinds: int) -> GuardState:
        """No losses yet, for so many candidates and kinds of job."""
        return GuardState(jnp.zeros(candidates), jnp.zeros(()), jnp.zeros((kinds, candidates)), jnp.zeros(kinds))

    def weights(self, state: GuardState, kind: Int[Array, ""]) -> Float[Array, " c"]:
        """How much each candidate counts for the next job of this kind; equally before any loss is known."""
        overall = state.loss / jnp.maximum(state.weight, 1e-9)
        support = jnp.minimum(self.shrinkage, state.weight)
        total = state.kind_weight[kind] + support
        loss = (state.kind_loss[kind] + support * overall) / jnp.maximum(total, 1e-9)
        prior = 0.0 if self.prior is None else self.prior
        return jax.nn.softmax(prior - self.rate * total * (loss - loss.min()))

    def update(
        self, state: GuardState, predictions: Float[Array, " c"], y: Float[Array, ""], kind: Int[Array, ""]
    ) -> GuardState:
        """Count the job whose value is `y` (log10), as the candidates had predicted it.

        A job that some candidate had not predicted (NaN) is left out, so that all are compared on the same jobs.
        """
        told = jnp.isfinite(predictions).all()
        relative = jnp.abs(10 ** (jnp.where(told, predictions, y) - y) - 1)
        loss = jnp.minimum(relative, self.cap)
        kind_loss = state.kind_loss.at[kind].set(self.kind_memory * state.kind_loss[kind] + loss)
        kind_weight = state.kind_weight.at[kind].set(self.kind_memory * state.kind_weight[kind] + 1)
        new = GuardState(self.memory * state.loss + loss, self.memory * state.weight + 1, kind_loss, kind_weight)
        return jax.tree.map(lambda a, b: jnp.where(told, a, b), new, state)


def prequential(
    guard: Guard,
    predictions: Float[Array, "n c"],
    y: Float[Array, " n"],
    kind: Int[Array, " n"],
    learn: Bool[Array, " n"],
    *,
    kinds: int,
) -> tuple[Float[Array, " n"], Float[Array, "n c"]]:
    """The guard's prediction of every job and the weights it used; only values in `learn` are ever shown to it."""

    def step(state: GuardState, job: tuple) -> tuple[GuardState, tuple]:
        predicted, y, kind, shown = job
        weights = guard.weights(state, kind)
        told = jnp.isfinite(predicted)
        answer = weighted_median(jnp.where(told, predicted, 0.0), weights * told)
        updated = guard.update(state, predicted, y, kind)
        state = jax.tree.map(lambda a, b: jnp.where(shown, a, b), updated, state)
        return state, (answer, weights)

    start = guard.init(predictions.shape[1], kinds)
    return jax.lax.scan(step, start, (predictions, y, kind, learn))[1]


def weighted_median(values: Float[Array, " c"], weights: Float[Array, " c"]) -> Float[Array, ""]:
    """The least value at which half of the weight is reached."""
    order = jnp.argsort(values)
    below = jnp.cumsum(weights[order])
    return values[order][jnp.searchsorted(below, 0.5 * below[-1])]

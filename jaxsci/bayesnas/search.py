"""Learning the distribution over architectures on a supernet: bilevel, or jointly on one evidence bound."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.bayesnas.architecture import FAMILIES, ArchitectureDistribution
from jaxsci.bayesnas.batches import Examples, batch_indices, take
from jaxsci.bayesnas.space import Space
from jaxsci.core.config import between, positive

Loss = Callable[[Array, Array], Float[Array, ""]]  # (outputs, labels) -> mean over the batch


@dataclass(frozen=True)
class SearchConfig:
    """How the distribution q over architectures is learned together with the weights they share.

    - `objective`: `bilevel` updates weights on one part of the data and q on another (first-order DARTS); `elbo`
      updates both on the union, on one evidence bound with a Gaussian prior on the weights.
    - `distribution`: `concrete`, `dirichlet`, `logistic_normal`, or `categorical` (score function, moving baseline).
    - `temperature` to `final_temperature`: of the Concrete relaxation, geometrically over the steps.
    - `divergence`: weight of KL(q || prior) / (number of examples that q sees); it keeps q from collapsing early and
      belongs in every report, for it decides the entropy that is left.
    - `draws`: relaxed architectures averaged in each update of q.

    Good values: weights by Adam at 1e-3 to 1e-2, q by Adam at 1e-2 to 3e-2 with beta1 0.5.
    """

    objective: Literal["bilevel", "elbo"] = "bilevel"
    distribution: Literal["concrete", "dirichlet", "logistic_normal", "categorical"] = "concrete"
    steps: int = 400
    batch_size: int = 64
    weight_rate: float = 3e-3
    architecture_rate: float = 2e-2
    temperature: float = 2.0
    final_temperature: float = 0.2
    divergence: float = 1.0
    draws: int = 1
    prior_std: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "steps", "batch_size", "weight_rate", "architecture_rate", "temperature", "final_temperature")
        positive(self, "draws", "prior_std")
        between(self, "divergence", 0.0, 1e6)


class SearchState(NamedTuple):
    """Shared weights, q, and the states of both optimizers."""

    params: PyTree
    q: ArchitectureDistribution
    weight_state: Any
    architecture_state: Any
    baseline: Float[Array, ""]
    """Moving mean of the loss, for the score function."""
    step: Int[Array, ""]


class SearchInfo(NamedTuple):
    """What one step of the search reports; losses in nats an example."""

    loss: Float[Array, ""]
    """On the batch of the weights."""
    architecture_loss: Float[Array, ""]
    """On the batch of q, without the divergence."""
    entropy: Float[Array, ""]
    """Of q, in nats."""


@dataclass(frozen=True)
class Search:
    """`init` and `update` of one search. `counts` are the examples that weights and q are trained on."""

    space: Space
    config: SearchConfig
    loss: Loss
    counts: tuple[int, int]
    weight_rule: optax.GradientTransformation = field(init=False, compare=False)
    architecture_rule: optax.GradientTransformation = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight_rule", optax.adam(self.config.weight_rate))
        object.__setattr__(self, "architecture_rule", optax.adam(self.config.architecture_rate, b1=0.5))

    def init(self, inputs: tuple[int, ...], outputs: int, *, key: Key[Array, ""]) -> SearchState:
        weights, architecture = jax.random.split(key)
        params = self.space.init(inputs, outputs, key=weights)
        family = FAMILIES[self.config.distribution]
        q = family.init(self.space.decisions, len(self.space.ops), key=architecture)
        start = (self.weight_rule.init(params), self.architecture_rule.init(q))
        return SearchState(params, q, *start, jnp.zeros(()), jnp.int32(0))

    def update(
        self, state: SearchState, weight_batch: Examples, architecture_batch: Examples, *, key: Key[Array, ""]
    ) -> tuple[SearchState, SearchInfo]:
        """One update of the weights, then one of q at the new weights."""
        config = self.config
        first, second = jax.random.split(key)
        fraction = state.step / config.steps
        tau = config.temperature * (config.final_temperature / config.temperature) ** fraction
        z = jax.lax.stop_gradient(state.q.rsample(tau, key=first))

        def weight_loss(params: PyTree) -> tuple[Array, Array]:
            loss = self.loss(self.space.apply(params, z, weight_batch.x), weight_batch.y)
            squares = sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))
            return loss + squares / (2 * config.prior_std**2 * self.counts[0]), loss

        (_, loss), gradient = jax.value_and_grad(weight_loss, has_aux=True)(state.params)
        change, weight_state = self.weight_rule.update(gradient, state.weight_state, state.params)
        params = optax.apply_updates(state.params, change)

        def architecture_loss(q: ArchitectureDistribution) -> tuple[Array, Array]:
            losses = jnp.stack(
                [
                    self._sampled(q, params, architecture_batch, tau, state, key=k)
                    for k in jax.random.split(second, config.draws)
                ]
            )
            surrogate, value = losses[:, 0].mean(), losses[:, 1].mean()
            return surrogate + config.divergence * q.kl() / self.counts[1], value

        (_, value), gradient = jax.value_and_grad(architecture_loss, has_aux=True)(state.q)
        change, architecture_state = self.architecture_rule.update(
            gradient, state.architecture_state, cast(Any, state.q)
        )
        q = eqx.apply_updates(state.q, change)
        baseline = jnp.where(state.step == 0, value, 0.95 * state.baseline + 0.05 * value)
        state = SearchState(params, q, weight_state, architecture_state, baseline, state.step + 1)
        return state, SearchInfo(loss, value, q.entropy())

    def _sampled(
        self, q: ArchitectureDistribution, params: PyTree, batch: Examples, tau: Array, state: SearchState, *, key
    ) -> Float[Array, "2"]:
        """What to differentiate for q, and the loss, for one draw."""
        z = q.rsample(tau, key=key)
        value = self.loss(self.space.apply(params, z, batch.x), batch.y)
        if q.reparameterised:
            return jnp.stack([value, value])
        advantage = jax.lax.stop_gradient(value - jnp.where(state.step == 0, value, state.baseline))
        return jnp.stack([advantage * q.log_prob(z), value])


def run_search(
    search: Search,
    inputs: tuple[int, ...],
    outputs: int,
    weight_data: Examples,
    architecture_data: Examples,
    *,
    key: Key[Array, ""],
) -> tuple[SearchState, SearchInfo]:
    """All steps as one program (spaces of dense layers; see `members.run_steps` for convolutions). With `elbo` both are
    updated on the union of the two data sets. The infos gain a leading axis of steps.
    """
    start, draw = jax.random.split(key)
    state = search.init(inputs, outputs, key=start)
    first, second = search_batches(search, weight_data, architecture_data, key=draw)

    def step(state: SearchState, rows: tuple[Array, Array, Array]):
        number, w, a = rows
        return search.update(state, take(first.data, w), take(second.data, a), key=jax.random.fold_in(draw, number))

    return jax.lax.scan(step, state, (jnp.arange(search.config.steps), first.rows, second.rows))


class Batches(NamedTuple):
    """Data on the device and, for each step, the rows of its batch."""

    data: Examples
    rows: Int[Array, "steps batch"]


def search_batches(
    search: Search, weight_data: Examples, architecture_data: Examples, *, key: Key[Array, ""]
) -> tuple[Batches, Batches]:
    """Data and batch rows of both updates."""
    if search.config.objective == "elbo":
        union = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), weight_data, architecture_data)
        weight_data = architecture_data = union
    steps, size = search.config.steps, search.config.batch_size
    return tuple(
        Batches(data, batch_indices(len(data.y), min(size, len(data.y)), steps, key=jax.random.fold_in(key, n)))
        for n, data in ((10**6, weight_data), (10**6 + 1, architecture_data))
    )  # type: ignore[return-value]

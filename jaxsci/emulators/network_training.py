"""Training an ensemble of networks on arrays of samples, stopped where the validation samples say so."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from jaxsci.core.config import positive
from jaxsci.core.ensemble import init_ensemble
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.train import fit, init_state, make_step
from jaxsci.emulators.best import Best

Row = dict[str, float]
SampleError = Callable[..., Float[Array, ""]]
"""`error(network, sample, key=...)` of one sample (a pytree without its sample axis); key None for inference."""


@dataclass(frozen=True)
class TrainingConfig:
    """Adam with a cosine schedule; `patience` counts evaluations without a better validation loss."""

    members: int = 1
    steps: int = 2000
    batch_size: int = 32
    evaluate_every: int = 50
    patience: int = 20
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            "adamw", learning_rate=3e-3, schedule="cosine", weight_decay=1e-4, clip_norm=1.0
        )
    )

    def __post_init__(self) -> None:
        positive(self, "members", "steps", "batch_size", "evaluate_every", "patience")


class Fitted(NamedTuple):
    """An ensemble after training; the loss is that of the training's own scale, squared."""

    members: PyTree
    """The networks, stacked along a leading member axis, as they were at their smallest mean validation loss."""
    validation_loss: float
    best_step: int
    compile_seconds: float
    train_seconds: float
    interrupted: bool


def fit_networks(
    build: Callable[[PRNGKeyArray], PyTree],
    error: SampleError,
    train: PyTree,
    validation: PyTree,
    config: TrainingConfig,
    *,
    key: PRNGKeyArray,
    on_log: Callable[[Row, int], None] | None = None,
) -> Fitted:
    """Train `config.members` networks side by side, each on batches of its own, to make `error` small on average.

    `train` and `validation` are pytrees of arrays with a leading sample axis. Member i is the same whatever the number
    of members, but for when training stops.
    """
    begin, draw = jax.random.split(key)
    members = eqx.filter_jit(lambda k: init_ensemble(lambda key: build(key), config.members, key=k))(begin)
    params, static = eqx.partition(members, eqx.is_inexact_array)
    train, validation = jax.tree.map(jnp.asarray, (train, validation))
    samples = len(jax.tree.leaves(train)[0])
    batch = min(config.batch_size, samples)

    def mean_error(network: PyTree, some: PyTree, keys: Array | None) -> Float[Array, ""]:
        if keys is None:
            return jnp.mean(jax.vmap(lambda s: error(network, s, key=None))(some))
        return jnp.mean(jax.vmap(lambda s, k: error(network, s, key=k))(some, keys))

    def loss(params: PyTree, batches: PyTree, *, key: PRNGKeyArray) -> tuple[Array, dict]:
        keys = jax.random.split(key, (config.members, batch))
        errors = eqx.filter_vmap(mean_error)(eqx.combine(params, static), batches, keys)
        return jnp.sum(errors), {}  # a sum over members: none feels the others

    def batch_at(step: Array) -> PyTree:
        def of_member(member: Array) -> Array:
            return jax.random.permutation(jax.random.fold_in(jax.random.fold_in(draw, step), member), samples)[:batch]

        chosen = jax.vmap(of_member)(jnp.arange(config.members))
        return jax.tree.map(lambda a: a[chosen], train)

    @jax.jit
    def validate(params: PyTree) -> dict[str, Array]:
        errors = eqx.filter_vmap(lambda n: mean_error(n, validation, None))(eqx.combine(params, static))
        return {"validation_loss": jnp.mean(errors)}

    best = Best.first(float(validate(params)["validation_loss"]), params)

    def evaluate(params: PyTree) -> dict[str, Array]:
        nonlocal best
        found = validate(params)
        best = best.with_candidate(float(found["validation_loss"]), params)
        return found

    optimizer = config.optimizer.build(config.steps)
    every = config.evaluate_every
    outcome = fit(
        init_state(params, optimizer, key=draw),
        make_step(loss, optimizer, batch_at=batch_at, steps_per_dispatch=every),
        steps=config.steps,
        log_every=every,
        on_log=on_log,
        evaluate=evaluate,
        eval_every=every,
        stop_when=lambda metrics, at: best.waited >= config.patience,
    )
    return Fitted(
        eqx.combine(jax.tree.map(jnp.asarray, best.params), static),
        best.loss,
        best.evaluation * every,
        outcome.stats["compile_seconds"],
        outcome.stats["train_seconds"],
        outcome.interrupted,
    )

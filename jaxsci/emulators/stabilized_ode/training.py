"""Training of all seeds at once: derivatives first, then one step of the flow, then several steps."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.config import between, positive, require
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.rollout import rollout
from jaxsci.core.train import fit, init_state, make_step
from jaxsci.emulators.stabilized_ode.model import StabilizedOde, StepMap


@dataclass(frozen=True)
class StageConfig:
    """`steps` updates of every seed on batches of `batch` starts; `windows` data spacings ahead, 0 for derivatives.

    `jacobian` weighs the misfit of random tangents of the flow (needs the true step map); chaotic exponents follow
    from tangents, and small forecast errors alone do not guarantee them.
    """

    steps: int
    batch: int
    windows: int
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig("adam", 1e-3, "cosine", final_fraction=0.02, clip_norm=1.0)
    )
    jacobian: float = 0.0

    def __post_init__(self) -> None:
        positive(self, "steps", "batch")
        between(self, "windows", 0, 1000)
        require(self.jacobian >= 0, "jacobian", "0 or more", self.jacobian)


class Snapshots(NamedTuple):
    """Training data: trajectories at the spacing of the model's step, and time derivatives at their inner times."""

    u: Float[Array, "trajectories time n"]
    slope: Float[Array, "trajectories inner n"]
    """At times 2 to -3."""


def loss_of(stage: StageConfig, truth: StepMap | None = None) -> Callable[[StabilizedOde, Any, PRNGKeyArray], Array]:
    """The loss of one model on one batch: mean absolute error of the flow, or of the derivative.

    For `windows = 0` a batch is `(states, slopes)`, otherwise windows of states `[batch windows+1 n]`.
    """
    if stage.windows == 0:

        def derivative_loss(model: StabilizedOde, batch: tuple[Array, Array], key: PRNGKeyArray) -> Array:
            u, slope = batch
            return jnp.mean(jnp.square(jax.vmap(model.right_hand_side)(u) - slope))

        return derivative_loss

    def flow_loss(model: StabilizedOde, batch: Float[Array, "batch times n"], key: PRNGKeyArray) -> Array:
        starts, targets = batch[:, 0], batch[:, 1:]
        step = model.step_map(starts[0])
        error = jnp.mean(jnp.abs(jax.vmap(rollout(step, stage.windows))(starts) - targets))
        if stage.jacobian == 0 or truth is None:
            return error
        tangent = jax.random.normal(key, starts.shape, starts.dtype)
        along = lambda f: jax.vmap(lambda u, v: jax.jvp(f, (u,), (v,))[1])(starts, tangent)  # noqa: E731
        return error + stage.jacobian * jnp.mean(jnp.abs(along(step) - along(truth)))

    return flow_loss


def per_seed(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """The optimizer applied to every seed by itself: clipping by a norm over all would couple them."""

    def update(gradient: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.vmap(optimizer.update)(gradient, state, params)

    return optax.GradientTransformation(jax.vmap(optimizer.init), update)  # type: ignore[arg-type]


def train_stage(
    models: StabilizedOde,
    data: Snapshots,
    stage: StageConfig,
    *,
    key: PRNGKeyArray,
    truth: StepMap | None = None,
    steps_per_dispatch: int = 20,
    log_every: int = 20,
    on_log: Callable[[dict[str, float], int], None] | None = None,
    checkpoints: Checkpoints | None = None,
    save_every: int = 500,
) -> StabilizedOde:
    """One stage, for `models` with a leading seed axis. Every seed draws batches of its own.

    **Arguments:**

    - `truth`: the true flow over a data spacing, where `stage.jacobian` asks for its tangents.
    - `on_log`: called with the loss and gradient norm (means over seeds), and the step.
    - `checkpoints`: where training is kept and resumed from.

    A signal ends it with `KeyboardInterrupt` after a checkpoint. Raises `NonFiniteError`, `ConfigError`.
    """
    require(stage.jacobian == 0 or truth is not None, "jacobian", "0 without a true step map", stage.jacobian)
    count = jax.tree.leaves(eqx.filter(models, eqx.is_array))[0].shape[0]
    params, static = eqx.partition(models, eqx.is_inexact_array)
    loss_one = loss_of(stage, truth)
    trajectories, times = data.u.shape[:2]
    require(times > stage.windows + 4, "windows", f"fewer than {times - 4}, the times of a trajectory", stage.windows)

    def loss(params: Any, batch: Any, *, key: PRNGKeyArray) -> tuple[Array, dict]:
        keys = jax.random.split(key, count)
        each = eqx.filter_vmap(lambda p, b, k: loss_one(eqx.combine(p, static), b, k))(params, batch, keys)
        return jnp.sum(each), {"loss_per_seed": jnp.mean(each)}

    def batch_at(step: Array) -> Any:
        which, when = jax.random.split(jax.random.fold_in(key, step))
        shape = (count, stage.batch)
        row = jax.random.randint(which, shape, 0, trajectories)
        if stage.windows == 0:
            column = jax.random.randint(when, shape, 0, times - 4)
            return data.u[row, column + 2], data.slope[row, column]
        column = jax.random.randint(when, shape, 0, times - stage.windows)
        return data.u[row[..., None], column[..., None] + jnp.arange(stage.windows + 1)]

    optimizer = per_seed(stage.optimizer.build(stage.steps))
    step = make_step(loss, optimizer, batch_at=batch_at, steps_per_dispatch=min(steps_per_dispatch, stage.steps))
    outcome = fit(
        init_state(params, optimizer, key=key),
        step,
        steps=stage.steps,
        log_every=log_every,
        on_log=on_log,
        checkpoints=checkpoints,
        save_every=save_every if checkpoints is not None else None,
    )
    if outcome.interrupted:
        raise KeyboardInterrupt(outcome.result)
    return eqx.combine(outcome.state.params, static)


def snapshots(
    u: Float[np.ndarray, "trajectories time n"], slope: Float[np.ndarray, "trajectories inner n"]
) -> Snapshots:
    """In float32, the precision of the networks."""
    return Snapshots(jnp.asarray(u, jnp.float32), jnp.asarray(slope, jnp.float32))

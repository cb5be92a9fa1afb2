"""Training of many small networks at once: seeds and ensemble members are one leading axis of one program.

One call of the compiled epoch is a scan over its batches; between calls the host may look at the loss or be stopped.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import equinox as eqx
import jax
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.config import positive
from jaxsci.core.optimizer import OptimizerConfig

EPOCHS_KEPT = 5  # epochs that a kill can cost at most
AfterEpoch = Callable[[int, Float[Array, "members"]], bool]
Loss = Callable[[PyTree, PyTree, Int[Array, "batch"], PRNGKeyArray], Float[Array, ""]]


@dataclass(frozen=True)
class LearningConfig:
    """`epochs` over the training runs in batches of `batch` runs. A remainder smaller than a batch waits for the next
    epoch's shuffle. Without `epochs`: 40 for workflows of up to 100 jobs, fewer for larger ones, whose runs teach more
    each, but 10 at least."""

    epochs: int | None = None
    batch: int = 32
    optimizer: OptimizerConfig = field(
        default_factory=lambda: OptimizerConfig(
            name="adamw", learning_rate=3e-3, schedule="cosine", weight_decay=1e-3, clip_norm=1.0
        )
    )

    def __post_init__(self):
        positive(self, "epochs", "batch")

    def epochs_for(self, nodes: int) -> int:
        """The number of epochs for a workflow of that many jobs."""
        return self.epochs or max(10, min(40, 4000 // nodes))


def train(
    models: PyTree,
    loss: Loss,
    facts: PyTree,
    train_rows: Int[Array, "members train"],
    config: LearningConfig,
    *,
    epochs: int,
    key: PRNGKeyArray,
    data: PyTree,
    after_epoch: AfterEpoch | None = None,
    checkpoints: Checkpoints | None = None,
) -> PyTree:
    """`models` after training, each member on its own rows.

    **Arguments:**

    - `models`: a pytree with a leading member axis on every array.
    - `loss(model, (facts, data), rows, key)`: of one member; `facts` are that member's own (such as its scaling),
      `data` is shared by all.
    - `epochs`: how many.
    - `after_epoch(epoch, losses)`: called on the host; ends the training by returning True.
    - `checkpoints`: of the training, which goes on from the newest one. The result is the same as without a stop.
    """
    arrays, static = eqx.partition(models, eqx.is_inexact_array)
    count = train_rows.shape[1]
    batch = min(config.batch, count)
    steps = count // batch
    optimizer = config.optimizer.build(steps * epochs)
    moments = jax.vmap(optimizer.init)(arrays)

    def member_epoch(arrays, moments, facts, rows, key, data):
        order = jax.random.permutation(jax.random.fold_in(key, 0), rows)[: steps * batch].reshape(steps, batch)

        def step(carry, chosen):
            arrays, moments, number = carry

            def objective(arrays):
                return loss(eqx.combine(arrays, static), (facts, data), chosen, jax.random.fold_in(key, number))

            value, gradient = jax.value_and_grad(objective)(arrays)
            updates, moments = optimizer.update(gradient, moments, arrays)
            return (optax.apply_updates(arrays, updates), moments, number + 1), value

        (arrays, moments, _), values = jax.lax.scan(step, (arrays, moments, 1), order)
        return arrays, moments, values.mean()

    epoch_of_all = jax.jit(jax.vmap(member_epoch, in_axes=(0, 0, 0, 0, 0, None)), donate_argnums=(0, 1))
    members = len(train_rows)
    begin = 0
    if checkpoints is not None and (found := checkpoints.restore_latest((arrays, moments))) is not None:
        (arrays, moments), begin, _ = found
    for epoch in range(begin, epochs):
        keys = jax.random.split(jax.random.fold_in(key, epoch), members)
        arrays, moments, losses = epoch_of_all(arrays, moments, facts, train_rows, keys, data)
        stop = after_epoch is not None and after_epoch(epoch, losses)
        if checkpoints is not None and (stop or epoch + 1 == epochs or (epoch + 1) % EPOCHS_KEPT == 0):
            checkpoints.save(epoch + 1, (arrays, moments))
        if stop:
            break
    return eqx.combine(arrays, static)

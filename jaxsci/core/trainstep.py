"""The pure side of training: state, update, and several updates as one compiled program.

`make_update` is the mathematics, for any loss and optax optimizer. `make_step` and `make_host_step` run it
over the batches that a traced function or a host loader gives for each global step. What a step sees depends
on the step's number and the state alone, so a resumed run sees what the uninterrupted one saw.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int32, Key, PyTree

from jaxsci.core.config import require
from jaxsci.core.mesh import replicate

Metrics = dict[str, Array]
Loss = Callable[..., tuple[Array, Metrics]]  # loss(params, batch, *, key) -> (scalar, named scalars)


class TrainState(NamedTuple):
    """Everything that training carries from step to step, and all that a checkpoint needs.

    - `step`: updates done so far; also the position in the data.
    - `params`: pytree of floating-point arrays.
    - `opt_state`: state of the optax optimizer.
    - `key`: key of the run. Update number s draws from `fold_in(key, s)`, so it does not change from step to
      step.
    """

    step: Int32[Array, ""]
    params: PyTree
    opt_state: PyTree
    key: Key[Array, ""]


class TrainingStep(Protocol):
    """What `fit` drives: `length` updates as one compiled program that consumes its state."""

    steps_per_dispatch: int

    def compile(self, state: TrainState, length: int) -> Callable[[TrainState, int], tuple[TrainState, Metrics]]:
        """A program `(state, first) -> (state, metrics)`; `first` is the number of the first batch it trains on.

        That is `state.step`, and more where batches were left out. Metrics have shape (length,). The buffers of the
        state passed in are donated.
        """
        ...


def init_state(params: PyTree, optimizer: optax.GradientTransformation, *, key: Key[Array, ""]) -> TrainState:
    """The state before the first update. `params` is used, not copied: training donates its buffers.

    Where `params` lie on a mesh, whatever the optimizer did not place there itself is replicated on it.
    """
    params = jax.tree.map(jnp.asarray, params)
    state = TrainState(jnp.int32(0), params, optimizer.init(params), jax.random.clone(key))
    leaves = jax.tree.leaves(params)
    meshes = [leaf.sharding.mesh for leaf in leaves if isinstance(leaf.sharding, NamedSharding)]
    if not meshes:
        return state

    def place(leaf: Array) -> Array:
        return leaf if isinstance(leaf.sharding, NamedSharding) else replicate(leaf, meshes[0])

    return jax.tree.map(place, state)


def make_update(
    loss: Loss, optimizer: optax.GradientTransformation, *, param_shardings: PyTree | None = None
) -> Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]:
    """The pure `update(state, batch) -> (state, metrics)`: one gradient step.

    **Arguments:**

    - `loss`: `loss(params, batch, *, key) -> (scalar, dict of scalars)`.
    - `optimizer`: an optax transformation, such as `OptimizerConfig.build` gives.
    - `param_shardings`: tree of shardings like `params`. The compiler would replicate the gradients of
      sharded parameters; with this they keep the sharding of the parameters, and so does the optimizer state.

    The metrics are `loss` and `gradient_norm` (global, before any clipping), both at the parameters before
    the update, and those of `loss` itself.
    """

    def constrain(tree: PyTree) -> PyTree:
        return tree if param_shardings is None else jax.lax.with_sharding_constraint(tree, param_shardings)

    def update(state: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, batch, key=key)
        gradient = constrain(gradient)
        change, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = constrain(optax.apply_updates(state.params, change))
        metrics = {**metrics, "loss": value, "gradient_norm": optax.tree.norm(gradient)}
        return TrainState(state.step + 1, params, opt_state, state.key), metrics

    return update


def make_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    batch_at: Callable[[Int32[Array, ""]], PyTree],
    steps_per_dispatch: int = 1,
    param_shardings: PyTree | None = None,
) -> "TracedStep":
    """Training on batches that are a traced function of their number, such as slices of a device array.

    **Arguments:**

    - `batch_at`: `batch_at(number) -> batch`, pure, `number` a traced integer: the step (see `fit` for exceptions).
    - `steps_per_dispatch`: updates per call of the compiled program. Good values: as many as fill some
      milliseconds.
    - others: see `make_update`.
    """
    return TracedStep(make_update(loss, optimizer, param_shardings=param_shardings), batch_at, steps_per_dispatch)


def make_host_step(
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    load: Callable[[int], PyTree],
    steps_per_dispatch: int = 1,
    batch_sharding: NamedSharding | None = None,
    param_shardings: PyTree | None = None,
) -> "HostStep":
    """Training on batches of numpy arrays that a host function loads, ahead of time, in a background thread.

    **Arguments:**

    - `load`: `load(number) -> batch`, numbered like the steps (see `fit` for batches left out). It is asked for those
      of the coming dispatch before it is known whether they will be trained, so it must have an answer for any.
    - `batch_sharding`: where a batch goes (default: where JAX puts it). With several processes, `load` gives
      the part of the batch that belongs to this process.
    - others: see `make_step`.
    """
    update = make_update(loss, optimizer, param_shardings=param_shardings)
    return HostStep(update, load, steps_per_dispatch, batch_sharding)


class TracedStep:
    """A `TrainingStep` whose batches are traced. Calling it runs one dispatch."""

    def __init__(self, update: Callable, batch_at: Callable, steps_per_dispatch: int):
        require(steps_per_dispatch >= 1, "steps_per_dispatch", "1 or more", steps_per_dispatch)
        self.steps_per_dispatch = steps_per_dispatch
        self._update = update
        self._batch_at = batch_at
        self._jitted = jax.jit(lambda state: self._many(steps_per_dispatch)(state, state.step), donate_argnums=0)

    def __call__(self, state: TrainState) -> tuple[TrainState, Metrics]:
        """One dispatch; metrics have shape (steps_per_dispatch,). `state` is donated."""
        return self._jitted(state)

    def compile(self, state: TrainState, length: int) -> Callable[[TrainState, int], tuple[TrainState, Metrics]]:
        program = _compiled(self._many(length), state, jnp.int32(0))
        return lambda state, first: program(state, jnp.int32(first))

    def _many(self, length: int) -> Callable[[TrainState, Int32[Array, ""]], tuple[TrainState, Metrics]]:
        def once(state: TrainState, number: Int32[Array, ""]) -> tuple[TrainState, Metrics]:
            return self._update(state, self._batch_at(number))

        return lambda state, first: jax.lax.scan(once, state, first + jnp.arange(length, dtype=jnp.int32))


class HostStep:
    """A `TrainingStep` whose batches come from the host, one dispatch ahead of the device."""

    def __init__(
        self,
        update: Callable,
        load: Callable[[int], PyTree],
        steps_per_dispatch: int,
        sharding: NamedSharding | None,
    ):
        require(steps_per_dispatch >= 1, "steps_per_dispatch", "1 or more", steps_per_dispatch)
        self.steps_per_dispatch = steps_per_dispatch
        self._update = update
        self._load = load
        self._sharding = sharding
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="jaxsci-load")
        self._asked: dict[int, Future[PyTree]] = {}

    def compile(self, state: TrainState, length: int) -> Callable[[TrainState, int], tuple[TrainState, Metrics]]:
        def many(state: TrainState, batches: PyTree) -> tuple[TrainState, Metrics]:
            if length == 1:  # without a loop, in which gradients of convolutions take twenty times as long on a CPU
                state, metrics = self._update(state, jax.tree.map(lambda leaf: leaf[0], batches))
                return state, jax.tree.map(lambda metric: jnp.asarray(metric)[None], metrics)
            return jax.lax.scan(self._update, state, batches)

        program = _compiled(many, state, self._batches(int(state.step), length))
        return lambda state, first: program(state, self._batches(first, length))

    def _batches(self, first: int, length: int) -> PyTree:
        """Batches `first` to `first + length`, stacked along a new leading axis, on the device."""
        # Those already asked for, also by an earlier call for the same numbers, are not loaded again.
        needed = range(first, first + length + self.steps_per_dispatch)
        self._asked = {n: self._asked.get(n) or self._loader.submit(self._load, n) for n in needed}
        batches = [self._asked[n].result() for n in range(first, first + length)]
        stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
        if self._sharding is None:
            return jax.tree.map(jnp.asarray, stacked)
        sharding = NamedSharding(self._sharding.mesh, PartitionSpec(None, *self._sharding.spec))
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), stacked)


def _compiled(many: Callable, state: TrainState, *batches: PyTree) -> Callable:
    """Compile ahead of time, so that compilation is not timed as training. The state keeps its shardings."""
    kept = jax.tree.map(lambda leaf: leaf.sharding, state)
    return jax.jit(many, donate_argnums=0, out_shardings=(kept, None)).lower(state, *batches).compile()

"""Chains of many architectures and restarts, advancing together as one compiled program."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.bayesnas.batches import Examples, batch_indices, take
from jaxsci.bayesnas.space import Space
from jaxsci.bayesnas.weights import FullData, Info, Task, WeightPosterior
from jaxsci.core.ensemble import ensemble

Loss = Callable[[Array, Array], Float[Array, ""]]
Mode = Literal["vmap", "map", "unroll", "shard"]


class Chains(NamedTuple):
    """The members in training; every leaf has a leading member axis."""

    state: Any
    z: Float[Array, "members decisions ops"]
    key: Key[Array, " members"]
    """A member draws its initial weights, batches and noise from it alone: never from its place among the members."""


@dataclass(frozen=True)
class Trainer:
    """How one member is trained; the functions below run many.

    `loss(outputs, labels)` is a mean over the batch. `batch_size` is per member.
    """

    space: Space
    method: WeightPosterior
    task: Task
    loss: Loss
    batch_size: int

    def start(
        self, z: Float[Array, "decisions ops"], inputs: tuple[int, ...], outputs: int, *, key: Key[Array, ""]
    ) -> Any:
        weights, chain = jax.random.split(jax.random.fold_in(key, 0))
        params = self.space.init(inputs, outputs, key=weights)
        return self.method.init(params, self.task, key=chain)

    def step(
        self,
        state: Any,
        z: Float[Array, "decisions ops"],
        batch: Examples,
        step: Int[Array, ""],
        *,
        key: Key[Array, ""],
    ) -> tuple[Any, Info]:
        def potential(params: PyTree) -> Float[Array, ""]:
            return self.loss(self.space.apply(params, z, batch.x), batch.y)

        return self.method.update(state, step, potential, self.task, key=key)

    def rows(self, count: int, first: int | Array, steps: int, *, key: Key[Array, ""]) -> Int[Array, "steps batch"]:
        return batch_indices(count, self.batch_size, steps, key=jax.random.fold_in(key, 1), first=first)

    def finish(self, state: Any, z: Float[Array, "decisions ops"], data: Examples, *, key: Key[Array, ""]) -> Any:
        full = FullData(
            lambda params: self.loss(self.space.apply(params, z, data.x), data.y),
            lambda params: self.space.features(params, z, data.x),
            data.y,
        )
        return self.method.finish(state, full, self.task, key=jax.random.fold_in(key, 2))

    def draws(self, state: Any, *, key: Key[Array, ""]) -> PyTree:
        return self.method.draws(state, self.task, key=jax.random.fold_in(key, 3))


def start_chains(
    trainer: Trainer,
    z: Float[Array, "members decisions ops"],
    inputs: tuple[int, ...],
    outputs: int,
    *,
    keys: Key[Array, " members"],
) -> Chains:
    """Initial weights of every member, from its own key. Not compiled: the many small draws of a convolutional space
    take minutes to compile and milliseconds to run.
    """
    state = jax.vmap(lambda z, key: trainer.start(z, inputs, outputs, key=key))(z, keys)
    return Chains(state, z, keys)


def advance(
    trainer: Trainer,
    chains: Chains,
    data: Examples,
    first: int,
    steps: int,
    *,
    mode: Mode = "vmap",
    mesh: Mesh | None = None,
) -> tuple[Chains, Info]:
    """Updates `first` to `first + steps` of all members. Infos gain the axes (members, steps). The state is donated.

    Modes give the same result up to rounding: `vmap` computes members side by side in one program, `map` one after the
    other in one program, `shard` side by side on the devices of the mesh axis `member`, `unroll` as separate code in a
    program per step (for convolutions, whose gradients are slow under `vmap` and inside loops on CPUs).
    """
    if mode == "unroll":
        return _unrolled(trainer, chains, data, first, steps)
    state, info = _scanned(trainer, *chains, data, jnp.int32(first), steps, mode, mesh)
    return chains._replace(state=state), info


@partial(jax.jit, static_argnames=("trainer", "steps", "mode", "mesh"), donate_argnames="state")
def _scanned(
    trainer: Trainer,
    state: Any,
    z: Array,
    key: Array,
    data: Examples,
    first: Array,
    steps: int,
    mode: Mode,
    mesh: Mesh | None,
) -> tuple[Any, Info]:
    def one(state: Any, z: Array, key: Array, data: Examples, first: Array) -> tuple[Any, Info]:
        rows = trainer.rows(len(data.y), first, steps, key=key)

        def step(state: Any, at: tuple[Array, Array]) -> tuple[Any, Info]:
            number, row = at
            return trainer.step(state, z, take(data, row), number, key=_noise_key(key, number))

        # The numbers belong to no member, so what depends on them alone is no branch per member.
        return jax.lax.scan(step, state, (first + jnp.arange(steps, dtype=jnp.int32), rows))

    if mode == "map":
        return jax.lax.map(lambda member: one(member[0], member[1], member[2], data, first), (state, z, key))
    members = ensemble(one, in_axes=(0, 0, 0, None, None), mesh=mesh if mode == "shard" else None)
    return members(state, z, key, data, first)


def _unrolled(trainer: Trainer, chains: Chains, data: Examples, first: int, steps: int) -> tuple[Chains, Info]:
    members = [jax.tree.map(lambda a, i=i: a[i], chains) for i in range(len(chains.z))]
    rows = [_member_rows(trainer, len(data.y), jnp.int32(first), steps, m.key) for m in members]
    infos = []
    for offset in range(steps):
        states, info = _step_each(
            trainer, [m.state for m in members], members, data, [r[offset] for r in rows], jnp.int32(first + offset)
        )
        members = [m._replace(state=s) for m, s in zip(members, states, strict=True)]
        infos.append(info)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[m.state for m in members])
    return chains._replace(state=stacked), jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), *infos)


@partial(jax.jit, static_argnames=("trainer", "count", "steps"))
def _member_rows(trainer: Trainer, count: int, first: Array, steps: int, key: Array) -> Array:
    return trainer.rows(count, first, steps, key=key)


@partial(jax.jit, static_argnames="trainer", donate_argnames="states")
def _step_each(
    trainer: Trainer, states: list[Any], members: list[Chains], data: Examples, rows: list[Array], number: Array
) -> tuple[list[Any], Info]:
    done = [
        trainer.step(state, m.z, take(data, row), number, key=_noise_key(m.key, number))
        for state, m, row in zip(states, members, rows, strict=True)
    ]
    infos = jax.tree.map(lambda *leaves: jnp.stack(leaves), *[info for _, info in done])
    return [state for state, _ in done], infos


def _noise_key(key: Key[Array, ""], number: Array) -> Key[Array, ""]:
    return jax.random.fold_in(jax.random.fold_in(key, 4), number)


def collect(trainer: Trainer, chains: Chains, data: Examples, *, together: bool = True) -> PyTree:
    """Finish every chain and draw from it: weights with leading axes (members, samples).

    `together=False` takes members one at a time, for methods whose end needs much memory or a sampler of its own.
    """

    def one(state: Any, z: Array, key: Array) -> PyTree:
        return trainer.draws(trainer.finish(state, z, data, key=key), key=key)

    if together:
        return jax.jit(jax.vmap(one))(*chains)
    drawn = [one(*jax.tree.map(lambda a, i=i: a[i], tuple(chains))) for i in range(len(chains.z))]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)


@partial(jax.jit, static_argnames="space")
def predict(
    space: Space, weights: PyTree, z: Float[Array, "members decisions ops"], x: Float[Array, "examples *inputs"]
) -> Float[Array, "members samples examples outputs"]:
    """Outputs of every sample of every member, as one program."""
    return jax.vmap(lambda w, z: jax.vmap(lambda w: space.apply(w, z, x))(w))(weights, z)


def predict_each(
    space: Space, weights: PyTree, z: Float[Array, "members decisions ops"], x: Float[Array, "examples *inputs"]
) -> Float[Array, "members samples examples outputs"]:
    """The same by a loop over members and samples: for convolutions on CPUs, slow under `vmap`."""
    samples = jax.tree.leaves(weights)[0].shape[1]
    outputs = [
        jnp.stack(
            [_outputs(space, jax.tree.map(lambda a, i=i, s=s: a[i, s], weights), z[i], x) for s in range(samples)]
        )
        for i in range(len(z))
    ]
    return jnp.stack(outputs)


@partial(jax.jit, static_argnames="space")
def _outputs(space: Space, weights: PyTree, z: Array, x: Array) -> Array:
    return space.apply(weights, z, x)

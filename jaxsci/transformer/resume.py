"""Checkpoints of a transformer that any mesh and any number of processes can resume.

Two meshes may pad layers and vocabulary differently (`layout`). A checkpoint is written as it lies, which costs
nothing, together with its layout; the run that resumes it reads that layout, spread over its own devices, and moves
it into its own.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, Sharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.errors import CheckpointError
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.layout import Layout, layout, relayout, relayout_leaf
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.sharding import leaf_spec

# They say how a model is trained, not what its parameters mean: a resumed run may change them.
TRAINING_ONLY = ("dropout", "initial_deviation")


class MeshCheckpoints(Checkpoints):
    """`Checkpoints` of a `TrainState` (or its parameters) in the layout of `plan` and `mesh`.

    What an earlier run wrote from another mesh comes back in the layout, and where, `like` says. Resuming with another
    model raises a `CheckpointError` that names the key.
    """

    def __init__(
        self,
        directory: str | Path,
        model: ModelConfig,
        plan: ParallelConfig,
        mesh: Mesh,
        *,
        keep: int = 3,
        asynchronous: bool = True,
    ):
        super().__init__(directory, keep=keep, asynchronous=asynchronous)
        self.model = model
        self.mesh = mesh
        self.layout = layout(model, plan, mesh.shape)

    def save(self, step: int, tree: PyTree, extra: Mapping[str, Any] | None = None) -> None:
        held = {"model": identity(self.model), "layout": asdict(self.layout)}
        super().save(step, tree, {**(extra or {}), **held})

    def restore_latest(
        self, like: PyTree, *, shardings: PyTree | Sharding | None = None
    ) -> tuple[PyTree, int, dict[str, Any]] | None:
        restored = super().restore_latest(like, shardings=shardings)
        if restored is None or Layout(**restored[2]["layout"]) == self.layout:
            return restored
        tree, step, extra = restored
        places = jax.tree.map(lambda leaf: leaf.sharding, like) if shardings is None else shardings
        return self._move(tree, jax.tree.leaves(jax.tree.broadcast(places, like))), step, extra

    def refuse_another_model(self) -> None:
        """Raise the `CheckpointError` that restoring would, before anything has been computed for it."""
        extra = self.newest_extra()
        if extra is not None:
            self._compare(extra)

    def saved_form(self, like: PyTree, extra: Mapping[str, Any]) -> PyTree:
        self._compare(extra)
        saved = Layout(**extra["layout"])
        if saved == self.layout:
            return like
        shapes = jax.eval_shape(lambda tree: relayout(tree, self.model, saved), like)
        return jax.tree_util.tree_map_with_path(self._placed, shapes)

    def _compare(self, extra: Mapping[str, Any]) -> None:
        if "layout" not in extra or "model" not in extra:
            raise CheckpointError(f"{self.directory} holds no checkpoints of a transformer; use another run directory")
        here = identity(self.model)
        for name in {**here, **extra["model"]}:
            came, expected = extra["model"].get(name), here.get(name)
            if came != expected:
                raise CheckpointError(
                    f"checkpoints in {self.directory} are of another model: expected model.{name}={expected}, got "
                    f"{came}; use the config they were written with, or another run directory"
                )

    def _placed(self, path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        split = NamedSharding(self.mesh, fitting(leaf_spec(path) if leaf.ndim else P(), leaf.shape, self.mesh.shape))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=split)

    def _move(self, tree: PyTree, places: list[Sharding]) -> PyTree:
        """Leaf by leaf, each let go before the next, so that memory never holds the state twice."""
        pairs, structure = jax.tree_util.tree_flatten_with_path(tree)
        del tree
        moved = []
        for place in places:
            path, leaf = pairs.pop(0)
            move = jax.jit(lambda a, path=path: relayout_leaf(path, a, self.model, self.layout), out_shardings=place)
            moved.append(jax.block_until_ready(move(leaf)))
        return jax.tree.unflatten(structure, moved)


def identity(model: ModelConfig) -> dict[str, Any]:
    """The fields without which the parameters would be of another function."""
    return {name: value for name, value in asdict(model).items() if name not in TRAINING_ONLY}


def fitting(spec: P, shape: tuple[int, ...], mesh: Mapping[str, int]) -> P:
    """`spec` for a shape it may not divide: an axis that does not fit its dimension splits another that it fits."""
    split: list[list[str]] = [[] for _ in shape]

    def fits(dimension: int, axis: str) -> bool:
        return shape[dimension] % (math.prod(mesh[a] for a in split[dimension]) * mesh[axis]) == 0

    homeless = []
    for dimension, entry in enumerate(spec):
        for axis in (entry,) if isinstance(entry, str) else entry or ():
            if fits(dimension, axis):
                split[dimension].append(axis)
            else:
                homeless.append(axis)
    for axis in homeless:
        room = [dimension for dimension in range(len(shape)) if fits(dimension, axis)]
        if room:
            split[room[0]].append(axis)
    return P(*[tuple(axes) or None for axes in split])

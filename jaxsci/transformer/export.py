"""A trained model as one safetensors file, without padding and without a trace of the mesh it was trained on.

Names are paths: `embed`, `position`, `blocks.3.attention.qkv`, `norm.scale`. The configuration of the model travels in
the metadata, so that the file says what it is. Writing gathers one layer's matrix at a time; reading gives every
process the parts that its own devices hold.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import PyTree

from jaxsci.core.config import build
from jaxsci.core.distributed import is_main
from jaxsci.core.errors import CheckpointError, ConfigError
from jaxsci.transformer import safetensors
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.layout import Layout, layout
from jaxsci.transformer.model import init
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.resume import identity
from jaxsci.transformer.safetensors import Entry
from jaxsci.transformer.sharding import shardings

METADATA = "jaxsci.model"


def export_parameters(path: str | Path, model: ModelConfig, params: PyTree, mesh: Mesh) -> None:
    """Write `params`, whatever their layout on `mesh`, to `path`. All processes call it; process 0 writes.

    Raises `JaxsciError` when the disk refuses.
    """
    pairs = jax.tree_util.tree_leaves_with_path(params)
    entries = {name: Entry(shape, dtype) for _, _, name, shape, dtype in _plan(model, pairs)}
    tensors = _gather(model, pairs, mesh)
    if is_main():
        safetensors.write(Path(path), entries, tensors, {METADATA: json.dumps(asdict(model))})
    else:
        for _ in tensors:
            pass


def import_parameters(path: str | Path, model: ModelConfig, plan: ParallelConfig, mesh: Mesh) -> PyTree:
    """The parameters in `path`, in the layout that `plan` and `mesh` need, where they belong.

    Raises `DataError` for a file that is none, `CheckpointError` for one of another model.
    """
    path = Path(path)
    tensors, metadata = safetensors.read(path)
    _compare(path, model, metadata)
    stored = layout(model, plan, mesh.shape)
    like = jax.eval_shape(lambda key: init(model, stored, key), jax.random.key(0))
    _compare_arrays(path, model, like, tensors)

    def one(leaf_path, leaf, place):
        def part(index):
            if _in_blocks(leaf_path):
                return _layers(tensors, leaf_path, stored, model.layers, leaf.shape, index)
            real = tensors[_name(leaf_path)][index]
            # The vocabulary is padded behind its last row, where slices end early or are empty.
            wanted = [len(range(size)[part]) for size, part in zip(leaf.shape, index, strict=True)]
            return np.pad(real, [(0, n - here) for n, here in zip(wanted, real.shape, strict=True)])

        return jax.make_array_from_callback(leaf.shape, place, part)

    return jax.tree_util.tree_map_with_path(one, like, shardings(mesh, like))


def exported_model(path: str | Path) -> ModelConfig:
    """The configuration of the model in a file written by `export_parameters`. Raises `DataError` and the like."""
    _, metadata = safetensors.read(Path(path))
    if METADATA not in metadata:
        raise CheckpointError(f"{path} was not exported by jaxsci: its metadata has no {METADATA}")
    try:
        return build(ModelConfig, _model(Path(path), metadata))
    except ConfigError as error:
        raise CheckpointError(f"{path}: its metadata describe no model ({error}); it is damaged") from None


def _plan(model: ModelConfig, pairs: list) -> Iterator[tuple[tuple, int | None, str, tuple[int, ...], np.dtype]]:
    """Path, layer (None outside `blocks`), name, shape and type of every exported tensor."""
    for path, leaf in pairs:
        if _in_blocks(path):
            for n in range(model.layers):
                yield path, n, _name(path, n), leaf.shape[2:], leaf.dtype
        else:
            yield path, None, _name(path), _unpadded(model, path, leaf.shape), leaf.dtype


def _gather(model: ModelConfig, pairs: list, mesh: Mesh) -> Iterator[np.ndarray]:
    leaves, everywhere = dict(pairs), NamedSharding(mesh, P())
    pick = jax.jit(_pick, out_shardings=everywhere)
    for path, n, _, shape, _ in _plan(model, pairs):
        leaf = leaves[path]
        whole = pick(leaf, n) if n is not None else jax.jit(lambda a: a, out_shardings=everywhere)(leaf)
        yield np.asarray(whole)[tuple(slice(size) for size in shape)]


def _pick(stack: jax.Array, n: jax.Array) -> jax.Array:
    """Layer n of (chunk, layer, ...), as a sum: indexing a split axis would gather all of it on every device.

    Of the bits as integers, which adding zeros leaves as they are.
    """
    words = jax.lax.bitcast_convert_type(stack, jnp.uint32)
    number = jnp.arange(stack.shape[0] * stack.shape[1]).reshape(*stack.shape[:2], *[1] * (stack.ndim - 2))
    one = jnp.where(number == n, words, 0).sum((0, 1), dtype=jnp.uint32)
    return jax.lax.bitcast_convert_type(one, stack.dtype)


def _layers(tensors, path, stored: Layout, real: int, shape: tuple[int, ...], index: tuple) -> np.ndarray:
    """The part `index` of a stack, from the files of its layers; zeros where the stack is padded."""
    chunks, depths = (range(size)[part] for size, part in zip(shape[:2], index[:2], strict=True))

    def layer(n: int) -> np.ndarray:
        return tensors[_name(path, n)][index[2:]] if n < real else np.zeros_like(tensors[_name(path, 0)][index[2:]])

    return np.stack([np.stack([layer(c * stored.depth + d) for d in depths]) for c in chunks])


def _compare(path: Path, model: ModelConfig, metadata: dict[str, str]) -> None:
    if METADATA not in metadata:
        return  # from elsewhere: names and shapes must do
    there, here = _model(path, metadata), identity(model)
    for name, expected in here.items():
        if there.get(name) != expected:
            raise CheckpointError(
                f"{path} is of another model: expected model.{name}={expected}, got {there.get(name)}; "
                "use the configuration it was trained with"
            )


def _model(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    try:
        described = json.loads(metadata[METADATA])
    except (ValueError, TypeError, RecursionError):
        described = None
    if not isinstance(described, dict):
        raise CheckpointError(f"{path}: its metadata describe no model; it is damaged")
    return described


def _compare_arrays(path: Path, model: ModelConfig, like: PyTree, tensors: dict[str, np.ndarray]) -> None:
    pairs = jax.tree_util.tree_leaves_with_path(like)
    expected = {name: f"{dtype}{list(shape)}" for _, _, name, shape, dtype in _plan(model, pairs)}
    found = {name: f"{a.dtype}{list(a.shape)}" for name, a in tensors.items()}
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise CheckpointError(
                f"{path} is of another model: expected {name} to be {expected.get(name, 'absent')}, got "
                f"{found.get(name, 'nothing')}; use the configuration it was trained with"
            )


def _unpadded(model: ModelConfig, path: tuple, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (model.vocabulary, *shape[1:]) if path[-1].key in ("embed", "head") else shape


def _in_blocks(path: tuple) -> bool:
    return path[0].key == "blocks"


def _name(path: tuple, layer: int | None = None) -> str:
    keys = [entry.key for entry in path]
    return ".".join(keys if layer is None else [keys[0], str(layer), *keys[1:]])

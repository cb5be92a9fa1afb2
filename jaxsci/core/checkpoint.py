"""Checkpoints that survive kills, damage and a change of machine, on top of orbax's `CheckpointManager`.

Orbax writes asynchronously, atomically (a step's directory appears by rename, complete) and from every
process. Added here: a manifest with the shape, dtype and fingerprint of every array, so that silent damage is
noticed and told apart from a checkpoint of another model; and the way past a damaged checkpoint to the one
before.

A fingerprint is a 32-bit sum over mixed (value, position) words, computed where the array lives. Integer
addition is associative, so the value is the same on any mesh; changing one word always changes it, several
with probability 1 - 2^-32.
"""

import json
import logging
import math
import re
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from jax.experimental import multihost_utils
from jax.sharding import Sharding, SingleDeviceSharding
from jaxtyping import Array, PyTree, UInt32

from jaxsci.core.config import require
from jaxsci.core.errors import CheckpointError

_REFUSED = re.compile(r"([A-Z][\w ,'-]+?) \[os_error_code=")  # how tensorstore quotes the operating system


class _Damaged(Exception):
    """This checkpoint cannot be trusted; another one may."""


class Checkpoints:
    """The last `keep` checkpoints of one run, below `directory`, which the first save creates.

    With several processes, all of them call every method in the same order, on a directory they share. Usable
    as a context manager, which waits for the write in progress.
    """

    def __init__(self, directory: str | Path, *, keep: int = 3, asynchronous: bool = True):
        self.directory = Path(directory).absolute()
        self.keep = keep
        self.asynchronous = asynchronous
        self._manager: ocp.CheckpointManager | None = None
        require(keep >= 1, "keep", "1 checkpoint or more", keep)

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, oldest first."""
        self.wait()
        if not self.directory.is_dir():
            return []
        return sorted(ocp.utils.checkpoint_steps(self.directory))

    def save(self, step: int, tree: PyTree, extra: Mapping[str, Any] | None = None) -> None:
        """Write `tree` (arrays, also typed keys) and `extra` (what JSON can hold) as checkpoint `step`.

        Returns once `tree` has been copied and may be donated; the write goes on in the background if
        asynchronous. A checkpoint already there for this step is replaced. Raises `CheckpointError` when a
        leaf is not an array that all processes share, and when the disk refuses: the checkpoints before are whole
        then, and the refused one is not there.
        """
        names, leaves = _named_leaves(tree)
        leaves = {name: _plain(jnp.asarray(leaf)) for name, leaf in zip(names, leaves, strict=True)}
        if jax.process_count() > 1:
            for name, leaf in leaves.items():
                if leaf.is_fully_addressable:
                    raise CheckpointError(
                        f"cannot save {name}: it lives on one process only; place it on the mesh "
                        "with jaxsci.core.mesh.replicate"
                    )
        manifest = {
            "arrays": _description(tree),
            "fingerprints": _fingerprints(leaves),
            "extra": dict(extra or {}),
        }
        manifest["checksum"] = _checksum(manifest)
        with _disk_errors(self.directory):
            manager = self._open()
            if step in self.steps():
                manager.delete(step)
            manager.save(
                step,
                args=ocp.args.Composite(
                    # Orbax refuses arrays without elements; the manifest knows their shapes.
                    arrays=ocp.args.PyTreeSave({name: leaf for name, leaf in leaves.items() if leaf.size}),
                    manifest=ocp.args.JsonSave(manifest),
                ),
                force=True,
            )

    def restore_latest(
        self, like: PyTree, *, shardings: PyTree | Sharding | None = None
    ) -> tuple[PyTree, int, dict[str, Any]] | None:
        """The newest sound checkpoint as `(tree, step, extra)`, or `None` where there is none at all.

        **Arguments:**

        - `like`: arrays or `jax.ShapeDtypeStruct`s that say structure, shapes, dtypes and, unless `shardings`
          does, where each leaf goes (by default the first device of this process).
        - `shardings`: one sharding, or a tree of them of which `like` is an extension. It may belong to
          another mesh than the one the checkpoint was written from.

        A damaged checkpoint is skipped with a warning that names it. Raises `CheckpointError` when all are
        damaged, or when the checkpoint is sound but holds another model.
        """
        damaged = []
        for step in reversed(self.steps()):
            try:
                tree, extra = self._restore(step, like, shardings)
            except _Damaged as damage:
                damaged.append(f"{step} ({damage})")
                warnings.warn(
                    f"checkpoint {self.directory / str(step)} is damaged ({damage}); trying the one before",
                    stacklevel=2,
                )
            else:
                return tree, step, extra
        if damaged:
            raise CheckpointError(
                f"every checkpoint in {self.directory} is damaged: {', '.join(damaged)}; "
                "remove the directory to start anew"
            )
        return None

    def newest_extra(self) -> dict[str, Any] | None:
        """The `extra` of the newest checkpoint with a sound manifest, or `None`: a look without restoring."""
        for step in reversed(self.steps()):
            try:
                return _attempt(lambda step=step: _read_manifest(self._manifest(step)))["extra"]
            except _Damaged:
                continue
        return None

    def saved_form(self, like: PyTree, extra: Mapping[str, Any]) -> PyTree:
        """What a checkpoint written with `extra` holds, as `like` for it: `like` itself.

        For subclasses whose files differ in shape from what is restored in the end, such as `MeshCheckpoints`
        of the transformer. May raise `CheckpointError` when `extra` tells of another model.
        """
        return like

    def wait(self) -> None:
        """Block until the write in progress is complete. Raises what went wrong in it."""
        if self._manager is not None:
            with _disk_errors(self.directory):
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait, and let go of orbax's threads. Raises what went wrong in the last write."""
        manager, self._manager = self._manager, None
        if manager is not None:
            with _disk_errors(self.directory):
                manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self) -> ocp.CheckpointManager:
        if self._manager is None:
            logging.getLogger("absl").addFilter(_told_only_here)
            self._manager = ocp.CheckpointManager(
                self.directory,
                options=ocp.CheckpointManagerOptions(
                    max_to_keep=self.keep,
                    enable_async_checkpointing=self.asynchronous,
                    cleanup_tmp_directories=True,  # of a run that was killed while writing
                ),
            )
        return self._manager

    def _manifest(self, step: int) -> Path:
        return self.directory / str(step) / "manifest" / "metadata"

    def _restore(self, step: int, like: PyTree, shardings: PyTree | Sharding | None) -> tuple[PyTree, dict[str, Any]]:
        where = self.directory / str(step)
        manifest = _attempt(lambda: _read_manifest(self._manifest(step)))
        like = self.saved_form(like, manifest["extra"])
        _compare(manifest["arrays"], _description(like), where)
        names, leaves = _named_leaves(like)
        targets = dict(zip(names, _targets(like, leaves, shardings), strict=True))
        stored = {name: target for name, target in targets.items() if math.prod(target.shape)}
        arrays = _attempt(lambda: _read_arrays(where / "arrays", stored))
        for name, target in targets.items():
            if name not in stored:
                arrays[name] = jnp.zeros(target.shape, target.dtype, device=target.sharding)
        wrong = [name for name, value in _fingerprints(arrays).items() if value != manifest["fingerprints"][name]]
        if wrong:
            raise _Damaged(f"the contents of {wrong[0]} have changed since they were written")
        restored = [_like_key(arrays[name], leaf) for name, leaf in zip(names, leaves, strict=True)]
        return jax.tree.unflatten(jax.tree.structure(like), restored), manifest["extra"]


def _told_only_here(record: logging.LogRecord) -> bool:
    """Orbax logs with its traceback, from the thread it happens in, what it also raises."""
    return not (record.exc_info and "orbax" in record.pathname)


@contextmanager
def _disk_errors(directory: Path) -> Iterator[None]:
    """Turn what orbax and tensorstore raise where the disk refuses into one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        found = _REFUSED.search(str(error))
        if found is None and not isinstance(error, OSError):
            raise
        why = found[1] if found else getattr(error, "strerror", None) or type(error).__name__
        raise CheckpointError(
            f"cannot write a checkpoint to {directory}: {why}; earlier ones are kept; free some space or choose "
            "another directory, then resume"
        ) from error


def _attempt(read: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
    """`read()`, or `_Damaged` on all processes if it failed on any: they must turn to the same checkpoint."""
    result, failure = None, ""
    try:
        result = read()
    except jax.errors.JaxRuntimeError:  # such as a device out of memory: nothing is wrong with the files
        raise
    except Exception as error:  # a damaged file can fail in any layer below, in any way
        failure = " ".join(str(error).split())[:120] or type(error).__name__
    if jax.process_count() > 1 and multihost_utils.process_allgather(np.array(result is None)).any():
        result, failure = None, failure or "found so by another process"
    if result is None:
        raise _Damaged(failure)
    return result


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise _Damaged("its manifest is missing")
    manifest = json.loads(path.read_text())
    checksum = manifest.pop("checksum", None)
    if checksum != _checksum(manifest):
        raise _Damaged("its manifest has changed since it was written")
    return manifest


def _read_arrays(directory: Path, targets: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, Array]:
    """Read what orbax wrote; every process the pieces that its own devices are to hold.

    Not by orbax's own `restore`: it ends in a barrier, at which the other processes would wait for one that
    found its piece damaged, and it abandons the reads under way when one fails, which then complain from the
    background.
    """
    base = {"driver": "file", "path": f"{directory}/"}
    opening = {
        name: tensorstore.open(
            {"driver": "zarr", "kvstore": {"driver": "ocdbt", "base": base, "path": f"{name}/"}},
            open=True,
            read=True,
        )
        for name in targets
    }
    stores = {name: store.result() for name, store in opening.items()}

    def piece(name: str) -> Callable[[Any], np.ndarray]:
        return lambda index: np.asarray(stores[name][index].read().result())

    return {
        name: jax.make_array_from_callback(target.shape, target.sharding, piece(name))
        for name, target in targets.items()
    }


def _checksum(manifest: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(manifest, sort_keys=True).encode())


def _compare(saved: Mapping[str, str], expected: Mapping[str, str], where: Path) -> None:
    """Raise `CheckpointError` on the first array in which a checkpoint differs from what is expected."""
    for name in [*expected, *saved]:
        if saved.get(name) != expected.get(name):
            raise CheckpointError(
                f"checkpoint {where} is of another model: expected {name} to be "
                f"{expected.get(name, 'absent')}, got {saved.get(name, 'nothing')}; "
                "use the config it was written with, or another run directory"
            )


def _named_leaves(tree: PyTree) -> tuple[list[str], list[Any]]:
    """Names such as `.params['w']`, which also name the arrays on disk, and the leaves they belong to."""
    pairs = jax.tree.leaves_with_path(tree)
    return [jax.tree_util.keystr(path) for path, _ in pairs], [leaf for _, leaf in pairs]


def _description(tree: PyTree) -> dict[str, str]:
    """Name -> dtype and shape, such as `float32[3,4]`."""
    names, leaves = _named_leaves(jax.eval_shape(lambda tree: tree, tree))
    return {name: f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]" for name, leaf in zip(names, leaves, strict=True)}


def _targets(like: PyTree, leaves: list[Any], shardings: PyTree | Sharding | None) -> list[jax.ShapeDtypeStruct]:
    """Shape, dtype and destination of each leaf as it is stored (typed keys as their words)."""
    if shardings is None:
        here = SingleDeviceSharding(jax.local_devices()[0])
        places = [getattr(leaf, "sharding", None) or here for leaf in leaves]
    else:
        places = jax.tree.leaves(jax.tree.broadcast(shardings, like))
    plain = [jax.eval_shape(_plain, leaf) for leaf in leaves]
    return [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place) for x, place in zip(plain, places, strict=True)]


def _plain(leaf: Array) -> Array:
    """A typed key as its words, shape (*leaf.shape, words); any other array as it is."""
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _like_key(words: Array, leaf: Any) -> Array:
    """The inverse of `_plain`, with the key type of `leaf`."""
    if not jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        return words
    kinds = []
    # `key_impl` accepts no ShapeDtypeStruct, but what tracing makes of one.
    jax.eval_shape(lambda key: kinds.append(jax.random.key_impl(key)), leaf)
    return jax.random.wrap_key_data(words, impl=kinds[0])


def _fingerprints(arrays: Mapping[str, Array]) -> dict[str, int]:
    values = jax.device_get({name: _fingerprint(array) for name, array in arrays.items()})
    return {name: int(value) for name, value in values.items()}


@jax.jit
def _fingerprint(x: Array) -> UInt32[Array, ""]:
    if jnp.iscomplexobj(x):
        x = jnp.stack([x.real, x.imag])
    if x.dtype == bool:
        x = x.astype(jnp.uint8)
    word = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[x.dtype.itemsize]
    # Numbers of 8 bytes become two words on a new last axis.
    words = jax.lax.bitcast_convert_type(x, word).astype(jnp.uint32)

    # The position, without a reshape that would gather a sharded array; it may wrap around.
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis in range(words.ndim):
        stride = np.uint32(math.prod(words.shape[axis + 1 :]) % 2**32)
        position += jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis) * stride

    # The finalizer of MurmurHash3 (Appleby), a bijection of 32-bit words.
    mixed = words ^ (position * np.uint32(0x9E3779B9))
    mixed = (mixed ^ (mixed >> 16)) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * np.uint32(0xC2B2AE35)
    return jnp.sum(mixed ^ (mixed >> 16), dtype=jnp.uint32)

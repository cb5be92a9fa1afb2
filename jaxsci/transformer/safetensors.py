"""The safetensors file format: named arrays that any framework reads and no reader can be tricked by.

8 bytes, the length of the header (unsigned, little-endian); the header, JSON padded with spaces to a multiple of 8:
name -> {dtype, shape, data_offsets [begin, end)} and `__metadata__`, string -> string; then the data, row-major and
little-endian, without gaps, offsets counted from its start. https://github.com/huggingface/safetensors, section
"Format".
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxsci.core.errors import DataError
from jaxsci.core.files import disk_errors, open_atomic
from jaxsci.core.reading import existing

DTYPES = {
    name: np.dtype(kind)
    for name, kind in {
        "F64": "<f8",
        "F32": "<f4",
        "F16": "<f2",
        "BF16": jnp.bfloat16,
        "I64": "<i8",
        "I32": "<i4",
        "I16": "<i2",
        "I8": "i1",
        "U8": "u1",
        "BOOL": "?",
    }.items()
}
LARGEST_HEADER = 100_000_000  # bytes; the reference reader refuses more


class Entry(NamedTuple):
    """What a tensor is, before there is one."""

    shape: tuple[int, ...]
    dtype: Any

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


def write(
    path: Path, entries: Mapping[str, Entry], arrays: Iterable[np.ndarray], metadata: Mapping[str, str] | None = None
) -> None:
    """Write the arrays, in the order of `entries`, one at a time: none but the present one is held in memory.

    The file appears whole or not at all. Raises `JaxsciError` when the disk refuses.
    """
    names = {dtype: name for name, dtype in DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, entry in entries.items():
        begin, end = end, end + entry.bytes
        kind = names[np.dtype(entry.dtype)]
        header[name] = {"dtype": kind, "shape": list(entry.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open_atomic(path) as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for (name, entry), array in zip(entries.items(), arrays, strict=True):
            if array.shape != entry.shape or array.dtype != np.dtype(entry.dtype):
                raise ValueError(f"{name}: announced {entry}, got {array.dtype}{list(array.shape)}")
            file.write(np.ascontiguousarray(array, DTYPES[names[np.dtype(entry.dtype)]]).tobytes())


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The tensors, mapped and not read, and the metadata. Raises `DataError` for anything but a sound file."""
    existing(path, "a safetensors file")
    with disk_errors("read", path), path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LARGEST_HEADER):
            raise DataError(f"{path} is no safetensors file, or only the beginning of one")
        try:
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__", {})
            tensors = {name: _map(path, 8 + length, size, **entry) for name, entry in header.items()}
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DataError(f"{path} is no safetensors file ({str(error)[:100]})") from None
    return tensors, metadata


def _map(path: Path, start: int, size: int, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    if dtype not in DTYPES:
        raise ValueError(f"dtype {dtype} is none of {', '.join(DTYPES)}")
    begin, end = data_offsets
    if not 0 <= begin <= end <= size - start or end - begin != Entry(tuple(shape), DTYPES[dtype]).bytes:
        raise ValueError(f"bytes {begin} to {end} of {size - start} do not hold {dtype}{shape}")
    if begin == end:
        return np.zeros(shape, DTYPES[dtype])
    return np.memmap(path, DTYPES[dtype], "r", start + begin, tuple(shape))

"""Token files, memory-mapped: a text file as its bytes, or an array of ids that a tokenizer wrote."""

import os
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxsci.core.errors import DataError
from jaxsci.core.files import disk_errors, open_atomic
from jaxsci.core.reading import existing, reason
from jaxsci.transformer.tokenizer import Tokenizer

SAMPLE = 1 << 16  # bytes looked at to tell text from anything else
MARKS = (b"\xff\xfe", b"\xfe\xff")  # byte-order marks of UTF-16 and UTF-32: their text holds zero bytes
TEXT = bytes({7, 8, 9, 10, 11, 12, 13, 27} | set(range(32, 256)))


class Split(NamedTuple):
    """The two parts of a corpus, in their order."""

    train: np.ndarray
    validation: np.ndarray


def packaged_text() -> Path:
    """Where tiny Shakespeare lies: a megabyte of plays, in the public domain."""
    return Path(str(resources.files("jaxsci.transformer") / "text" / "tinyshakespeare.txt"))


def open_text(path: str | Path) -> np.ndarray:
    """The bytes of a text file of any encoding, mapped, not read. Raises `DataError`."""
    path = Path(path)
    existing(path, "a text file", "data.path")
    with disk_errors("read", path):
        if path.stat().st_size == 0:
            raise DataError(f"data.path: {path} is empty; expected text")
        tokens = np.memmap(path, np.uint8, mode="r")
    head = tokens[:SAMPLE].tobytes()
    odd = len(head.translate(None, TEXT))
    zeros = (head[::2].count(0), head[1::2].count(0))
    # Latin text in UTF-16 without a mark has zeros in every other byte and nowhere else.
    wide = head.startswith(MARKS) or (min(zeros) == 0 and max(zeros) > 0.4 * len(head) / 2)
    if odd > 0.01 * len(head) and not wide:
        raise DataError(f"data.path: {path} looks binary ({odd} control bytes in {len(head)}); expected text")
    return tokens


def encode_file(path: str | Path, tokenizer: Tokenizer, into: str | Path) -> np.ndarray:
    """Ids of a text file, written once to the array file `into` and mapped from there.

    Raises `DataError` for a text that is none and for a damaged `into`, `JaxsciError` when the disk refuses.
    """
    into = Path(into)
    if not os.path.lexists(into):
        text = open_text(path).tobytes().decode("utf-8", errors="replace")
        with open_atomic(into) as file:
            np.save(file, tokenizer.encode(text), allow_pickle=False)
    try:
        ids = np.load(existing(into, "ids"), mmap_mode="r", allow_pickle=False)
        if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind != "u":
            raise ValueError("it holds no list of ids")
    except Exception as error:  # numpy, ValueError, EOFError and OSError all mean the same to the user
        raise DataError(f"{into}: damaged ({reason(error)}); remove it to encode the text anew") from None
    return ids


def split(tokens: np.ndarray, sequence: int, train: float = 0.9) -> Split:
    """The first share `train` for training, the rest for validation; each must hold one sequence and its
    target.
    """
    cut = int(train * len(tokens))
    parts = Split(tokens[:cut], tokens[cut:])
    for name, part in zip(Split._fields, parts, strict=True):
        if len(part) < sequence + 1:
            raise DataError(
                f"data.path: the {name} part has {len(part)} tokens, a sequence of {sequence} needs "
                f"{sequence + 1}; give a longer text or a smaller model.sequence"
            )
    return parts

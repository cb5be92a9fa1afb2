"""A format: how to write a sound file of it, its loader, and what can be broken in it beside its bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from damage import Damage
from hypothesis import strategies as st

Damages = Callable[[bytes], st.SearchStrategy[Damage]]


class Format(NamedTuple):
    """`write` makes the sound `file`, and whatever it needs beside it; `damages` take its content; `cases` are made."""

    file: str
    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    damages: tuple[Damages, ...] = ()
    cases: int = 300


def holding(content: Callable[[], bytes]) -> Callable[[Path], object]:
    """Writes what `content` gives."""
    return lambda path: path.write_bytes(content())

"""What fills a device when the program needs most memory, read from the compiler's own account of it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

PEAK = re.compile(r"^\s*Live ranges at \d+ \(peak\):$")
LIVE = re.compile(r"^\s*(%?[\w.\-]+)\{([\d,]*)\}: (\d+) bytes")
DEFINED = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*?) [\w\-]+\(", re.M)
SOURCE = re.compile(r'op_name="([^"]*)"')
ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")

Kind = tuple[str, tuple[int, ...]]  # type, sizes in increasing order without the ones: layouts permute the rest


class Buffer(NamedTuple):
    """One array alive at the peak: its name in the program, type and sizes, bytes, and what it is."""

    name: str
    shape: str
    bytes: int
    what: str


def kind(dtype: str, shape: tuple[int, ...]) -> Kind:
    """By what an array is recognised after the compiler has transposed and reshaped it."""
    return dtype, tuple(sorted(n for n in shape if n > 1))


def largest(folder: Path, program: str, known: Mapping[Kind, str], count: int = 20) -> tuple[Buffer, ...]:
    """The `count` largest arrays at the peak, from the dump of a compilation; empty if the dump holds no account.

    `program` is the optimised HLO text; `known` names arrays by their `kind`, the others are named by the operation
    that made them.
    """
    accounts = sorted(folder.glob("*after_optimizations-live-range.txt"), key=lambda path: path.stat().st_size)
    if not accounts:
        return ()
    alive: dict[tuple[str, str], int] = {}
    lines = iter(accounts[-1].read_text(encoding="utf-8", errors="replace").splitlines())
    for line in lines:
        if PEAK.match(line):
            break
    for line in lines:
        found = LIVE.match(line)
        if found:
            alive[found[1].lstrip("%"), found[2]] = int(found[3])
        elif alive:
            break
    top = sorted(alive.items(), key=lambda item: -item[1])[:count]
    wanted = {name for (name, _), _ in top}
    lines_of = {m[1]: (m[2], m.start()) for m in DEFINED.finditer(program) if m[1] in wanted}
    return tuple(_describe(name, place, size, program, lines_of, known) for (name, place), size in top)


def _describe(name, place, size, program, lines_of, known) -> Buffer:
    if name not in lines_of:
        return Buffer(name, "", size, "")
    result, start = lines_of[name]
    arrays = ARRAY.findall(result)
    index = int(place.split(",")[-1]) if place else 0
    dtype, sizes = arrays[index] if index < len(arrays) else arrays[0]
    source = SOURCE.search(program, start, program.find("\n", start + 1))
    made = "/".join(source[1].split("/")[-2:]) if source else ""
    what = known.get(kind(dtype, tuple(int(n) for n in sizes.split(",") if n)), made)
    return Buffer(name, f"{dtype}[{sizes}]", size, what)

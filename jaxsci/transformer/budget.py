"""Which collectives a compiled step runs, how often, and how many bytes: read from the program, not from
intentions.

The text of the optimised program is walked from its entry through loops (with their known trip counts), calls
and fusions. A compiler that moves a weight gather into a loop, or a gradient reduction out of one, shows up
here.
"""

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8, "s64": 8, "u64": 8}
KINDS = ("all-gather", "reduce-scatter", "all-reduce", "collective-permute", "all-to-all")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\([^\n]*\) -> [^\n]*)?\{", re.M)
COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
CALLED = re.compile(r"(?:to_apply|calls|body|true_computation|false_computation)=%?([\w.\-]+)")
FINISHED = re.compile(r" async-(done|update)\(")  # names the computation again that async-start runs
BODY = re.compile(r"body=%?([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One collective of the program: `loops` are the trip counts around it, outermost first; `bytes` of the
    whole array per call; `group` are the positions in the mesh of the first devices that take part together (of a
    permute: the first sender and its receiver).
    """

    kind: str
    bytes: int
    loops: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    group: tuple[int, ...] = ()

    @property
    def calls(self) -> int:
        return math.prod(self.loops)

    @property
    def moved(self) -> float:
        """Bytes that one device sends per step around a ring: (n - 1)/n of the array for n devices, twice that for
        an all-reduce, all of it for a permute."""
        if self.kind == "collective-permute":
            return float(self.bytes * self.calls)
        ring = (len(self.group) - 1) / max(len(self.group), 1) * (2 if self.kind == "all-reduce" else 1)
        return ring * self.bytes * self.calls

    def axes(self, mesh: Mapping[str, int]) -> tuple[str, ...]:
        """The axes along which its devices differ, for a mesh of these sizes, first axis outermost."""
        places = np.unravel_index(np.array(self.group, int), tuple(mesh.values()))
        return tuple(axis for axis, where in zip(mesh, places, strict=True) if len(set(where.tolist())) > 1)


def collectives(program: str) -> list[Collective]:
    """All collectives of an optimised HLO text (`compiled.as_text()`), in program order."""
    bodies, entry = _computations(program)
    found: list[Collective] = []

    def walk(name: str, loops: tuple[int, ...]) -> None:
        for line in bodies.get(name, ()):
            if FINISHED.search(line):
                continue
            match = COLLECTIVE.search(line)
            if match:
                found.append(_collective(match, line, loops))
            if " while(" in line:
                trips = TRIPS.search(line)
                body = BODY.search(line)
                walk(body[1] if body else "", (*loops, int(trips[1]) if trips else 1))
                continue
            for branches in BRANCHES.findall(line):
                for branch in branches.split(","):
                    walk(branch.strip().lstrip("%"), loops)
            for called in () if match else CALLED.findall(line):
                walk(called, loops)

    walk(entry, ())
    return found


def summary(found: list[Collective]) -> dict[tuple[int, ...], dict[str, int]]:
    """Number of collectives of each kind per nest of loops: `{(9, 4): {"all-gather": 2, ...}, (): {...}}`."""
    table: dict[tuple[int, ...], dict[str, int]] = {}
    for item in found:
        row = table.setdefault(item.loops, {})
        row[item.kind] = row.get(item.kind, 0) + 1
    return table


def _computations(program: str) -> tuple[dict[str, list[str]], str]:
    bodies, entry, current = {}, "", ""
    for line in program.splitlines():
        start = COMPUTATION.match(line)
        if start:
            current = start[2]
            bodies[current] = []
            entry = current if start[1] else entry
        elif current:
            bodies[current].append(line)
    return bodies, entry


def _collective(match: re.Match, line: str, loops: tuple[int, ...]) -> Collective:
    arrays = [(kind, tuple(map(int, filter(None, shape.split(","))))) for kind, shape in ARRAY.findall(match[1])]
    # A started collective returns (operands, results, counters); an all-reduce may return its results alone.
    if match[3] and (match[2] != "all-reduce" or match[1].startswith("((")):
        arrays = [array for array in arrays if array[1] or array[0] not in ("u32", "s32")]
        arrays = arrays[len(arrays) // 2 :]
    size = sum(WIDTHS.get(kind, 4) * math.prod(shape) for kind, shape in arrays)
    group = _group(line)
    return Collective(
        match[2],
        size * (len(group) if match[2] == "reduce-scatter" else 1),
        loops,
        tuple(shape for _, shape in arrays),
        group,
    )


def _group(line: str) -> tuple[int, ...]:
    """The first group of devices, from any spelling: {{0,1},{2,3}}, [2,2]<=[4], [2,2]<=[2,2]T(1,0) or
    mesh['data'=2,'tensor'=2] {'tensor'}.
    """
    listed = re.search(r"(?:replica_groups|source_target_pairs)=\{\{([\d,]+)\}", line)
    if listed:
        return tuple(map(int, listed[1].split(",")))
    named = re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", line)
    if named:
        axes = {axis: int(size) for axis, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
        among = re.findall(r"'(\w+)'", named[2])
        places = np.arange(math.prod(axes.values())).reshape(tuple(axes.values()))
        return tuple(places[tuple(slice(None) if axis in among else 0 for axis in axes)].reshape(-1).tolist())
    tiled = re.search(r"replica_groups=\[\d+,(\d+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", line)
    if not tiled:
        return (0,)
    shape = tuple(map(int, tiled[2].split(",")))
    order = tuple(map(int, tiled[3].split(","))) if tiled[3] else tuple(range(len(shape)))
    places = np.arange(math.prod(shape)).reshape(shape).transpose(order).reshape(-1)
    return tuple(places[: int(tiled[1])].tolist())

"""Which collectives a compiled step runs, how often, and how many bytes: read from the program, not from
intentions.

The text of the optimised program is walked from its entry through loops (with their known trip counts), calls
and fusions. A compiler that moves a weight gather into a loop, or a gradient reduction out of one, shows up
here.
"""

import math
import re
from typing import NamedTuple

WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8, "s64": 8, "u64": 8}
KINDS = ("all-gather", "reduce-scatter", "all-reduce", "collective-permute", "all-to-all")
COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\([^\n]*\) -> [^\n]*)?\{", re.M)
COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
CALLED = re.compile(r"(?:to_apply|calls|body|true_computation|false_computation)=%?([\w.\-]+)")
BODY = re.compile(r"body=%?([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One collective of the program: `loops` are the trip counts around it, outermost first; `bytes` of the
    whole array per call (of which a ring moves (n - 1)/n for n devices, twice that for an all-reduce)."""

    kind: str
    bytes: int
    loops: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def calls(self) -> int:
        return math.prod(self.loops)


def collectives(program: str) -> list[Collective]:
    """All collectives of an optimised HLO text (`compiled.as_text()`), in program order."""
    bodies, entry = _computations(program)
    found: list[Collective] = []

    def walk(name: str, loops: tuple[int, ...]) -> None:
        for line in bodies.get(name, ()):
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
    if match[3]:  # a started collective returns (operands, results, ...)
        arrays = arrays[len(arrays) // 2 :] if match[2] != "all-reduce" else arrays
        arrays = arrays[:1] if match[2] == "collective-permute" else arrays
    size = sum(WIDTHS.get(kind, 4) * math.prod(shape) for kind, shape in arrays)
    return Collective(
        match[2],
        size * (_group(line) if match[2] == "reduce-scatter" else 1),
        loops,
        tuple(shape for _, shape in arrays),
    )


def _group(line: str) -> int:
    """Devices per group, from either spelling: {{0,1},{2,3}} or [2,2]<=[4]."""
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", line)
    if listed:
        return listed[1].count(",") + 1
    tiled = re.search(r"replica_groups=\[\d+,(\d+)\]", line)
    return int(tiled[1]) if tiled else 1

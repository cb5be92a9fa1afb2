"""What a traced or lowered program holds: FLOPs of its matrix products, operations by name, bytes sent by axis."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax

from jaxsci.transformer.budget import Collective

OPERATION = re.compile(r"\bstablehlo\.([a-z_]+)")
COLLECTIVES = ("all_gather", "all_reduce", "all_to_all", "collective_permute", "reduce_scatter")


class Traffic(NamedTuple):
    """What one device sends per step along these mesh axes: calls of one kind of collective, and their bytes."""

    axes: tuple[str, ...]
    kind: str
    calls: int
    bytes: float


def matmul_flops(jaxpr: Any) -> int:
    """FLOPs of all matrix products (a multiply-add counts 2), loops counted as often as they run.

    Inside `shard_map` shapes are one device's, so for a train step this is per device. Raises nothing for a loop of
    unknown length: a `while` is counted once, and the step has none.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * math.prod(left[d] for d in contracted)
        times = equation.params["length"] if equation.primitive.name == "scan" else 1
        total += times * sum(matmul_flops(inner) for inner in _inner(equation.params))
    return total


def _inner(params: Mapping[str, Any]) -> Iterator[Any]:
    for leaf in jax.tree.leaves(list(params.values()), is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
        if hasattr(getattr(leaf, "jaxpr", leaf), "eqns"):
            yield leaf


def traffic(found: Iterable[Collective], mesh: Mapping[str, int]) -> list[Traffic]:
    """Bytes that a device sends per step, by the axes they cross and the kind of collective, largest first."""
    sums: dict[tuple[tuple[str, ...], str], tuple[int, float]] = {}
    for item in found:
        if item.moved:  # a group of one device sends nothing
            key = item.axes(mesh), item.kind
            calls, moved = sums.get(key, (0, 0.0))
            sums[key] = calls + item.calls, moved + item.moved
    return sorted((Traffic(*key, *value) for key, value in sums.items()), key=lambda t: -t.bytes)


def operations(module: str) -> dict[str, int]:
    """How often each operation stands in a StableHLO text, most frequent first. A loop's body stands there once."""
    return dict(Counter(OPERATION.findall(module)).most_common())

"""The cell as a directed acyclic graph: nodes in order, an edge from every node to every later one."""

import numpy as np
from jaxtyping import Int


def all_edges(nodes: int, inputs: int = 1) -> tuple[tuple[int, int], ...]:
    """Edges `(from, to)` into each node after the first `inputs`, ordered by target, then source.

    With one input and 4 nodes these are the six edges of NAS-Bench-201, with two inputs and 6 nodes the 14 of DARTS.
    """
    return tuple((source, target) for target in range(inputs, nodes) for source in range(target))


def edge_names(edges: tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """Names of edges, as `0→1`."""
    return tuple(f"{source}→{target}" for source, target in edges)


def reaches(
    choice: Int[np.ndarray, " edges"], edges: tuple[tuple[int, int], ...], none: int, outputs: tuple[int, ...]
) -> bool:
    """Whether any of the `outputs` can be reached from an input node (one without incoming edges) over edges whose
    operation is not `none`.
    """
    targets = {target for _, target in edges}
    reached = {node for edge in edges for node in edge} - targets
    for operation, (source, target) in zip(choice, edges, strict=True):  # sources come before their targets
        if operation != none and source in reached:
            reached.add(target)
    return bool(reached & set(outputs))

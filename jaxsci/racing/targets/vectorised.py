"""Many runs in one compiled call: grouped by what needs a program of its own, padded to a power of two, over devices.

`vmap` over a branch computes both sides, so runs are grouped by the categorical choices that change the program and by
the size class of their instance. Group sizes are padded to powers of two, hence a handful of compilations however few
configurations survive.
"""

from collections.abc import Callable, Hashable, Sequence

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Integer, Key, PyTree, Shaped

from jaxsci.racing.targets.protocol import Job, Outcome

LARGEST = 128
"""Runs in one call; more are split. Larger batches leave the caches of a CPU core and are no faster."""

Solve = Callable[[Hashable, Sequence[Job], int], Float[np.ndarray, " jobs"]]


def in_groups(jobs: Sequence[Job], group_of: Callable[[Job], Hashable], solve: Solve, least: int = 8) -> list[Outcome]:
    """`solve(group, jobs, padded)` for the jobs of each group; outcomes in the order of `jobs`.

    `padded` is the number of lanes to compute, a power of two, at least `least` and the number of jobs.
    """
    places: dict[Hashable, list[int]] = {}
    for place, job in enumerate(jobs):
        places.setdefault(group_of(job), []).append(place)
    costs = np.empty(len(jobs))
    for group, members in places.items():
        for start in range(0, len(members), LARGEST):
            part = members[start : start + LARGEST]
            costs[part] = solve(group, [jobs[i] for i in part], lanes(len(part), least))
    return [
        Outcome(float(c)) if np.isfinite(c) else Outcome(float("inf"), message=f"the target returned {c}")
        for c in costs
    ]


def lanes(count: int, least: int = 8) -> int:
    """The power of two that holds `count` runs and divides among the devices."""
    return max(least, 1 << (count - 1).bit_length(), 1 << (jax.device_count() - 1).bit_length())


def padded(
    values: Sequence[bool | int | float] | np.ndarray, count: int, dtype: object = None
) -> Shaped[np.ndarray, "count ..."]:
    """Lanes beyond the values repeat the first."""
    array = np.asarray(values, dtype)  # type: ignore[call-overload]
    return np.concatenate([array, np.repeat(array[:1], count - len(array), axis=0)])


def keys(seeds: Integer[np.ndarray, " count"]) -> Key[Array, " count"]:
    """A key for each run that depends on its seed alone: common random numbers within a block."""
    return jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))


def spread(batch: PyTree) -> PyTree:
    """Leading axes over all devices of this process, if there are several."""
    devices = jax.local_devices()
    if len(devices) == 1:
        return batch
    mesh = Mesh(np.array(devices), ("member",))
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec("member")))

"""Many runs in one compiled call: grouped by what needs a program of its own, padded to few sizes, over devices.

`vmap` over a branch computes both sides, so runs are grouped by the categorical choices that change the program and by
the size class of their instance. Group sizes are padded to powers of two and three times such, hence a handful of
compilations however few configurations survive.
"""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from zlib import crc32

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Integer, Key, PyTree, Shaped

from jaxsci.racing.targets.protocol import Job, Outcome

LARGEST = 128
"""Runs in one call; more are split. Larger batches leave the caches of a CPU core and are no faster."""
SMALLEST_SHARE = 16
"""Runs a device must get of a group that is split: a step of fewer takes as long as one of so many."""

Solve = Callable[[Hashable, Sequence[Job], int, Sequence[Any]], Float[np.ndarray, " jobs"]]


def in_groups(jobs: Sequence[Job], group_of: Callable[[Job], Hashable], solve: Solve, least: int = 8) -> list[Outcome]:
    """Costs of `jobs`, in their order, by `solve(group, jobs, lanes, devices)` for the jobs of each group.

    `lanes` is how many runs to compute, at least `least` and the number of jobs. Large groups go over all devices, each
    of the small ones to a device that is always the same for it, as a program is compiled for its devices. As many
    groups as there are devices are solved at a time.
    """
    places: dict[Hashable, list[int]] = {}
    for place, job in enumerate(jobs):
        places.setdefault(group_of(job), []).append(place)
    parts = [
        (group, members[first : first + LARGEST])
        for group, members in places.items()
        for first in range(0, len(members), LARGEST)
    ]
    devices, costs = jax.local_devices(), np.empty(len(jobs))
    with ThreadPoolExecutor(len(devices)) as pool:
        begun = []
        for group, part in sorted(parts, key=lambda one: -len(one[1])):
            count = lanes(len(part), least)
            own = devices[crc32(repr(group).encode()) % len(devices)]
            chosen = [own] if count < SMALLEST_SHARE * len(devices) else devices
            begun.append((part, pool.submit(solve, group, [jobs[i] for i in part], count, chosen)))
        for part, solved in begun:
            costs[part] = solved.result()
    return [
        Outcome(float(c)) if np.isfinite(c) else Outcome(float("inf"), message=f"the target returned {c}")
        for c in costs
    ]


def lanes(count: int, least: int = 8) -> int:
    """The power of two, or three times one, that holds `count` runs and divides among the devices."""
    whole = 1 << (count - 1).bit_length()
    devices = 1 << (jax.local_device_count() - 1).bit_length()
    smaller = 3 * whole // 4
    fits = smaller >= count and smaller % devices == 0
    return max(smaller if fits else whole, least, devices)


def padded(
    values: Sequence[bool | int | float] | np.ndarray, count: int, dtype: object = None
) -> Shaped[np.ndarray, "count ..."]:
    """Lanes beyond the values repeat the first."""
    array = np.asarray(values, dtype)  # type: ignore[call-overload]
    return np.concatenate([array, np.repeat(array[:1], count - len(array), axis=0)])


def keys(seeds: Integer[np.ndarray, " count"]) -> Key[Array, " count"]:
    """A key for each run that depends on its seed alone: common random numbers within a block."""
    return jax.vmap(jax.random.key)(np.asarray(seeds, np.uint32))


def spread(batch: PyTree, devices: Sequence[Any]) -> PyTree:
    """Leading axes over the devices."""
    if len(devices) == 1:
        return jax.device_put(batch, devices[0])
    mesh = Mesh(np.array(devices), ("member",))
    return jax.device_put(batch, NamedSharding(mesh, PartitionSpec("member")))

"""Disks behind write-back caches, and what they do to each other on one machine.

What a job stages in or writes is dirty memory first, which the disk takes at its own rate. Where the cache is full,
writers get the disk's rate between them and no more. Before a job ends, its data must be on the disk: it waits until
the disk has taken all that was dirty by then. A healthy disk is so much faster than anything writes to it that only
throttled ones are followed.

Workers of one machine share a physical disk and its journal, which commits in order what all of them have written: a
job beside a throttled worker can have to wait for data that are not its own.
"""

import math
from collections.abc import Sequence

import numpy as np

from jaxsci.workflows.testbed import TestbedConfig

STATED_AT = 10.0  # MB/s, the throttle at which `small_files` is stated
EPSILON = 1e-6  # MB


class Disks:
    """State of the disks of all workers. `throttled` workers write at `level` MB/s."""

    def __init__(self, config: TestbedConfig, throttled: Sequence[int], level: float):
        machine = np.arange(config.workers) % config.machines
        slow = np.zeros(config.workers, bool)
        slow[np.asarray(throttled, int)] = True
        share = (np.bincount(machine, slow) / np.bincount(machine))[machine]
        suffered = np.where(slow, 1.0, config.beside * share)
        longer = 1.0 + (config.small_files * STATED_AT / level) * suffered if slow.any() else np.ones(config.workers)
        self.throttled: list[bool] = slow.tolist()
        self.slow_work: list[float] = longer.tolist()
        self.level, self.cache = level, config.cache
        self.neighbours = [np.flatnonzero(slow & (machine == m)).tolist() for m in machine]
        self._dirty = [0.0] * config.workers
        self._inflow = [0.0] * config.workers
        self._stamp = [0.0] * config.workers

    def advance(self, now: float, worker: int) -> None:
        """Let data flow in and out of a throttled worker's cache until `now`."""
        change = (self._inflow[worker] - self.level) * (now - self._stamp[worker])
        self._dirty[worker] = min(max(self._dirty[worker] + change, 0.0), self.cache)
        self._stamp[worker] = now

    def full(self, worker: int) -> bool:
        return self._dirty[worker] >= self.cache - EPSILON

    def fill(self, now: float, worker: int, inflow: float) -> float:
        """From now on, `inflow` MB/s are written. Returns when the cache will be full, infinity if never."""
        self._inflow[worker] = inflow
        if inflow <= self.level or self.full(worker):
            return math.inf
        return now + (self.cache - self._dirty[worker]) / (inflow - self.level)

    def clean_at(self, now: float, worker: int, arriving: float = 0.0) -> float:
        """When all is on the disk that is dirty now, with `arriving` MB more."""
        self.advance(now, worker)
        return now + (self._dirty[worker] + arriving) / self.level

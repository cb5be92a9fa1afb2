"""Which micro-batch every pipeline stage works on, turn by turn."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from jaxsci.transformer.parallel import ParallelConfig, ticks

IDLE = -1


class Timeline(NamedTuple):
    """Micro-batch that goes forward and backward at each stage in each tick, or `IDLE`. 1F1B does both in one tick;
    GPipe runs all `forward` ticks, then all `backward` ticks.
    """

    forward: Int[np.ndarray, "stage tick"]
    backward: Int[np.ndarray, "stage tick"]
    together: bool


def timeline(plan: ParallelConfig, pipe: int) -> Timeline:
    """The schedule that `pipeline.py` runs: f = k - i and j = k - 2 (p - 1) + i in 1F1B; item k - i streamed."""
    stage, tick = np.arange(pipe)[:, None], np.arange(ticks(plan, pipe))[None, :]
    m, v = plan.microbatches, plan.virtual
    if pipe == 1 or plan.schedule == "1f1b":
        return Timeline(_valid(tick - stage, m), _valid(tick - 2 * (pipe - 1) + stage, m), True)
    item = _valid(tick - stage, v * m)
    micro = np.where(item == IDLE, IDLE, item // (pipe * v) * pipe + item % pipe)
    return Timeline(micro, micro[:, ::-1], False)


def _valid(number: np.ndarray, count: int) -> np.ndarray:
    return np.where((number >= 0) & (number < count), number, IDLE)

"""Training and test runs. Jobs of one run never part: they share workers, disks and the weather of the day."""

import numpy as np
from jaxtyping import Float, Int

from jaxsci.core.config import require

TRAIN_SHARE = 0.7


def split_by_run(
    runs: int, seed: int, share: float = TRAIN_SHARE
) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "test"]]:
    """A random permutation of the runs, the first `int(share * runs)` of it for training."""
    order = np.random.default_rng(seed).permutation(runs)
    return _parts(order, share)


def split_by_time(
    start_epoch: Float[np.ndarray, "runs"], share: float = TRAIN_SHARE
) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "test"]]:
    """The earliest runs for training, the latest for testing."""
    return _parts(np.argsort(start_epoch, kind="stable"), share)


def _parts(order: Int[np.ndarray, "runs"], share: float) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "test"]]:
    cut = int(share * len(order))
    require(0 < cut < len(order), "runs", "enough for a training and a test part, 2 or more", len(order))
    return order[:cut], order[cut:]

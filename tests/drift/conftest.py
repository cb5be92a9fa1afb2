"""Data outside the package, for tests that want more of it; and what several tests need."""

import os
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the development data; skips where the environment does not name one."""
    folder = os.environ.get("JAXSCI_DATA")
    if not folder or not (Path(folder) / "changepoints").is_dir():
        pytest.skip("set JAXSCI_DATA to the folder that holds changepoints/ and io_performance/")
    return Path(folder)


@pytest.fixture
def step_series() -> np.ndarray:
    """Unit noise with a jump of ten standard deviations at index 50, shape (100, 1)."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal(100) + 10 * (np.arange(100) >= 50))[:, None]

"""Long work in named stages: each is computed once per run directory, and a run that was stopped goes on behind it."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np

from jaxsci.core.errors import CheckpointError, DataError
from jaxsci.core.files import disk_errors, write_atomic
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.reading import read_npz
from jaxsci.core.rundir import Run

Arrays = Mapping[str, np.ndarray]


class Stages:
    """Results of stages as npz files in the run's checkpoint directory, written whole or not at all."""

    def __init__(self, run: Run, interrupt: Interrupt):
        self._run = run
        self._interrupt = interrupt

    def get(self, name: str, compute: Callable[[], Arrays]) -> dict[str, np.ndarray]:
        """What `compute` returns, or returned in an earlier, interrupted run.

        Raises `KeyboardInterrupt` after the stage in which a signal came, `CheckpointError` for a damaged file.
        """
        file = self._run.checkpoint_directory / f"{name}.npz"
        if file.is_file():
            return read_stage(file)
        self.stop_if_asked()
        result = {key: np.asarray(value) for key, value in compute().items()}
        if self._run.main:
            buffer = BytesIO()
            np.savez(buffer, **result)  # type: ignore[arg-type]
            with disk_errors("create", file.parent):
                file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(file, buffer.getvalue())
        self.stop_if_asked()
        return result

    @property
    def asked(self) -> bool:
        """Whether a signal has asked to stop."""
        return self._interrupt.requested()

    def stop_if_asked(self) -> None:
        if self.asked:
            raise KeyboardInterrupt(
                f"interrupted; finished stages are kept; continue with resume={self._run.directory}"
            )


def read_stage(file: Path) -> dict[str, np.ndarray]:
    """What an earlier run wrote. Raises `CheckpointError` for a damaged file."""
    try:
        return read_npz(file)
    except DataError as error:
        raise CheckpointError(f"{file}: damaged ({error}); delete it and resume") from None

"""What a method's evaluation leaves behind, kept on disk so that an interrupted experiment goes on where it was."""

import io
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float

from experiments.stages import read_stage
from jaxsci.core.errors import CheckpointError
from jaxsci.core.files import write_atomic
from jaxsci.core.rundir import Run


class Truth(NamedTuple):
    """Of one seed: what there is to predict, and the bars."""

    pictures: Float[np.ndarray, "shown n n"]
    """Depth of the pictured test run at the pictured fields."""
    series: Float[np.ndarray, "times shown_modes"]
    """Coefficients of the pictured modes in that run."""
    floors: Float[np.ndarray, "sizes runs times"]
    energies: Float[np.ndarray, " sizes"]
    climatology: Float[np.ndarray, "runs times"]
    climatology_later: Float[np.ndarray, "later_runs later"]
    floor_later: Float[np.ndarray, "later_runs later"]
    generate_seconds: Float[np.ndarray, ""]


class Outcome(NamedTuple):
    """Of one method and seed."""

    errors: Float[np.ndarray, "runs times"]
    later: Float[np.ndarray, "later_runs later"]
    """Squared errors after the training horizon; empty where the method or the experiment has none."""
    growth: Float[np.ndarray, ""]
    """Largest departure from the mean field there, over the largest in training (root mean squares); NaN: none."""
    pictures: Float[np.ndarray, "shown n n"]
    series: Float[np.ndarray, "times shown_modes"]
    fit_seconds: Float[np.ndarray, ""]
    seconds_one: Float[np.ndarray, ""]
    """Per trajectory, alone and in a batch; compilation apart."""
    seconds_batch: Float[np.ndarray, ""]
    compile_seconds: Float[np.ndarray, ""]


class Doubt(NamedTuple):
    """Of one source of uncertainty: calibration on the test runs."""

    coverage_raw: Float[np.ndarray, ""]
    coverage_scaled: Float[np.ndarray, ""]
    spread_over_error: Float[np.ndarray, ""]
    factor: Float[np.ndarray, ""]


class Answers(NamedTuple):
    """To parameters asked for besides the test runs."""

    parameters: Float[np.ndarray, "asked parameters"]
    least: Float[np.ndarray, " asked"]
    """Least and greatest depth of the predicted run."""
    greatest: Float[np.ndarray, " asked"]
    outside: Bool[np.ndarray, " asked"]
    """Whether they lie outside the training range: the prediction is a guess then."""


Record = TypeVar("Record", Truth, Outcome, Doubt, Answers)


class Store:
    """One npz file a record in the run's `checkpoints`, written whole or not at all; the first one opens the run."""

    def __init__(self, run: Run):
        self.run = run

    def save(self, name: str, record: Truth | Outcome | Doubt | Answers) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **record._asdict())
        directory = self.run.checkpoint_directory
        directory.mkdir(exist_ok=True)
        write_atomic(directory / f"{name}.npz", buffer.getvalue())

    def load(self, name: str, kind: type[Record]) -> Record | None:
        """None where there is no such record. Raises `CheckpointError` for a file that is not one."""
        path = self.run.directory / "checkpoints" / f"{name}.npz"
        if not path.exists():
            return None
        content = read_stage(path)
        missing = [field for field in kind._fields if field not in content]
        if missing:
            raise CheckpointError(f"{path}: damaged, {missing[0]} is missing; delete it and resume")
        return kind(**{field: content[field] for field in kind._fields})

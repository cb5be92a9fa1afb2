"""The run directory: everything a run leaves behind, written by one process and by one run at a time.

    config.yaml  overrides.yaml  metrics.jsonl  metrics.csv  checkpoints/  figures/*.png  report.html
    summary.json

It comes into being with the first write, so a run refused for bad input leaves nothing.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from jaxtyping import ArrayLike

from jaxsci.core.environment import environment
from jaxsci.core.errors import CheckpointError, DataError, JaxsciError
from jaxsci.core.files import disk_errors, write_atomic
from jaxsci.core.lock import Lock
from jaxsci.core.reading import read_yaml
from jaxsci.core.report import Report
from jaxsci.core.summary import Summary, write_summary
from jaxsci.core.tracking import build_trackers, read_jsonl

if TYPE_CHECKING:  # matplotlib is slow to import, and a run without figures does not need it
    from matplotlib.figure import Figure


class Run:
    """A live run and its directory.

    `config` is the resolved configuration as plain dictionaries, lists and scalars; `overrides` are the
    command-line arguments that led to it. `trackers` names where metrics go (see `tracking.build_trackers`).
    With `main=False`, on every process but the first, each write is a no-op. With `resumed=True` the
    directory must hold a run, whose metrics are continued.

    Raises `CheckpointError` when there is nothing to resume, and `JaxsciError` when the disk refuses, when
    another live run uses the directory, or when a fresh run would mix its checkpoints with those of an
    earlier one.

        with Run("outputs/first", config) as run:
            run.log({"loss": 0.5}, step=1)
            run.finish(Summary("first", {"loss": 0.5}))
    """

    def __init__(
        self,
        directory: str | Path,
        config: Mapping[str, Any],
        overrides: Sequence[str] = (),
        *,
        trackers: Sequence[str] = ("jsonl", "csv"),
        main: bool = True,
        resumed: bool = False,
    ):
        self.directory = Path(directory)
        self.config = dict(config)
        self.overrides = tuple(overrides)
        self.main = main
        self.resumed = resumed
        if resumed:
            saved_config(self.directory)  # refuses a directory that holds no run
        self._trackers = build_trackers(trackers if main else (), self.directory, resumed=resumed)
        self._lock = Lock(self.directory / "run.lock")
        self._opened = False

    def log(self, metrics: Mapping[str, ArrayLike], step: int) -> None:
        """Record scalars at `step`. Arrays on a device are fetched in one transfer, on process 0 only."""
        if not self.main:
            return
        import jax

        if "step" in metrics:
            raise ValueError("a metric cannot be called 'step'; pass the step as log(metrics, step)")
        self._open()
        self._trackers.log(int(step), {name: float(value) for name, value in jax.device_get(dict(metrics)).items()})

    def logged(self) -> list[tuple[int, dict[str, float]]]:
        """Every step with what was recorded there, also before the run was resumed. Needs the tracker `jsonl`."""
        rows = read_jsonl(self.directory / "metrics.jsonl")
        return [(row.pop("step"), {n: v for n, v in row.items() if v is not None}) for row in rows]

    def figure(self, name: str, figure: "Figure") -> Path:
        """Write the figure to `figures/<name>.png` and return that path, ready for `Report.figure`."""
        path = self.directory / "figures" / f"{name}.png"
        if self.main:
            from jaxsci.core.figures import save

            self._open()
            with disk_errors("create", path.parent):
                path.parent.mkdir(exist_ok=True)
            save(figure, path)
        return path

    def picture(self, name: str, source: Path) -> Path:
        """Take the PNG file `source` of another run into `figures/<name>.png`, as `figure` does with a drawing."""
        path = self.directory / "figures" / f"{name}.png"
        if self.main:
            self._open()
            with disk_errors("copy", source):
                path.parent.mkdir(exist_ok=True)
                write_atomic(path, source.read_bytes())
        return path

    def path(self, name: str) -> Path:
        """Where a file of the experiment's own belongs. Asking counts as a write: the directory is there
        afterwards.

        Only process 0 (`run.main`) should write to it.
        """
        if self.main:
            self._open()
        return self.directory / name

    @property
    def checkpoint_directory(self) -> Path:
        """Where checkpoints belong. Asking counts as a write, so that they never lie beside no config."""
        return self.path("checkpoints")

    def finish(self, summary: Summary, report: Report | None = None) -> Summary:
        """Write `report.html`, then `summary.json`, whose presence says that the run is complete; then close.

        Returns the summary with its environment filled in.
        """
        finished = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        summary = replace(summary, environment={**environment(), "finished": finished, **summary.environment})
        if self.main:
            self._open()
            if report is not None:
                page = report.html(summary, config=self.config, overrides=self.overrides)
                write_atomic(self.directory / "report.html", page)
            write_summary(summary, self.directory / "summary.json")
        self.close()
        return summary

    def close(self) -> None:
        """Flush the trackers and let go of the directory; `finish` and leaving a `with` block do it too."""
        self._trackers.close()
        self._lock.release()
        self._opened = False

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _open(self) -> None:
        if self._opened:
            return
        with disk_errors("create run directory", self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
        self._lock.acquire()
        try:
            self._refuse_mixed_checkpoints()
            for name in ("summary.json", "report.html"):  # an earlier result must not pass for this run's
                with disk_errors("replace", self.directory / name):
                    (self.directory / name).unlink(missing_ok=True)
            write_atomic(self.directory / "config.yaml", _yaml(self.config))
            write_atomic(self.directory / "overrides.yaml", _yaml(list(self.overrides)))
        except BaseException:
            self._lock.release()
            raise
        self._opened = True

    def _refuse_mixed_checkpoints(self) -> None:
        checkpoints = self.directory / "checkpoints"
        if not self.resumed and checkpoints.is_dir() and any(checkpoints.iterdir()):
            raise JaxsciError(
                f"{self.directory} holds the checkpoints of an earlier run; "
                f"continue it with resume={self.directory} or choose another directory"
            )


def saved_config(directory: str | Path) -> dict[str, Any]:
    """The configuration of the run in `directory`. Raises `CheckpointError` when none can be read there."""
    path = Path(directory) / "config.yaml"
    if not os.path.isfile(path):
        raise CheckpointError(f"no run to resume in {directory}: expected a config.yaml there")
    try:
        config = read_yaml(path, "the configuration of a run")
    except DataError as error:
        raise CheckpointError(str(error)) from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{path}: expected the configuration of a run, got something else")
    return config


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)

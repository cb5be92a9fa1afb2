"""A `jax.profiler` trace of a window of training steps."""

from dataclasses import dataclass
from pathlib import Path

import jax
from jaxtyping import PyTree

from jaxsci.core.config import require


@dataclass(frozen=True)
class ProfileConfig:
    """Trace steps `start` (included) to `stop` (excluded); `start=None` traces nothing.

    Leave the first dispatch out: it pays for warming up. Good values: start 10, stop 20.
    """

    start: int | None = None
    stop: int | None = None

    def __post_init__(self):
        if self.start is None:
            require(self.stop is None, "stop", "null while start is null", self.stop)
        else:
            require(self.start >= 0, "start", "0 or more", self.start)
            require(
                self.stop is not None and self.stop > self.start,
                "stop",
                f"above start={self.start}",
                self.stop,
            )


class ProfileWindow:
    """Starts and ends the trace as `at(step)` passes the window; both fall on dispatch boundaries.

    The trace lies below `directory`, for TensorBoard's or Perfetto's viewer. Traces once, also if steps are
    repeated.
    """

    def __init__(self, config: ProfileConfig, directory: str | Path):
        self._start, self._stop, self._directory = config.start, config.stop, Path(directory)
        self._tracing = False

    def at(self, step: int, state: PyTree) -> None:
        """Tell the window that `step` updates have been dispatched, the last of which produces `state`."""
        if self._tracing and self._stop is not None and step >= self._stop:
            jax.block_until_ready(state)  # the steps inside the window are to be finished inside the trace
            self.close()
        elif not self._tracing and self._start is not None and step >= self._start:
            jax.block_until_ready(state)  # and those before it, before the trace
            self._directory.mkdir(parents=True, exist_ok=True)
            jax.profiler.start_trace(self._directory)
            self._tracing = True

    def close(self) -> None:
        """End the trace if one is open."""
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing, self._start = False, None

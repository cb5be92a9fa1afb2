"""Two watches over a training: losses that jump, and dispatches that take too long.

Both compare with the median of what came before, which a few outliers do not move.
"""

from collections import deque
from dataclasses import dataclass
from statistics import median

from jaxsci.core.config import positive, require

LEAST = 8  # values before a median is trusted


@dataclass(frozen=True)
class HealthConfig:
    """What counts as ill; `None` turns a watch off.

    - `spike_factor`: a loss above this many running medians is a spike. Good values: 1.5 to 3 for losses in nats.
    - `slow_factor`: a dispatch that takes longer than this many running medians is slow. Good values: 2 to 5.
    - `window`: recent values in a median: steps for losses, dispatches for times.
    """

    spike_factor: float | None = None
    slow_factor: float | None = 3.0
    window: int = 100

    def __post_init__(self):
        for name in ("spike_factor", "slow_factor"):
            factor = getattr(self, name)
            require(factor is None or factor > 1, name, "above 1, or null", factor)
        positive(self, "window")
        require(self.window >= LEAST, "window", f"{LEAST} or more", self.window)


class SpikeWatch:
    """Tells a loss that jumped from the running median of those before it.

    The median must be positive, as cross-entropies and squared errors are; below that nothing is a spike.
    """

    def __init__(self, config: HealthConfig):
        self._factor = config.spike_factor
        self._recent: deque[float] = deque(maxlen=config.window)

    def spiked(self, loss: float) -> bool:
        """Whether this loss is a spike; if not, it counts for those to come."""
        if self._factor is not None and len(self._recent) >= LEAST and loss > self._factor * self.median > 0:
            return True
        self._recent.append(loss)
        return False

    @property
    def median(self) -> float:
        return median(self._recent)


class SlowWatch:
    """Times dispatches, counts those far above the running median per step, and remembers the worst."""

    def __init__(self, config: HealthConfig):
        self.on = config.slow_factor is not None
        self.count = 0
        self.note: str | None = None
        self.latest = 0.0
        """Seconds per step of the dispatch that ended last."""
        self._factor = config.slow_factor or 0.0
        self._recent: deque[float] = deque(maxlen=config.window)
        self._worst = 0.0
        self._completed = float("-inf")

    def completed(self, last_step: int, length: int, launched: float, now: float) -> None:
        """A dispatch of `length` steps, asked for at `launched` and ending `last_step`, is done `now` (seconds).

        Call it in the order of the dispatches. One that queued behind another is timed from the other's end.
        """
        seconds = (now - max(launched, self._completed)) / length
        self._completed, self.latest = now, seconds
        if not self.on:
            return
        usual = median(self._recent) if len(self._recent) >= LEAST else float("inf")
        if seconds > self._factor * usual:
            self.count += 1
            if seconds / usual > self._worst:
                self._worst = seconds / usual
                self.note = (
                    f"the dispatch that ended near step {last_step} took {seconds:.3g} s per step, {self._worst:.3g} x "
                    "the median; look for a busy host, slow data or a slow device"
                )
        self._recent.append(seconds)  # slow ones too: what stays slow becomes the usual

"""How far along: a bar on a terminal, a plain line now and then in a log file, nothing on other processes.

    with progress(1000, "training") as bar:
        for step in range(1000):
            ...
            bar.update(1, loss=loss)

Values shown must be at hand on the host: fetching one from a device each step would stall the device.
"""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from jaxsci.core.distributed import is_main

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

Shown = float | str
SECONDS_BETWEEN_LINES = 10.0


class Progress(Protocol):
    """What `progress` hands to the body of its `with` block."""

    def update(self, n: int = 1, **shown: Shown) -> None:
        """`n` more are done; `shown` are values to display beside the count, by name."""
        ...


@contextmanager
def progress(total: int, label: str, *, start: int = 0) -> Iterator[Progress]:
    """Show on stderr how many of `total` are done, at what rate, and how long the rest will take.

    `start` counts what an earlier, resumed run had done already. Only process 0 shows anything.
    """
    if not is_main():
        yield _Silent()
    elif _fits_a_bar(sys.stderr):
        with _display() as display:
            yield _Bar(display, label, total, start)
    else:
        lines = _Lines(total, label, start, sys.stderr)
        try:
            yield lines
        finally:
            lines.end()


class _Silent:
    def update(self, n: int = 1, **shown: Shown) -> None:
        pass


class _Lines:
    """A line at the start, one about every ten seconds, and one at the end, whatever ends it."""

    def __init__(self, total: int, label: str, start: int, stream: TextIO):
        self._total, self._label, self._stream = total, label, stream
        self._start = self._done = start
        self._shown: dict[str, Shown] = {}
        self._began = self._last = time.monotonic()
        self._say(f"{label}: {start}/{total}")

    def update(self, n: int = 1, **shown: Shown) -> None:
        self._done += n
        self._shown = shown or self._shown
        now = time.monotonic()
        if now - self._last >= SECONDS_BETWEEN_LINES and self._done < self._total:
            self._last = now
            rate = (self._done - self._start) / (now - self._began)
            left = f", {_clock((self._total - self._done) / rate)} left" if rate > 0 else ""
            share = f" ({100 * self._done / self._total:.0f} %)"
            self._say(f"{self._count()}{share}, {_rate(rate)}{left}{_values(self._shown)}")

    def end(self) -> None:
        seconds = max(time.monotonic() - self._began, 1e-9)
        word = "done in" if self._done >= self._total else "stopped after"
        rate = _rate((self._done - self._start) / seconds)
        self._say(f"{self._count()}, {word} {_clock(seconds)}, {rate}{_values(self._shown)}")

    def _count(self) -> str:
        return f"{self._label}: {self._done}/{self._total}"

    def _say(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()


class _Bar:
    """Moves one task of a rich display."""

    def __init__(self, display: "RichProgress", label: str, total: int, start: int):
        self._display = display
        self._task = display.add_task(label, total=total, completed=start, rate="", values="")
        self._gained = 0
        self._values = ""
        self._began = time.monotonic()

    def update(self, n: int = 1, **shown: Shown) -> None:
        self._gained += n
        rate = _rate(self._gained / max(time.monotonic() - self._began, 1e-9))
        self._values = _values(shown) or self._values
        self._display.update(self._task, advance=n, rate=rate, values=self._values)


def _display() -> "RichProgress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        TextColumn("{task.fields[rate]}{task.fields[values]}", style="dim"),
        console=Console(file=sys.stderr),
    )


def _fits_a_bar(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb")


def _rate(per_second: float) -> str:
    return f"{per_second:.3g}/s" if per_second < 1000 else f"{per_second:,.0f}/s"


def _clock(seconds: float) -> str:
    """`9 s`, `4:05`, `1:02:03`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _values(shown: dict[str, Shown]) -> str:
    pairs = ((name, value if isinstance(value, str) else f"{value:.4g}") for name, value in shown.items())
    return "".join(f", {name} {text}" for name, text in pairs)

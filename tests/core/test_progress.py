"""A bar on a terminal, plain lines elsewhere, nothing beside process 0."""

import io

import pytest

from jaxsci.core import progress as module
from jaxsci.core.progress import progress


class Clock:
    """Stands in for the `time` module, so that ten seconds pass at once."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_log_gets_a_line_at_the_start_every_ten_seconds_and_at_the_end(clock, capsys):
    with progress(100, "training") as bar:
        for step in range(100):
            clock.now += 0.25
            bar.update(1, loss=1.0 / (step + 1))
    assert capsys.readouterr().err.splitlines() == [
        "training: 0/100",
        "training: 40/100 (40 %), 4/s, 15 s left, loss 0.025",
        "training: 80/100 (80 %), 4/s, 5 s left, loss 0.0125",
        "training: 100/100, done in 25 s, 4/s, loss 0.01",
    ]


def test_a_fast_loop_gets_two_lines(clock, capsys):
    with progress(100_000, "steps") as bar:
        for _ in range(100_000):
            bar.update()
        clock.now += 0.5
    assert capsys.readouterr().err.splitlines() == [
        "steps: 0/100000",
        "steps: 100000/100000, done in 0 s, 200,000/s",
    ]


def test_a_resumed_loop_counts_on_and_rates_only_its_own_steps(clock, capsys):
    with progress(100, "training", start=60) as bar:
        clock.now += 20
        bar.update(20)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 60/100"
    assert lines[1] == "training: 80/100 (80 %), 1/s, 20 s left"


def test_an_error_is_told_from_the_end(clock, capsys):
    with pytest.raises(RuntimeError), progress(10, "training") as bar:
        clock.now += 2
        bar.update(4, state="well")
        raise RuntimeError
    assert capsys.readouterr().err.splitlines()[-1] == "training: 4/10, stopped after 2 s, 2/s, state well"


@pytest.mark.parametrize(("seconds", "text"), [(3700, "1:01:40"), (75, "1:15"), (59.4, "59 s")])
def test_long_times_are_clock_times(clock, capsys, seconds, text):
    with progress(1, "x") as bar:
        clock.now += seconds
        bar.update()
    assert f"done in {text}" in capsys.readouterr().err


def test_nothing_to_do_is_done(clock, capsys):
    with progress(0, "training"):
        pass
    assert capsys.readouterr().err.splitlines()[-1].startswith("training: 0/0, done in 0 s")


def test_a_terminal_gets_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(module.sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    with progress(3, "training") as bar:
        for step in range(3):
            bar.update(1, loss=0.5 * step)
    shown = terminal.getvalue()
    assert "training" in shown and "3/3" in shown and "loss 1" in shown and "━" in shown


def test_a_dumb_terminal_gets_lines(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(module.sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with progress(1, "training") as bar:
        bar.update()
    assert terminal.getvalue().startswith("training: 0/1\n")
    assert "\x1b" not in terminal.getvalue()


def test_other_processes_are_silent(monkeypatch, capsys):
    monkeypatch.setattr(module, "is_main", lambda: False)
    with progress(3, "training") as bar:
        bar.update(3, loss=1.0)
    assert capsys.readouterr().err == ""

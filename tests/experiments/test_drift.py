"""Watching a file that grows: whole, in pieces and after an interruption it says the same; bad input is one line."""

import json
import signal
import threading
import time

import numpy as np
import pytest

TAIL = ["experiment=drift", "source=tail", "precision=float32", "detector.capacity=32", "detector.warm_up=30"]


def stream(path, first, last):
    rng = np.random.default_rng(0)
    values = rng.standard_normal(400) + 8 * (np.arange(400) >= 150) - 20 * (np.arange(400) >= 300)
    lines = [] if first else ["time,value"]
    lines += [f"{i},{values[i]:.6f}" for i in range(first, last)]
    with path.open("a") as file:
        file.write("\n".join(lines) + "\n")


def metrics(directory):
    return json.loads((directory / "summary.json").read_text())["metrics"]


@pytest.fixture
def whole(call, tmp_path):
    """One run over the whole file."""
    stream(tmp_path / "whole.csv", 0, 400)
    outcome = call(*TAIL, "path=whole.csv", "hydra.run.dir=once")
    assert outcome.code == 0, outcome.err
    return (tmp_path / "once" / "alarms.jsonl").read_text()


def test_alarms_name_the_first_points_of_new_regimes(whole, tmp_path):
    alarms = [json.loads(line) for line in whole.splitlines()]
    assert [alarm["start"] for alarm in alarms] == [150, 300]
    assert all(0 <= alarm["time"] - alarm["start"] <= 6 for alarm in alarms)
    assert metrics(tmp_path / "once")["points"] == 400


def test_resuming_a_file_that_has_grown_equals_one_pass(call, tmp_path, whole):
    path = tmp_path / "grows.csv"
    stream(path, 0, 170)
    path.open("a").write("170,9.")  # in the middle of a line
    assert call(*TAIL, "path=grows.csv", "hydra.run.dir=parts").code == 0
    assert metrics(tmp_path / "parts")["unfinished_bytes"] == 6
    text = path.read_text()
    path.write_text(text[: text.rindex("170,")])
    stream(path, 170, 400)
    outcome = call("resume=parts")
    assert outcome.code == 0, outcome.err
    assert metrics(tmp_path / "parts")["points"] == 400
    assert (tmp_path / "parts" / "alarms.jsonl").read_text() == whole


def test_an_interrupted_watch_is_saved_and_goes_on(call, tmp_path, whole):
    path = tmp_path / "grows.csv"
    stream(path, 0, 200)

    def interrupt_then_grow():
        deadline = time.monotonic() + 120
        while not (tmp_path / "live" / "alarms.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        signal.raise_signal(signal.SIGTERM)

    thread = threading.Thread(target=interrupt_then_grow)
    thread.start()
    outcome = call(*TAIL, "path=grows.csv", "tail.follow=true", "tail.poll_seconds=0.05", "hydra.run.dir=live")
    thread.join()
    assert outcome.code == 130 and "resume=" in outcome.err[-1]
    assert not (tmp_path / "live" / "summary.json").exists()
    stream(path, 200, 400)
    assert call("resume=live", "tail.follow=false").code == 0
    assert (tmp_path / "live" / "alarms.jsonl").read_text() == whole


def test_a_constant_stream_and_a_short_one_are_watched_and_said_so(call, tmp_path):
    (tmp_path / "flat.csv").write_text("time,value\n" + "".join(f"{i},3.5\n" for i in range(60)))
    (tmp_path / "short.csv").write_text("time,value\n" + "".join(f"{i},{i % 3}\n" for i in range(12)))
    for name, words in (("flat", "constant"), ("short", "only 12 points")):
        assert call(*TAIL, f"path={name}.csv", f"hydra.run.dir={name}").code == 0
        content = json.loads((tmp_path / name / "summary.json").read_text())
        assert content["metrics"]["alarms"] == 0
        assert any(words in note for note in content["notes"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["source=tail"], "path: expected the file to watch"),
        (["source=tail", "path=nowhere.csv"], "no such file"),
        (["data.path=nowhere.csv.gz"], "no such file"),
        (["dates=[yesterday]"], "dates: expected days"),
        (["guard.candidates=[luck]"], "guard.candidates: expected some of"),
        (["labels=[10]"], "labels: expected some of"),
    ],
)
def test_bad_input_is_one_line(call, arguments, words):
    outcome = call("experiment=drift", *arguments)
    assert outcome.code == 2
    assert len(outcome.err) == 1 and words in outcome.err[0]

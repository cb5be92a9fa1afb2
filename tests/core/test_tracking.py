"""Numbers on disk: nothing lost to a kill, nothing twice after a resume."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from jaxsci.core.errors import ConfigError, JaxsciError
from jaxsci.core.tracking import CsvTracker, JsonlTracker, Trackers, build_trackers


def jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(path: Path) -> list[dict]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_jsonl_holds_one_line_per_call(tmp_path):
    tracker = JsonlTracker(tmp_path / "m.jsonl")
    tracker.log(1, {"loss": 0.5})
    tracker.log(2, {"loss": 0.25, "rate": 3.0})
    assert jsonl(tmp_path / "m.jsonl") == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "rate": 3.0}]


def test_jsonl_round_trips_every_bit_of_a_float(tmp_path):
    value = 0.1 + 0.2
    JsonlTracker(tmp_path / "m.jsonl").log(1, {"x": value})
    assert jsonl(tmp_path / "m.jsonl")[0]["x"] == value


def test_jsonl_stays_strict_json_when_a_loss_is_not_finite(tmp_path):
    JsonlTracker(tmp_path / "m.jsonl").log(1, {"loss": float("nan"), "norm": float("inf")})
    text = (tmp_path / "m.jsonl").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"step": 1, "loss": None, "norm": None}


def test_csv_grows_a_column_for_a_metric_seen_late(tmp_path):
    tracker = CsvTracker(tmp_path / "m.csv")
    tracker.log(1, {"loss": 0.5})
    tracker.log(2, {"validation": 0.75})
    tracker.log(3, {"loss": 0.25})
    assert (tmp_path / "m.csv").read_text() == "step,loss,validation\n1,0.5,\n2,,0.75\n3,0.25,\n"


def test_csv_quotes_a_name_with_a_comma(tmp_path):
    tracker = CsvTracker(tmp_path / "m.csv")
    tracker.log(1, {'error, "mean"': 0.5})
    tracker.log(2, {"other": 1.0})
    assert table(tmp_path / "m.csv")[0]['error, "mean"'] == "0.5"


@pytest.mark.parametrize(("make", "name"), [(JsonlTracker, "m.jsonl"), (CsvTracker, "m.csv")])
def test_a_fresh_run_replaces_an_earlier_file(tmp_path, make, name):
    make(tmp_path / name).log(7, {"old": 1.0})
    make(tmp_path / name).log(1, {"new": 2.0})
    text = (tmp_path / name).read_text()
    assert "new" in text and "old" not in text


@pytest.mark.parametrize(("make", "name", "read"), [(JsonlTracker, "m.jsonl", jsonl), (CsvTracker, "m.csv", table)])
class TestResume:
    def test_equals_the_uninterrupted_run(self, tmp_path, make, name, read):
        whole = make(tmp_path / f"whole-{name}")
        for step in range(10):
            whole.log(step, {"loss": 1.0 / (step + 1)})
        killed = make(tmp_path / name)
        for step in range(8):
            killed.log(step, {"loss": 1.0 / (step + 1)})
        # The last checkpoint was after step 4, so steps 5, 6 and 7 come again.
        resumed = make(tmp_path / name, resumed=True)
        for step in range(5, 10):
            resumed.log(step, {"loss": 1.0 / (step + 1)})
        assert (tmp_path / name).read_bytes() == (tmp_path / f"whole-{name}").read_bytes()

    def test_drops_a_last_line_cut_short(self, tmp_path, make, name, read):
        killed = make(tmp_path / name)
        killed.log(1, {"loss": 0.5})
        killed.log(2, {"loss": 0.123456})
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[:-4])
        make(tmp_path / name, resumed=True).log(3, {"loss": 0.25})
        assert [int(row["step"]) for row in read(tmp_path / name)] == [1, 3]

    def test_drops_garbage_left_by_a_crash(self, tmp_path, make, name, read):
        make(tmp_path / name).log(1, {"loss": 0.5})
        with (tmp_path / name).open("ab") as file:
            file.write(b"{]garbage\n")
        make(tmp_path / name, resumed=True).log(2, {"loss": 0.25})
        assert [int(row["step"]) for row in read(tmp_path / name)] == [1, 2]

    def test_keeps_metrics_of_a_completed_phase(self, tmp_path, make, name, read):
        killed = make(tmp_path / name)
        for step in range(100, 103):
            killed.log(step, {"loss": 1.0})
        killed.log(0, {"rmse": 9.0})
        killed.log(1, {"rmse": 9.0})
        resumed = make(tmp_path / name, resumed=True)
        resumed.log(1, {"rmse": 8.0})
        assert [int(row["step"]) for row in read(tmp_path / name)] == [100, 101, 102, 0, 1]
        assert float(read(tmp_path / name)[-1]["rmse"]) == 8.0

    def test_of_a_run_that_logged_nothing(self, tmp_path, make, name, read):
        make(tmp_path / name, resumed=True).log(3, {"loss": 0.5})
        assert [int(row["step"]) for row in read(tmp_path / name)] == [3]


def test_what_was_logged_survives_a_kill(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from jaxsci.core.tracking import build_trackers\n"
        "t = build_trackers(['jsonl', 'csv'], Path(sys.argv[1]))\n"
        "for step in range(3): t.log(step, {'loss': step / 2})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[2])
    assert done.returncode == -signal.SIGKILL
    assert [row["loss"] for row in jsonl(tmp_path / "metrics.jsonl")] == [0.0, 0.5, 1.0]
    assert [row["loss"] for row in table(tmp_path / "metrics.csv")] == ["0.0", "0.5", "1.0"]


def test_trackers_fan_out_and_close_all():
    class Memory:
        def __init__(self):
            self.rows, self.closed = [], False

        def log(self, step, metrics):
            self.rows.append((step, dict(metrics)))

        def close(self):
            self.closed = True

    first, second = Memory(), Memory()
    trackers = Trackers([first, second])
    trackers.log(4, {"a": 1.0})
    trackers.close()
    assert first.rows == second.rows == [(4, {"a": 1.0})]
    assert first.closed and second.closed


def test_building_trackers_creates_no_file(tmp_path):
    trackers = build_trackers(["jsonl", "csv", "tensorboard"], tmp_path)
    trackers.close()
    assert list(tmp_path.iterdir()) == []


def test_unknown_tracker_is_refused_with_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match="got 'jsnl'; did you mean 'jsonl'"):
        build_trackers(["jsnl"], tmp_path)


@pytest.mark.parametrize(("kind", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_missing_package_is_one_line_naming_the_extra(tmp_path, monkeypatch, kind, package):
    monkeypatch.setitem(sys.modules, package, None)  # makes its import fail
    with pytest.raises(JaxsciError) as caught:
        build_trackers([kind], tmp_path)
    message = str(caught.value)
    assert package in message and "jaxsci[track]" in message and "\n" not in message


def test_tensorboard_writes_the_scalars(tmp_path):
    pytest.importorskip("tensorboardX")
    tracker = build_trackers(["tensorboard"], tmp_path)
    tracker.log(3, {"loss": 0.5})
    tracker.close()
    tracker.close()
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    assert b"loss" in events


def test_wandb_is_offline_unless_asked(tmp_path, monkeypatch):
    """A stand-in for the package, which is too heavy for the tests, records what it is asked to do."""
    calls = {}

    class WandbRun:
        def define_metric(self, name, step_metric):
            calls["step_metric"] = (name, step_metric)

        def log(self, row):
            calls["row"] = row

        def finish(self):
            calls["finished"] = True

    class Wandb:
        @staticmethod
        def init(**settings):
            calls["init"] = settings
            return WandbRun()

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", Wandb)
    tracker = build_trackers(["wandb"], tmp_path / "first")
    tracker.log(3, {"loss": 0.5})
    tracker.close()
    assert calls["init"]["mode"] == "offline"
    assert calls["init"]["name"] == "first"
    assert calls["step_metric"] == ("*", "step")
    assert calls["row"] == {"step": 3, "loss": 0.5}
    assert calls["finished"]


@pytest.mark.parametrize(("make", "name"), [(JsonlTracker, "m.jsonl"), (CsvTracker, "m.csv")])
def test_a_disk_that_refuses_is_one_line(tmp_path, make, name):
    with pytest.raises(JaxsciError, match="cannot write .*; choose another directory") as caught:
        make(tmp_path / "absent" / name).log(1, {"loss": 0.5})
    assert "\n" not in str(caught.value)

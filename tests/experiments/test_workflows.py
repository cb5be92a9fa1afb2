"""The experiments on workflows with what lies outside this process: a testbed, a folder, a signal."""

import json
import threading
import time
from pathlib import Path

import numpy as np
from flowbench_files import run_csv

from experiments.run import main
from jaxsci.core.summary import read_summary
from jaxsci.workflows.flowbench import load_workflow

SMALL = ["learner.members=2", "learner.steps=20", "requests=4", "start=2", "runs_per_request=2"]


class Testbed(threading.Thread):
    """Answers each request file with recorded runs of the class asked for, the last one in two halves."""

    __test__ = False

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self.folder, self.stop, self.asked = folder, threading.Event(), []
        self.workflow = load_workflow()

    def run(self):
        kind = self.workflow.run_class()
        answered = set()
        while not self.stop.is_set():
            for file in sorted(self.folder.glob("*.json")):
                if file.name in answered:
                    continue
                (wanted,) = json.loads(file.read_text())["experiments"]
                rows = np.flatnonzero(kind == self.workflow.classes.index(wanted["type"]))[: wanted["number_of_runs"]]
                for number, row in enumerate(rows):
                    text, target = run_csv(self.workflow, int(row)), self.folder / file.stem / f"run{number}.csv"
                    target.write_text(text[: len(text) // 2])
                    time.sleep(0.02)
                    target.write_text(text)
                answered.add(file.name)
                self.asked.append(wanted)
            time.sleep(0.01)


def test_a_campaign_on_an_external_testbed_and_its_continuation(tmp_path):
    bed = Testbed(tmp_path / "bed")
    (tmp_path / "bed").mkdir()
    bed.start()
    arguments = [
        "experiment=workflow_active",
        "oracle=external",
        f"external.folder={tmp_path / 'bed'}",
        "external.poll_seconds=0.05",
        "external.timeout_seconds=60",
        *SMALL,
    ]
    try:
        assert main([*arguments, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    finally:
        bed.stop.set()
        bed.join()
    assert len(bed.asked) == 4
    assert all(entry["number_of_runs"] == 2 for entry in bed.asked)
    assert all(len(entry["number_of_anomaly_workers"]) == (entry["type"] != "normal") for entry in bed.asked)
    metrics = read_summary(tmp_path / "run" / "summary.json").metrics
    assert metrics["auc_last_committee_per_second"] > 0.6  # eight labelled runs; chance is 0.5
    assert "seconds_saved_fraction" not in metrics  # nothing to compare with
    # Every answer is in the ledger: the same campaign is complete without the testbed, and one request more is refused.
    assert main(["resume=" + str(tmp_path / "run")]) == 0


def test_an_external_testbed_that_never_answers_is_named(tmp_path, capsys):
    arguments = ["experiment=workflow_active", "oracle=external", f"hydra.run.dir={tmp_path / 'run'}", *SMALL]
    assert main([*arguments, "external.poll_seconds=0.01", "external.timeout_seconds=0.02"]) == 2
    assert "3 requests in a row were refused" in capsys.readouterr().err


def test_a_watch_scores_whole_files_and_goes_on_past_broken_ones(tmp_path):
    workflow, arrivals = load_workflow(), tmp_path / "runs"
    arrivals.mkdir()
    bad = int(np.flatnonzero(workflow.run_class() == workflow.classes.index("hdd_5"))[0])
    text = run_csv(workflow, bad)
    (arrivals / "a.csv").write_text(text)
    (arrivals / "broken.csv").write_text("nonsense")
    (arrivals / "half.csv").write_text(text[: len(text) // 2])

    def finish():
        while not (tmp_path / "run" / "alarms.jsonl").exists():  # the first look is over
            time.sleep(0.01)
        (arrivals / "half.csv").write_text(text)

    writer = threading.Thread(target=finish, daemon=True)
    writer.start()
    arguments = [
        "experiment=workflow_watch",
        f"path={arrivals}",
        "poll_seconds=0.4",
        "idle_seconds=2.5",
        "alarm=0.6",
        "detector.learning.epochs=2",
        "detector.encoder.width=8",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    assert main(arguments) == 0
    writer.join(timeout=5)
    metrics = read_summary(tmp_path / "run" / "summary.json").metrics
    assert metrics["runs"] == 2 and metrics["unreadable_files"] == 1
    lines = [json.loads(line) for line in (tmp_path / "run" / "alarms.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines if "unreadable" in line] == ["broken.csv"]
    assert "broken.csv" in (tmp_path / "run" / "alarms.html").read_text()

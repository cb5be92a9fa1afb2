"""The tour starts each system as a run of its own, keeps what is finished, and judges against what stands beside it."""

import os
import signal
import threading

import pytest
import yaml

from experiments import catalogue, command_line
from experiments.child_runs import ChildRun, run_all
from experiments.tour import Config, Stop, Visit
from experiments.tour_report import advantage
from jaxsci.core.config import build
from jaxsci.core.summary import Summary, read_summary

QUICK = "benchmarks/plan_truth"  # formulas against published tables, a second after its imports
SYSTEMS = {
    "transformer",
    "assimilation",
    "reduced_order",
    "stabilized_ode",
    "bayesnas",
    "racing",
    "drift",
    "workflow_ssl",
    "workflow_active",
    "diffraction",
}


@pytest.fixture(scope="module")
def shipped() -> Config:
    content = yaml.safe_load((catalogue.CONF / "experiment" / "tour.yaml").read_text(encoding="utf-8"))
    return build(Config, content)


def test_every_system_is_a_stop(shipped):
    assert set(shipped.stops) == SYSTEMS


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_a_stop_is_a_command_line_that_holds(shipped, name):
    stop = shipped.stops[name]
    command_line.check([f"experiment={stop.experiment}", *stop.overrides], multirun=False)


def test_the_report_names_verdicts_and_failures(call, tmp_path):
    """One stop that comes to its end and one whose overrides are refused, its line in the notes."""
    told = [
        "experiment=tour",
        "only=[drift,racing]",
        f"stops.drift.experiment={QUICK}",
        "stops.drift.overrides=[]",
        "stops.drift.metric=mean_time_error",
        "stops.drift.against=null",
        "stops.drift.bar=0.0365",
        "stops.drift.figure=frontier",
        "stops.racing.overrides=['budget=-1']",
        f"hydra.run.dir={tmp_path / 'run'}",
    ]
    assert call(*told).code == 0
    summary = read_summary(tmp_path / "run" / "summary.json")
    assert summary.metrics["verdict_drift"] is True
    assert summary.metrics["verdict_racing"] is False
    assert summary.references["drift_mean_time_error"].value == 0.0365
    assert any("racing: no result: error: budget" in note for note in summary.notes)
    assert (tmp_path / "run" / "runs" / "drift" / "report.html").is_file()
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png") == 2  # the verdicts and the one panel with a picture


def test_what_is_finished_is_kept_and_a_signal_stops_all(tmp_path):
    def child(name: str) -> ChildRun:
        return ChildRun(QUICK, (), tmp_path / name, tmp_path / f"{name}.txt")

    ended: list[str] = []
    first = run_all({"a": child("a")}, workers=1, on_end=lambda name, _: ended.append(name))
    assert isinstance(first["a"], Summary) and ended == ["a"]
    written = (tmp_path / "a" / "summary.json").stat().st_mtime_ns
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))  # b has not got further than its imports
    timer.start()
    both = {"a": child("a"), "b": child("b")}
    with pytest.raises(KeyboardInterrupt):
        run_all(both, workers=2, on_end=lambda name, _: ended.append(name))
    assert not (tmp_path / "b" / "summary.json").exists()
    outcomes = run_all(both, workers=2, on_end=lambda name, _: ended.append(name))
    assert all(isinstance(outcome, Summary) for outcome in outcomes.values())
    assert (tmp_path / "a" / "summary.json").stat().st_mtime_ns == written


def test_other_overrides_are_another_run(tmp_path):
    child = ChildRun(QUICK, (), tmp_path / "run", tmp_path / "log.txt")
    child.directory.mkdir()
    (child.directory / "overrides.yaml").write_text(f"- experiment={QUICK}\n")
    assert child.arguments() == [f"resume={child.directory}"]
    other = ChildRun(QUICK, ("seed=1",), child.directory, child.log)
    assert other.arguments()[:2] == [f"experiment={QUICK}", "seed=1"]


@pytest.mark.parametrize(
    ("better", "value", "holds"), [("lower", 1.0, True), ("lower", 1.1, False), ("higher", 0.9, False)]
)
def test_verdicts(better, value, holds, tmp_path):
    words = dict.fromkeys(("system", "problem", "source", "figure", "finding"), "-")
    stop = build(Stop, {"experiment": QUICK, "metric": "m", "better": better, "against": "n", **words})
    child = ChildRun(QUICK, (), tmp_path, tmp_path / "log")
    visit = Visit(stop, child, Summary("x", {"m": value, "n": 1.0}))
    assert visit.verdict is holds
    assert Visit(stop, child, Summary("x", {"m": value})).verdict is False


def test_advantage_of_shares_is_that_of_what_is_missing():
    assert advantage(0.99, 0.95, "higher") == pytest.approx(5.0)
    assert advantage(2.0, 4.0, "lower") == 2.0

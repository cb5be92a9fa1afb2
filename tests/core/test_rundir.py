"""A run directory is complete, belongs to one live run, and does not exist before the first write."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import pytest
import yaml

from jaxsci.core import files
from jaxsci.core.environment import environment
from jaxsci.core.errors import CheckpointError, ConfigError, JaxsciError
from jaxsci.core.figures import new_figure
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run, saved_config
from jaxsci.core.summary import Reference, Summary, read_summary

CONFIG = {"experiment": {"kind": "demo", "modes": 20, "rate": 1e-5, "path": None}, "seed": 0}
ROOT = Path(__file__).parents[2]


def names(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_a_finished_run_leaves_what_the_architecture_lists(tmp_path):
    directory = tmp_path / "outer" / "run"
    with Run(directory, CONFIG, ["seed=0"]) as run:
        run.log({"loss": 0.5}, step=1)
        path = run.figure("maps", new_figure()[0])
        report = Report("Demo", "Does it?").figure("maps", path)
        summary = run.finish(Summary("demo", {"loss": 0.5}, {"loss": Reference(1.0, "zero", "lower")}), report)
    assert names(directory) == {
        "config.yaml",
        "overrides.yaml",
        "metrics.jsonl",
        "metrics.csv",
        "figures/maps.png",
        "report.html",
        "summary.json",
    }
    assert yaml.safe_load((directory / "config.yaml").read_text()) == CONFIG == saved_config(directory)
    assert yaml.safe_load((directory / "overrides.yaml").read_text()) == ["seed=0"]
    assert read_summary(directory / "summary.json") == summary
    assert "modes: 20" in (directory / "report.html").read_text()


def test_nothing_is_on_disk_before_the_first_write(tmp_path):
    run = Run(tmp_path / "run", CONFIG, trackers=("jsonl", "csv", "tensorboard"))
    run.close()
    assert not (tmp_path / "run").exists()


def test_unknown_tracker_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match="did you mean 'csv'"):
        Run(tmp_path / "run", CONFIG, trackers=("cvs",))
    assert not (tmp_path / "run").exists()


def test_only_the_main_process_writes(tmp_path):
    with Run(tmp_path / "run", CONFIG, main=False) as run:
        run.log({"loss": 0.5}, step=1)
        path = run.figure("maps", new_figure()[0])
        assert run.checkpoint_directory == tmp_path / "run" / "checkpoints"
        assert run.path("fields.npz") == tmp_path / "run" / "fields.npz"
        summary = run.finish(Summary("demo", {"a": 1.0}), Report("t", "q").figure("maps", path))
    assert summary.metrics == {"a": 1.0}
    assert not (tmp_path / "run").exists()


def test_asking_for_the_checkpoint_directory_puts_the_config_there_first(tmp_path):
    with Run(tmp_path / "run", CONFIG) as run:
        run.checkpoint_directory  # noqa: B018
        assert (tmp_path / "run" / "config.yaml").exists()


def test_arrays_on_a_device_are_logged_as_numbers(tmp_path):
    with Run(tmp_path, CONFIG) as run:
        run.log({"loss": jnp.float32(0.5), "norm": jnp.arange(1)[0]}, step=3)
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 3, "loss": 0.5, "norm": 0.0}


def test_a_metric_called_step_is_a_mistake(tmp_path):
    with Run(tmp_path, CONFIG) as run, pytest.raises(ValueError, match="step"):
        run.log({"step": 1.0}, step=3)


# Environment


def test_the_summary_says_where_it_ran_but_not_on_whose_machine(tmp_path):
    with Run(tmp_path, CONFIG) as run:
        found = run.finish(Summary("demo", {})).environment
    assert found["packages"]["jax"] and found["python"] and found["devices"] and found["cores"] >= 1
    text = json.dumps(found)
    assert os.uname().nodename not in text and str(Path.home()) + "/" not in text and str(ROOT) not in text


def test_environment_needs_no_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert environment()["commit"] is None


# Resume


def test_a_resumed_run_continues_its_metrics(tmp_path):
    with Run(tmp_path, CONFIG) as run:
        for step in (1, 2, 3):
            run.log({"loss": 1 / step}, step)
    with Run(tmp_path, CONFIG | {"seed": 1}, resumed=True) as run:
        for step in (3, 4):
            run.log({"loss": 1 / step}, step)
    with (tmp_path / "metrics.csv").open() as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [1, 2, 3, 4]
    assert saved_config(tmp_path)["seed"] == 1


def test_an_earlier_result_does_not_pass_for_that_of_the_resumed_run(tmp_path):
    with Run(tmp_path, CONFIG) as run:
        run.finish(Summary("demo", {}), Report("t", "q"))
    with Run(tmp_path, CONFIG, resumed=True) as run:
        run.log({"loss": 1.0}, 1)
        assert not {"summary.json", "report.html"} & names(tmp_path)


def test_resuming_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no run to resume in .*absent"):
        Run(tmp_path / "absent", CONFIG, resumed=True)
    (tmp_path / "config.yaml").write_text("{]")
    with pytest.raises(CheckpointError, match="expected the configuration of a run"):
        saved_config(tmp_path)


def test_a_fresh_run_does_not_mix_with_the_checkpoints_of_another(tmp_path):
    with Run(tmp_path, CONFIG) as run:
        (run.checkpoint_directory / "10").mkdir(parents=True)
    fresh = Run(tmp_path, CONFIG | {"seed": 5})
    with pytest.raises(JaxsciError, match=f"continue it with resume={tmp_path}"):
        fresh.log({"loss": 1.0}, 1)
    assert saved_config(tmp_path)["seed"] == 0
    with Run(tmp_path, CONFIG, resumed=True) as run:  # the refusal let go of the directory
        run.log({"loss": 1.0}, 1)


def test_a_fresh_run_replaces_one_without_checkpoints(tmp_path):
    for step in (1, 2):
        with Run(tmp_path, CONFIG) as run:
            run.log({"loss": 1.0}, step)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["step"] == 2


# One live run per directory


def test_a_second_live_run_is_refused_with_the_first_ones_pid(tmp_path):
    with Run(tmp_path, CONFIG) as first:
        first.log({"loss": 1.0}, 1)
        second = Run(tmp_path, CONFIG)
        with pytest.raises(JaxsciError, match=rf"in use by a live run \(pid {os.getpid()}, started ") as caught:
            second.log({"loss": 2.0}, 1)
        assert "\n" not in str(caught.value)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] == 1.0


def test_the_lock_is_gone_when_the_run_is_over(tmp_path):
    with Run(tmp_path, CONFIG) as run:
        run.log({"loss": 1.0}, 1)
        assert "run.lock" in names(tmp_path)
    assert "run.lock" not in names(tmp_path)


def test_an_error_inside_the_run_lets_go_of_the_directory(tmp_path):
    with pytest.raises(RuntimeError), Run(tmp_path, CONFIG) as run:
        run.log({"loss": 1.0}, 1)
        raise RuntimeError
    with Run(tmp_path, CONFIG, resumed=True) as run:
        run.log({"loss": 1.0}, 2)


def test_a_run_in_another_process_holds_the_directory_until_it_is_killed(tmp_path):
    code = (
        "import sys, time; from jaxsci.core.rundir import Run\n"
        "run = Run(sys.argv[1], {'seed': 0}); run.log({'loss': 1.0}, 1)\n"
        "print('ready', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"ready\n"
        with pytest.raises(JaxsciError, match=f"pid {other.pid}"):
            Run(tmp_path, CONFIG, resumed=True).log({"loss": 2.0}, 2)
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert "run.lock" in names(tmp_path)  # left behind, and taken over
    with Run(tmp_path, CONFIG, resumed=True) as run:
        run.log({"loss": 2.0}, 2)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        1,
        2,
    ]


# Disks that refuse


def test_a_directory_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    run = Run(tmp_path / "file" / "run", CONFIG)
    with pytest.raises(JaxsciError, match="cannot create run directory .*; choose another directory") as caught:
        run.log({"loss": 1.0}, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unwritable for root")
def test_an_unwritable_directory_is_one_line(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(JaxsciError, match="Permission denied"):
            Run(tmp_path / "run", CONFIG).log({"loss": 1.0}, 1)
    finally:
        tmp_path.chmod(0o700)


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Run(tmp_path, CONFIG) as run:
        run.log({"loss": 1.0}, 1)
        monkeypatch.setattr(files.os, "fsync", full)
        with pytest.raises(JaxsciError, match="No space left on device; free some space") as caught:
            run.finish(Summary("demo", {}), Report("t", "q"))
        assert "\n" not in str(caught.value)
    assert not {name for name in names(tmp_path) if "report.html" in name or "summary.json" in name}


def test_what_was_logged_comes_back_whole_after_resuming(tmp_path):
    with Run(tmp_path / "run", CONFIG, []) as run:
        run.log({"loss": 0.5}, step=1)
        run.log({"loss": 0.4}, step=2)
    with Run(tmp_path / "run", CONFIG, [], resumed=True) as run:
        run.log({"loss": 0.25, "accuracy": 0.75}, step=2)
        assert run.logged() == [(1, {"loss": 0.5}), (2, {"loss": 0.25, "accuracy": 0.75})]
    with Run(tmp_path / "none", CONFIG, [], trackers=()) as run:
        run.log({"loss": 0.5}, step=1)
        assert run.logged() == []

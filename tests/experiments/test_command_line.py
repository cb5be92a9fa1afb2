"""Bad input costs one line that says what to change, and leaves no trace; good input does what `--help` says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from experiments import catalogue, command_line
from jaxsci.core.config import build
from jaxsci.core.errors import ConfigError
from jaxsci.core.lock import Lock

ROOT = Path(__file__).parents[2]


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.fixture
def refused(call, tmp_path):
    """Calls the command line, checks that it was refused as it should be, and returns what was said."""

    def get(*arguments: str) -> str:
        before = everything_in(tmp_path)
        outcome = call(*arguments)
        assert outcome.code == 2
        assert outcome.out == []
        assert len(outcome.err) == 1, outcome.err
        assert everything_in(tmp_path) == before
        return outcome.err[0].removeprefix("error: ")

    return get


# The whole line for each, as a user reads it: key, what was expected, what came.
KEYS_AND_VALUES = {
    "modez=3": "modez: unknown key; did you mean 'modes'?",
    "+modez=3": "modez: unknown key; did you mean 'modes'?",
    "++modez=3": "modez: unknown key; did you mean 'modes'?",
    "emulator.recurent.lags=2": "emulator.recurent: unknown key; did you mean 'recurrent'?",
    "+emulator.recurrent.lag=2": "emulator.recurrent.lag: unknown key; did you mean 'lags'?",
    "++emulator.recurrent.optimizer.lerning_rate=1": "emulator.recurrent.optimizer.lerning_rate: unknown key; "
    "did you mean 'learning_rate'?",
    "data.pth=x": "data.pth: unknown key; did you mean 'path'?",
    "modes=abc": "modes: expected a whole number, got 'abc'",
    "modes=1.5": "modes: expected a whole number, got 1.5",
    "modes=": "modes: expected a whole number, got ''",
    "modes=null": "modes: expected a whole number, got None",
    "modes=${nothing}": "config: Interpolation key 'nothing' not found",
    "noise_std=true": "noise_std: expected a number, got True",
    "noise_std=nan": "noise_std: expected a finite number, got nan",
    "noise_std=0": "noise_std: expected a value above 0, got 0.0",
    "stations=0": "stations: expected a value above 0, got 0",
    "window=-1": "window: expected a value between 0 and 10, got -1",
    "seed=-1": "seed: expected a value between 0 and 2147483647, got -1",
    "leads=2": "leads: expected a value between 3 and 30, got 2",
    "harmonics=[]": "harmonics: expected whole numbers, got ()",
    "harmonics=3": "harmonics: expected a list such as [a,b], got 3",
    "emulator.recurrent.optimizer.learning_rate=0": "emulator.recurrent.optimizer.learning_rate: "
    "expected a value above 0, got 0.0",
    "emulator.choose=lineer": "emulator.choose: expected one of validation, linear, recurrent, got 'lineer'; "
    "did you mean 'linear'?",
    "precision=float16": "precision: expected one of float32, float64, bfloat16, got 'float16'; "
    "did you mean 'bfloat16'?",
    "experiment=asimilation": "experiment: no 'asimilation'; did you mean 'assimilation'? known: "
    + ", ".join(sorted(catalogue.names())),
    "data=ncep_r1_z50": "data: no 'ncep_r1_z50'; did you mean 'ncep_r1_z500'? known: "
    "cifar10, cifar10_gpu, cori, digits, field, ncep_r1_z500, shallow_water, uci",
    "data=field": "data.path: missing; give data.path=<value>",
    "modes=1,2": "modes: got several values; add -m to run each of them",
    "seed=range(1,3)": "seed: got several values; add -m to run each of them",
    "modes=[1": "command line: no viable alternative at input '[1'",
    "modes": "command line: Error parsing override 'modes'",
    "--multrun": "command line: unknown option '--multrun'; did you mean '--multirun'?",
    "--cfg=jb": "--cfg: expected one of job, hydra, all, got jb",
}


@pytest.mark.parametrize("argument", KEYS_AND_VALUES)
def test_keys_and_values(refused, argument):
    assert refused(argument) == KEYS_AND_VALUES[argument]


@pytest.mark.parametrize("argument", ["data=nothing_like_it", "experiment=zzz"])
def test_where_nothing_is_near_all_that_is_known_is_listed(refused, argument):
    group = argument.split("=")[0]
    folder = catalogue.CONF / group
    known = sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))
    assert refused(argument).endswith(f"; known: {', '.join(known)}")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["modes=8", "stations=12"], None),
        (["seed=0,1"], None),
        (["seed=0,1", "noise_std=10,0"], "noise_std: expected a value above 0"),
        (["experiment=assimilation,asimilation"], "did you mean 'assimilation'"),
        (["data=ncep_r1_z500,ncp"], "data: no 'ncp'"),
        (["modes=range(1,4)"], "modes: expected a value between 2 and 1000, got 1"),
    ],
)
def test_every_combination_of_a_multirun_is_checked(overrides, said):
    if said is None:
        command_line.check(overrides, multirun=True)
    else:
        with pytest.raises(ConfigError, match=said):
            command_line.check(overrides, multirun=True)


def test_a_multirun_with_one_bad_value_runs_nothing(refused, tiny):
    assert refused("-m", *tiny("assimilation"), "seed=0,-1") == (
        "seed: expected a value between 0 and 2147483647, got -1"
    )


def test_a_multirun_on_data_that_is_not_there(refused):
    assert refused("-m", "data.path=nowhere.npz,nothing.npz") == "data.path: no such file: nowhere.npz"


# Data. These are refused by the experiment itself, after Hydra has made its directory.


def test_a_missing_data_file(refused):
    assert refused("data.path=nowhere.npz") == "data.path: no such file: nowhere.npz"
    assert refused("data.path=nowhere.npz", "hydra.run.dir=some/where") == "data.path: no such file: nowhere.npz"


def test_data_of_the_wrong_shape(refused, field_file):
    said = refused(f"data.path={field_file(z=np.zeros((335, 4, 3)))}")
    assert said.endswith("'z' has shape (335, 4, 3), expected (time, lat, lon) = (335, 3, 4)")


def test_data_that_is_not_finite_names_the_day(refused, field_file):
    z = np.zeros((335, 3, 4))
    z[31, 1, 2] = np.nan
    said = refused(f"data.path={field_file(z=z)}")
    assert "'z' is not finite on 1 of 335 days, the first 2000-02-01" in said


def test_data_without_a_coordinate(refused, field_file):
    assert refused(f"data.path={field_file(lat=None)}").endswith("missing lat; found lon, time, z")


def test_text_that_calls_itself_npz(refused, tmp_path):
    path = tmp_path / "field.npz"
    path.write_text("lat,lon,z\n1,2,3\n")
    assert refused(f"data.path={path}").startswith(f"{path}: not a readable npz file")


def test_too_few_days_and_too_many_stations(refused, field_file):
    days = np.arange("2000-01-01", "2000-02-01", dtype="datetime64[D]")
    short = field_file(time=days, z=np.zeros((31, 3, 4)))
    assert refused(f"data.path={short}", "stations=4") == "data.path: expected 270 days or more, got 31"
    assert refused("stations=500") == "stations: expected at most the 221 points of the grid, got 500"


# Directories.


def test_resuming_what_is_no_run(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    for directory in ("nowhere", "empty"):
        assert refused(f"resume={directory}") == (
            f"resume: expected a run directory with overrides.yaml, got {directory}"
        )


def test_a_run_directory_that_is_a_file(refused, tmp_path):
    (tmp_path / "taken").write_text("mine")
    assert "cannot create run directory" in refused(f"hydra.run.dir={tmp_path}/taken")
    assert "Not a directory" in refused(f"hydra.run.dir={tmp_path}/taken/inside")
    assert "cannot create run directory" in refused("-m", "seed=0,1", f"hydra.sweep.dir={tmp_path}/taken")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_directory_that_cannot_be_written(refused, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "Permission denied" in refused(f"hydra.run.dir={tmp_path}/locked/run")


def test_directories_that_were_there_before_stay(refused, tmp_path):
    (tmp_path / "mine" / "empty").mkdir(parents=True)
    (tmp_path / "outputs").mkdir()
    # `refused` checks that the tree is as it was
    refused("data.path=nowhere.npz")
    refused("data.path=nowhere.npz", "hydra.run.dir=mine/empty/a/b")
    refused("data.path=nowhere.npz", "hydra.run.dir=mine/empty")
    refused("-m", "data.path=nowhere.npz", "hydra.sweep.dir=mine/empty")


def test_two_runs_in_one_directory(call, tiny, tmp_path):
    directory = tmp_path / "busy"
    directory.mkdir()
    lock = Lock(directory / "run.lock")
    lock.acquire()
    try:
        outcome = call(*tiny("assimilation"), f"hydra.run.dir={directory}")
    finally:
        lock.release()
    assert outcome.code == 2 and outcome.out == []
    assert f"{directory} is in use by a live run (pid {os.getpid()}," in outcome.err[-1]
    assert everything_in(directory) == []


# What works.


def test_names_with_commas_brackets_and_dollars_are_only_names(call, tmp_path):
    for name in ("a,b", "[c", "d e", "f'g", r"${h}", "i=j", "k\\"):
        path = tmp_path / name
        quoted = command_line.quoted(path)
        assert command_line.output_directory([f"hydra.run.dir={quoted}"], multirun=False) == ("hydra.run.dir", path)


def test_help_lists_every_experiment_with_a_line(call, tmp_path):
    outcome = call("--help", "modez=3")
    assert outcome.code == 0 and outcome.err == []
    for name in catalogue.names():
        line = next(line for line in outcome.out if line.split()[:1] == [name])
        assert line.endswith(catalogue.description(name)) and len(line.split()) > 4
    assert everything_in(tmp_path) == []


def test_cfg_job_prints_what_a_run_would_get(call, tmp_path):
    for arguments in (["--cfg", "job"], ["--cfg=job", "--resolve"]):
        outcome = call(*arguments, "modes=8", "emulator.recurrent.steps=2")
        assert outcome.code == 0
        printed = yaml.safe_load("\n".join(outcome.out))
        assert printed["modes"] == 8 and printed["emulator"]["recurrent"]["steps"] == 2
        config = build(catalogue.find("assimilation").config, printed)
        assert config.precision == "float64"  # as the experiment's file says, not the default of the schema
    assert everything_in(tmp_path) == []


def test_resume_of_a_finished_run(call, finished, tiny, tmp_path):
    original, _ = finished("assimilation")
    shutil.copytree(original, tmp_path / "again")
    outcome = call("resume=again", "seed=1")
    assert outcome.code == 0, outcome.err
    saved = [*tiny("assimilation"), "seed=1"]
    assert yaml.safe_load((tmp_path / "again" / "overrides.yaml").read_text()) == saved
    before, after = (yaml.safe_load((d / "config.yaml").read_text()) for d in (original, tmp_path / "again"))
    assert after == before | {"seed": 1}
    assert everything_in(tmp_path / "again") == everything_in(original)


# The door itself, seen from outside.


def door(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "experiments.run", *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["+emulator.recurent.lags=2"], "error: emulator.recurent: unknown key; did you mean 'recurrent'?\n"),
        (["data.path=nowhere.npz"], "error: data.path: no such file: nowhere.npz\n"),
    ],
    ids=["refused before Hydra", "refused by the experiment"],
)
def test_a_refused_process(tmp_path, arguments, said):
    done = door(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)
    assert everything_in(tmp_path) == []


def test_help_of_the_process(tmp_path):
    done = door("--help", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith("usage: python -m experiments.run")

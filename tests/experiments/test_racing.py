"""Racing through the command line: a kill -9 in the middle changes nothing, and every target can be raced."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.racing_detector_target import DEFAULTS, DetectorTarget, detector_space
from experiments.racing_plan_target import PlanTarget, plan_space, study_recipe
from jaxsci.core.errors import DataError
from jaxsci.core.summary import read_summary
from jaxsci.drift.scores import f1
from jaxsci.drift.tcpd import Collection, Series
from jaxsci.racing import iterated, packaged
from jaxsci.racing.race import Rules
from jaxsci.racing.sampling import uniform
from jaxsci.racing.targets.protocol import REJECTED, Job
from jaxsci.transformer.config import preset
from jaxsci.transformer.plan.hardware import hardware

REPOSITORY = Path(__file__).parents[2]
OF_THE_CLOCK = {"runs_per_second", "runs_replayed"}


@pytest.fixture
def instances(tmp_path) -> Path:
    """Two small instances of the package, one size class."""
    folder = tmp_path / "qap"
    folder.mkdir()
    own = Path(packaged.__file__).parent / "data" / "qaplib"
    for path in (own / "test" / "nug16b.dat", own / "train" / "nug18.dat"):
        shutil.copy(path, folder)
    return folder


def test_killed_with_signal_9_and_resumed_is_uninterrupted_bit_for_bit(call, instances, tmp_path):
    command = ["experiment=racing", f"data.train={instances}", f"data.test={instances}", "target.steps=100"]
    command += ["budget=320", "ablation=0", "test_seeds=1", "pool=2"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    child = subprocess.Popen(
        [sys.executable, "-m", "experiments.run", *command, f"hydra.run.dir={killed}"],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    log = killed / "runs.jsonl"
    deadline = time.monotonic() + 300
    while child.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_bytes().count(b'"run"') >= 60:
            break
        time.sleep(0.002)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it ended before it could be killed"
    done = log.read_bytes().count(b'"run"')
    assert 60 <= done < 320 and not (killed / "summary.json").exists()
    outcome = call(*command, f"hydra.run.dir={whole}")
    assert outcome.code == 0, outcome.err
    outcome = call(f"resume={killed}")
    assert outcome.code == 0, outcome.err
    assert log.read_bytes() == (whole / "runs.jsonl").read_bytes()
    metrics, again = (read_summary(folder / "summary.json").metrics for folder in (whole, killed))
    assert again["runs_replayed"] >= done - 1  # a line that the kill tore apart is run again
    assert {k: v for k, v in metrics.items() if k not in OF_THE_CLOCK} == {
        k: v for k, v in again.items() if k not in OF_THE_CLOCK
    }


# Most of the shipped choices cannot run; these can.
FEASIBLE = ["target.tensor=[4]", "target.pipe=[16,32]", "target.recompute=[full]", "target.schedule=[1f1b]"]
FEASIBLE += ["target.microbatch=[1,2]", "target.zero=[0,1]", "target.virtual=[1]"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["target=plan", "tuner=random", "budget=100", *FEASIBLE],
        ["target=drift_detector", "tuner=random", "budget=20", "deterministic=true"],
    ],
    ids=["plan", "drift_detector"],
)
def test_other_systems_are_raced(call, tmp_path, overrides):
    directory = tmp_path / "run"
    extra = [f"data.train={tcpd_folder(tmp_path)}"] if "target=drift_detector" in overrides else []
    outcome = call("experiment=racing", *overrides, *extra, "ablation=0", "test_seeds=1", f"hydra.run.dir={directory}")
    assert outcome.code == 0, outcome.err
    metrics = read_summary(directory / "summary.json").metrics
    assert np.isfinite(metrics["cost_test"]) and np.isfinite(metrics["cost_test_default"])
    assert (directory / "report.html").exists()


AXES = {
    "tensor": (1, 2, 4, 8),
    "pipe": (1, 4, 8, 16),
    "microbatch": (1, 2, 4),
    "zero": (0, 1),
    "recompute": ("none", "full"),
    "schedule": ("1f1b", "interleaved"),
    "virtual": (1, 2, 3),
}


def plan_target(nodes=(32, 64, 128, 192, 256), spread=0.1) -> PlanTarget:
    return PlanTarget(preset("gpt_175b"), hardware("mi250x"), nodes, spread=spread)


@pytest.mark.slow  # 1500 runs and 768 plans
def test_a_race_over_plans_finds_what_an_exhaustive_search_finds():
    space = plan_space(AXES)
    target = plan_target()
    everything = uniform(space, 10_000, np.random.default_rng(0), set())
    means = []
    for configuration in everything:
        costs = [o.cost for o in target([Job(0, configuration, n, 0) for n in target.instances])]
        means.append(float(np.mean(costs)))
    assert len(everything) == 4 * 4 * 3 * 2 * 2 * (1 + 3)
    rules = Rules(test="t-holm", together=False)  # costs are comparable; what cannot run costs a run and not five
    tuning = iterated.tune(space, target, iterated.Iterated(1500, rules=rules), seed=1)
    found = np.mean([o.cost for o in target([Job(0, tuning.best, n, 0) for n in target.instances])])
    # Within half a point of the best of 768: rates are uncertain by 10 %, so a race cannot tell closer ones apart.
    assert found < min(means) + 0.5
    study = study_recipe(target.model, space)
    assert study is not None and found < np.mean([o.cost for o in target([Job(0, study, "128", 0)])]) - 5


def test_a_plan_that_cannot_run_is_rejected_with_the_planners_sentence():
    target = plan_target()
    base = {"microbatch": "1", "zero": "0", "recompute": "none", "schedule": "1f1b", "virtual": None}
    memory, split = target(
        [Job(0, base | {"tensor": "1", "pipe": "1"}, "64", 3), Job(0, base | {"tensor": "8", "pipe": "7"}, "64", 3)]
    )
    assert memory.cost == REJECTED and "a device has 64 GB" in memory.message
    assert split.cost == REJECTED and "does not divide 512 devices" in split.message
    with pytest.raises(DataError, match="numbers of nodes"):
        plan_target(nodes=())


def test_a_seed_is_one_machine_for_all_plans():
    target = plan_target()
    assert target.machine(5) == target.machine(5) != target.machine(6)
    assert target.machine(0) == hardware("mi250x") == plan_target(spread=0.0).machine(5)
    logs = [np.log(target.machine(s).network_bandwidth / target.hardware.network_bandwidth) for s in range(1, 201)]
    assert abs(np.std(logs) - 0.1) < 0.015  # three standard errors of 200 draws


def step_series(name: str, length: int, at: int, height: float) -> Series:
    rng = np.random.default_rng([length, at])
    values = rng.normal(0, 1, (length, 1)) + height * (np.arange(length) >= at)[:, None]
    return Series(name, values, np.ones(values.shape, bool))


def steps() -> Collection:
    series = tuple(step_series(f"step{i}", 60 + 5 * i, 25 + 5 * i, 8.0) for i in range(4))
    return Collection(series, {f"step{i}": {"1": [25 + 5 * i], "2": [26 + 5 * i]} for i in range(4)})


def tcpd_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "tcpd"
    (folder / "series").mkdir(parents=True)
    for one in steps().series:
        content = {"name": one.name, "n_obs": len(one.values), "time": {"index": list(range(len(one.values)))}}
        content["series"] = [{"label": "V1", "type": "float", "raw": one.values[:, 0].tolist()}]
        (folder / "series" / f"{one.name}.json").write_text(json.dumps(content))
    (folder / "annotations.json").write_text(json.dumps(steps().annotations))
    return folder


def test_the_detectors_cost_is_one_less_f1_of_a_stretch_that_depends_on_the_seed_alone():
    target = DetectorTarget(steps())
    jobs = [Job(0, DEFAULTS, name, seed) for name in target.instances for seed in (0, 1, 2)]
    costs = [outcome.cost for outcome in target(jobs)]
    assert costs == [target([job])[0].cost for job in jobs]  # whatever else is in the batch
    assert target.stretch("step1", 0) == (0, 65)
    for job, cost in zip(jobs, costs, strict=True):
        start, stop = target.stretch(job.instance, job.seed)
        assert (start, stop) == target.stretch(job.instance, job.seed) and stop - start >= 0.6 * 60
        if job.seed == 0:  # a step of eight deviations is found where it is
            assert cost == 0.0
    # One annotator says a point later than the other: both are within the margin of 5, neither within one of 0.
    strict = DetectorTarget(steps(), margin=0)
    (outcome,) = strict([Job(0, DEFAULTS, "step1", 0)])
    marks = {who: found for who, found in steps().annotations["step1"].items()}
    assert outcome.cost == pytest.approx(1 - f1(marks, [30], 0))


def test_detector_defaults_belong_to_their_space():
    assert detector_space().check(DEFAULTS) == DEFAULTS

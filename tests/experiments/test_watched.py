"""Watching a training and an assimilation: alarms come after the change and soon, and not without one."""

import json
import signal
import threading
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from experiments import watched_innovations as cycling
from experiments import watched_training as process
from experiments.drift_tail import Watcher
from experiments.watched_innovations import Degradation, InnovationsConfig
from jaxsci.core.config import build
from jaxsci.core.errors import ConfigError
from jaxsci.drift.stream import StreamConfig, Tail

STRONG = InnovationsConfig(
    scenarios={
        "bias": Degradation(bias=0.5),
        "noise": Degradation(noise=1.5),
        "model": Degradation(model={"forcing": 10.0}),
        "nothing": Degradation(),
    },
    seeds=8,
    cycles=160,
    burn_in=60,
    change=80,
    horizon=60,
    window=40,
    capacity=64,
)


@pytest.fixture(scope="module")
def found() -> cycling.Found:
    with jax.enable_x64(True):
        return cycling.watch_worlds(STRONG, *cycling.run_worlds(STRONG, 0))


def test_calm_innovations_are_standard_and_uncorrelated(found):
    """The filter is sound: means near 0, variances near 1, no memory (8 x 160 cycles: standard error .03)."""
    for values in (found.calm.innovation.shift, found.calm.innovation.scatter):
        calm = np.asarray(values)
        assert abs(calm.mean()) < 0.15 and abs(calm.var() - 1) < 0.3
        assert abs(np.corrcoef(calm[:, :-1].ravel(), calm[:, 1:].ravel())[0, 1]) < 0.12


def test_every_strong_change_is_alarmed_soon_and_nothing_else(found):
    metrics = cycling.measured(STRONG, found)
    for name in ("bias", "noise", "model"):
        assert metrics[f"detected_fraction_{name}"] == 1.0
        assert metrics[f"detection_delay_{name}"] <= 12
    alarms = found.rules["detector"][1].alarm
    # 1 per 1000 was asked for: the expectation is 1.3 on 8 x 160 cycles, and 5 or more happen in one of a hundred.
    assert alarms[list(STRONG.scenarios).index("nothing")].sum() <= 4
    assert alarms[:, :, : STRONG.change].sum(axis=2).mean() < 0.5
    assert found.rules["detector"][0].alarm.sum() <= 4


def test_it_says_what_changed_and_when(found):
    metrics = cycling.measured(STRONG, found)
    assert metrics["right_kind_fraction"] >= 0.9
    assert metrics["said_mean_fraction_bias"] >= 0.8 and metrics["said_mean_fraction_noise"] <= 0.2
    assert metrics["start_error_bias"] <= 3 and metrics["start_error_noise"] <= 3


def test_before_the_change_worlds_are_the_calm_one(found):
    """All scenarios share their seeds: until the change nothing tells them apart."""
    shift = np.asarray(found.degraded.innovation.shift)
    np.testing.assert_array_equal(
        shift[:, :, : STRONG.change], np.broadcast_to(shift[:1, :, : STRONG.change], (4, 8, 80))
    )
    assert (shift[:3, :, STRONG.change] != shift[3, :, STRONG.change]).mean() > 0.6  # the model's needs a cycle


def test_a_threshold_is_the_smallest_that_is_seldom_exceeded():
    rng = np.random.default_rng(0)
    quiet = rng.normal(size=(20, 500))
    limit = cycling._limit(quiet, 2.0)
    assert cycling._begins(quiet > limit).sum() <= 20 < cycling._begins(quiet >= limit - 1e-9).sum() + 1
    assert cycling._limit(quiet, 1000.0) == pytest.approx(np.median(quiet), abs=1e-12)


def test_an_excursion_is_one_alarm():
    high = np.array([[False, True, True, False, True], [True, True, False, False, False]])
    np.testing.assert_array_equal(
        cycling._begins(high), [[False, True, False, False, True], [True, False, False, False, False]]
    )


def test_what_a_scenario_changes_is_named_where_it_is_one_thing():
    assert Degradation(bias=0.1).kind == "mean" and Degradation(noise=2.0).kind == "variance"
    assert Degradation().kind is None and Degradation(bias=0.1, noise=2.0).kind is None
    assert Degradation(model={"forcing": 9.0}).kind is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"change": 5}, "change: "),
        ({"method": {"kind": "3dvar"}}, "innovations.method: "),
        ({"scenarios": {}}, "innovations.scenarios: "),
        ({"scenarios": {"x": {"noise": 0.0}}}, "noise: "),
    ],
)
def test_refusals_name_the_key(changes, said):
    with pytest.raises(ConfigError, match=said):
        build(InnovationsConfig, changes)


def test_a_parameter_the_model_lacks_is_named(x64):
    with pytest.raises(ConfigError, match="lorenz96 has no parameters wind to change"):
        cycling.run_worlds(replace(STRONG, scenarios={"x": Degradation(model={"wind": 1.0})}), 0)


# A training.


def metrics_file(path, slowed_by, *, change=120, points=200):
    """Step times of 20 ms, a scatter of 8 % and outliers (saves, a busy host); `slowed_by` times that from `change`."""
    rng = np.random.default_rng(0)
    seconds = 0.02 * np.exp(0.08 * rng.standard_normal(points)) * np.where(np.arange(points) >= change, slowed_by, 1.0)
    seconds[[15, 40, 77, 101]] *= 6.0
    lines = []
    for i, value in enumerate(seconds):
        lines.append({"step": 4 * (i + 1), "loss": 1.0, process.RULE: 0.0, process.COLUMN: value})
        if i % 50 == 0:
            lines.append({"step": 4 * (i + 1), "validation_loss": 1.0, process.RULE: 0.0, process.COLUMN: value})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("slowed_by", [1.0, 1.5, 2.0, 0.5])
def test_step_times_are_alarmed_after_a_slowdown_and_not_before(tmp_path, slowed_by, x64):
    metrics_file(tmp_path / "metrics.jsonl", slowed_by)
    config = process.TrainingConfig()
    watcher = Watcher(config.detector.watch(1), config.detector.warm_up, config.least_spread)
    tail = Tail(tmp_path / "metrics.jsonl", StreamConfig(time="step", values=(process.COLUMN, process.RULE)))
    points = tail.read(10_000)[0]
    assert len(points) == 200  # evaluations are of steps that were told already
    times = process.StepTimes()
    for point in points:
        watcher.take(times(point))
    alarms = [round(alarm["time"] / 4) - 1 for alarm in watcher.kept["alarms"]]
    if slowed_by == 1.0:
        assert alarms == []
    else:
        assert len(alarms) == 1 and 120 <= alarms[0] <= 125
        assert abs(watcher.kept["alarms"][0]["start"] - 120) <= 1


def test_delays_and_false_alarms_are_counted_from_the_change():
    seen = process.Watched(
        step=np.arange(1.0, 101.0),
        seconds=np.repeat([0.01, 0.03], [60, 40]),
        mass=np.zeros(100),
        rule=np.repeat([0.0, 1.0, 2.0], [20, 50, 30]),
        change=60,
        alarms=(10, 63),
        starts=(8, 61),
        answer_seconds=0.5,
    )
    metrics = process.measured(seen)
    assert metrics["slowdown_factor"] == pytest.approx(3.0)
    assert metrics["detection_delay"] == 3 and metrics["detected_fraction"] == 1 and metrics["start_error"] == 1
    assert metrics["false_alarms_per_1000"] == pytest.approx(1000 / 60)
    assert metrics["detection_delay_rule"] == 10 and metrics["false_alarms_per_1000_rule"] == pytest.approx(1000 / 60)
    silent = process.measured(seen._replace(alarms=(10,), starts=(8,), rule=np.zeros(100)))
    assert silent["detection_delay"] == 40 and silent["detected_fraction"] == silent["detected_fraction_rule"] == 0


TRAINING = [
    "experiment=language_model",
    "model.layers=1",
    "model.width=16",
    "model.sequence=16",
    "batch=8",
    "steps=480",
    "steps_per_dispatch=4",
    "log_every=4",
    "evaluate_every=480",
    "save_every=480",
    "validation_sequences=8",
    "sample.length=8",
]
LIVE = [
    "experiment=watched",
    "source=training",
    f"training.arguments={TRAINING}",  # a list of quoted strings: Hydra reads no bare = inside a list
    "training.change=50",
    "training.detector={warm_up: 20, window: 10, hold: 2, capacity: 32}",
]


@pytest.mark.slow
def test_a_training_is_watched_while_it_runs_and_slowed_down(call, tmp_path):
    """A tenth of the processor: the alarm comes. That none came before is for quiet machines; see the test above."""
    outcome = call(*LIVE, "hydra.run.dir=live")
    assert outcome.code == 0, outcome.err
    metrics = json.loads((tmp_path / "live" / "summary.json").read_text())["metrics"]
    assert metrics["points"] == 120 and 50 <= metrics["change_point"] < 120
    assert metrics["slowdown_factor"] > 2 and metrics["detected_fraction"] == 1
    assert metrics["detection_delay"] <= 10
    inner = json.loads((tmp_path / "live" / "training" / "summary.json").read_text())
    assert inner["metrics"]["steps"] == 480  # the training itself came to its end


@pytest.mark.slow
def test_an_interrupt_takes_the_training_down_with_it(call, tmp_path):
    def interrupt():
        while not over.wait(0.05):
            if (tmp_path / "live" / "training" / "metrics.jsonl").exists():
                signal.raise_signal(signal.SIGTERM)
                return

    over = threading.Event()
    thread = threading.Thread(target=interrupt)
    thread.start()
    outcome = call(*LIVE, "training.change=119", "hydra.run.dir=live")
    over.set()  # a run that ended by itself must not leave a signal to the tests
    thread.join()
    assert outcome.code == 130 and "resume=" in outcome.err[-1]
    assert not (tmp_path / "live" / "summary.json").exists()


def test_a_training_that_fails_says_why(tmp_path):
    with process.Training(("experiment=language_model", "modell.width=3"), tmp_path / "run") as training:
        tail = training.metrics(0.01, SimpleNamespace(requested=lambda: False))  # type: ignore[arg-type]
        assert tail is None
        with pytest.raises(process.JaxsciError, match=r"^training.arguments: the training failed: error: .*modell"):
            training.check()


def test_a_command_line_without_an_experiment_is_refused():
    with pytest.raises(ConfigError, match=r"^training.arguments: "):
        process.TrainingConfig(arguments=("steps=3",))

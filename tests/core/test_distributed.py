"""Joining processes: what the environment says, and two real processes on this machine."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import jax
import pytest

from jaxsci.core import distributed
from jaxsci.core.distributed import DistributedConfig
from jaxsci.core.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def joined(monkeypatch):
    """Records what `jax.distributed.initialize` is asked for, in place of joining."""
    asked = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda **arguments: asked.update(arguments))
    return asked


SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_LOCALID": "0", "SLURM_PROCID": "3"}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1",
}
JAX = {"JAX_COORDINATOR_ADDRESS": "host:99", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (JAX, ("host:99", 2, 1)),
        (OPEN_MPI, (None, 4, 1)),
        (SLURM | {"SLURM_NTASKS": "8"}, (None, 8, 3)),
        (SLURM | {"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "4"}, (None, 4, 3)),
        (SLURM | {"SLURM_NTASKS": "8", "JAX_COORDINATOR_ADDRESS": "host:99"}, ("host:99", 8, 3)),
    ],
)
def test_auto_joins_what_a_launcher_started(joined, environment, expected):
    assert distributed.start(DistributedConfig(), environment)
    assert (joined["coordinator_address"], joined["num_processes"], joined["process_id"]) == expected
    assert joined["heartbeat_timeout_seconds"] == 100


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
        SLURM | {"SLURM_NTASKS": "1"},
        SLURM
        | {
            "SLURM_NTASKS": "8",
            "SLURM_STEP_NUM_TASKS": "1",
        },  # a batch script: one process on a large allocation
    ],
)
def test_auto_leaves_a_single_process_alone(joined, environment):
    assert not distributed.start(DistributedConfig(), environment)
    assert not joined


def test_off_is_off(joined):
    assert not distributed.start(DistributedConfig(mode="off"), JAX)
    assert not joined


def test_config_overrides_the_launcher(joined):
    config = DistributedConfig(mode="on", coordinator="a:1", process_id=0, num_processes=3, heartbeat_timeout_seconds=7)
    assert distributed.start(config, JAX)
    assert (joined["coordinator_address"], joined["num_processes"], joined["process_id"]) == ("a:1", 3, 0)
    assert joined["heartbeat_timeout_seconds"] == 7


@pytest.mark.parametrize(
    ("config", "environment", "said"),
    [
        (DistributedConfig(mode="on"), {}, "missing distributed.num_processes .*variables seen: none"),
        (
            DistributedConfig(),
            {"JAX_COORDINATOR_ADDRESS": "h:1"},
            "process_id .*seen: JAX_COORDINATOR_ADDRESS",
        ),
        (
            DistributedConfig(),
            {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"},
            "missing distributed.coordinator=host:port .*seen: OMPI_COMM_WORLD_SIZE, OMPI_COMM_WORLD_RANK",
        ),
        (
            DistributedConfig(),
            SLURM | {"SLURM_NTASKS": "two"},
            "SLURM_NTASKS: expected a whole number, got 'two'",
        ),
    ],
)
def test_what_is_missing_is_named(joined, config, environment, said):
    with pytest.raises(ConfigError, match=said) as e:
        distributed.start(config, environment)
    assert not joined
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mode": "maybe"}, "^mode: "),
        ({"coordinator": "host"}, "^coordinator: expected host:port"),
        ({"num_processes": 0}, "^num_processes: "),
        ({"process_id": 2, "num_processes": 2}, "^process_id: expected a value below num_processes=2"),
        ({"heartbeat_timeout_seconds": 0}, "^heartbeat_timeout_seconds: "),
    ],
)
def test_refusals_name_the_field(fields, said):
    with pytest.raises(ConfigError, match=said):
        DistributedConfig(**fields)


def test_a_single_process_is_main_and_touches_no_device():
    program = """
from jax._src import xla_bridge
from jaxsci.core import distributed
assert not distributed.start(distributed.DistributedConfig(), {})
assert distributed.is_main()
distributed.barrier("here")
distributed.shutdown()
assert not xla_bridge.backends_are_initialized()
"""
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, timeout=120)


def start_two(program, *arguments, **pipes):
    """`tests.core.programs.<program> *arguments PORT INDEX`, with indices 0 and 1 and one device in each."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "XLA_FLAGS": ""}  # not the eight devices of the tests
    script = [sys.executable, "-m", f"tests.core.programs.{program}", *arguments, str(port)]
    return [
        subprocess.Popen([*script, str(index)], cwd=REPOSITORY, text=True, env=environment, **pipes)
        for index in range(2)
    ]


def test_one_that_fails_takes_the_other_along():
    processes = start_two("one_fails", stderr=subprocess.PIPE)
    try:
        said = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert processes[1].returncode == 1
    assert "RuntimeError: the second one falls" in said[1]
    assert processes[0].returncode != 0  # XLA's own end, once the heartbeat is missed


def test_two_processes(tmp_path):
    """Sum over both; train and save together; stop at the same step although only one is told to; restore."""
    processes = start_two("two_processes", str(tmp_path), stdout=subprocess.PIPE)
    lines = queue.Queue()

    def read(process):
        for line in process.stdout:
            lines.put(line.strip())
        lines.put("the end")

    try:
        for process in processes:
            threading.Thread(target=read, args=(process,), daemon=True).start()
        while (line := lines.get(timeout=120)) != "step 14":
            assert line != "the end", "a process ended before its time"
        processes[1].send_signal(signal.SIGTERM)
        assert [process.wait(timeout=120) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    first, second = (json.loads((tmp_path / f"process_{index}.json").read_text()) for index in range(2))

    assert (first["main"], second["main"]) == (True, False)
    for report in (first, second):
        assert report["joined"] and report["devices"] == 2
        assert report["psum"] == [3.0, 3.0, 3.0]
        assert report["interrupted"]
        assert report["result"] == f"interrupted at step {report['step']}; resume with resume={tmp_path}"
        assert report["fallback"] < report["step"]
        assert "['here']: it lives on one process only" in report["refused"]
    assert first["step"] == second["step"] >= 14

    # Both wrote their part of the checkpoints, and process 0 alone the metrics: every step once.
    parts = (tmp_path / "checkpoints" / str(first["step"]) / "arrays").glob("ocdbt.process_*")
    assert sorted(path.name for path in parts) == ["ocdbt.process_0", "ocdbt.process_1"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == list(range(2, first["step"] + 1, 2))

"""SIGTERM in the middle of training: saved, said how to go on, no summary of what is not finished; then resumed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

TINY = [
    "experiment=language_model",
    "mesh=all",
    "batch=16",
    "steps=400",
    "steps_per_dispatch=2",
    "log_every=2",
    "save_every=100",
    "evaluate_every=400",
    "validation_sequences=16",
    "model.layers=1",
    "model.width=16",
    "model.sequence=16",
    "sample.length=8",
    "optimizer.warmup_steps=0",
]


@pytest.mark.slow
def test_terminated_and_resumed(tmp_path):
    run = tmp_path / "run"
    environment = {**os.environ, "JAX_CPU_ENABLE_ASYNC_DISPATCH": "true"}
    command = [sys.executable, "-m", "experiments.run"]
    first = subprocess.Popen(
        [*command, *TINY, f"hydra.run.dir={run}"], env=environment, stderr=subprocess.PIPE, text=True
    )
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not (metrics.exists() and metrics.stat().st_size):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130
    assert f"resume={run}" in said.splitlines()[-1]
    assert not (run / "summary.json").exists()
    again = subprocess.run([*command, f"resume={run}"], env=environment, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert json.loads((run / "summary.json").read_text())["metrics"]["steps"] == 400
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines() if "loss" in json.loads(line)]
    assert steps == sorted(set(steps)) and steps[-1] == 400  # none twice, none missing at the end

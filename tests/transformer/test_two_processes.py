"""`experiment=language_model` in two processes of four devices each, from the text to the exported model."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
LIMIT = 240  # seconds until a process that hangs is killed
SETTINGS = [
    "experiment=language_model", "mesh=2x2x2", "steps=6", "steps_per_dispatch=2", "optimizer.warmup_steps=0",
    "log_every=2", "evaluate_every=4", "validation_sequences=16", "batch=16", "model.layers=2", "model.width=16",
    "model.sequence=16", "model.vocabulary=300", "sample.length=24", "data.tokenizer=bpe", "data.vocabulary=300",
]  # fmt: skip


def start(directory: Path, *more: str) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    environment.pop("JAX_CPU_ENABLE_ASYNC_DISPATCH", None)  # the run must see to it by itself
    environment |= {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "experiments.run", *SETTINGS, *more, f"hydra.run.dir={directory}"]
    return subprocess.Popen(
        command, env=environment, cwd=directory.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(*processes: subprocess.Popen) -> None:
    try:
        said = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * len(processes), said


def test_two_processes_train_export_and_sample_as_one(tmp_path):
    finish(start(tmp_path / "one"))
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    joined = ["cpu_devices=4", "distributed.mode=on", f"distributed.coordinator=localhost:{port}"]
    finish(
        *(
            start(tmp_path / "two", *joined, "distributed.num_processes=2", f"distributed.process_id={index}")
            for index in range(2)
        )
    )
    one, two = (json.loads((tmp_path / name / "summary.json").read_text())["metrics"] for name in ("one", "two"))
    assert one["devices"] == two["devices"] == 8
    # The same programs, sums between processes instead of threads.
    assert abs(one["validation_loss_nats"] - two["validation_loss_nats"]) < 1e-6
    lengths = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("one", "two")]
    assert lengths[0] == lengths[1] > 4 * one["parameters"]

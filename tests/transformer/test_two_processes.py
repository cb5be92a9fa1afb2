"""`experiment=language_model` in two processes of four devices each, from the text to the exported model."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
LIMIT = 240  # seconds until a process that hangs is killed
SETTINGS = [
    "experiment=language_model", "mesh=2x2x2", "steps=6", "steps_per_dispatch=2", "optimizer.warmup_steps=0",
    "log_every=2", "evaluate_every=4", "validation_sequences=16", "batch=16", "model.layers=2", "model.width=16",
    "model.sequence=16", "model.vocabulary=300", "sample.length=24", "data.tokenizer=bpe", "data.vocabulary=300",
]  # fmt: skip


def start(directory: Path, name: str, *more: str) -> tuple[subprocess.Popen, Path]:
    """The process and the file with what it says."""
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}
    environment.pop("JAX_CPU_ENABLE_ASYNC_DISPATCH", None)  # the run must see to it by itself
    environment |= {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "experiments.run", *SETTINGS, *more, f"hydra.run.dir={directory}"]
    said = directory.parent / f"{name}.said"
    with said.open("w") as file:
        process = subprocess.Popen(command, env=environment, cwd=directory.parent, stdout=file, stderr=file)
    return process, said


def finish(*started: tuple[subprocess.Popen, Path]) -> None:
    """Wait for all. The first that fails leaves the others waiting for it, so its words are what is shown."""
    began = time.monotonic()
    processes = [process for process, _ in started]
    try:
        while any(process.poll() is None for process in processes) and time.monotonic() - began < LIMIT:
            if any(process.poll() for process in processes):
                break
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
    codes = [process.wait() for process in processes]
    assert codes == [0] * len(processes), (codes, *(said.read_text()[-4000:] for _, said in started))


def test_two_processes_train_export_and_sample_as_one(tmp_path):
    finish(start(tmp_path / "one", "one"))
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    joined = ["cpu_devices=4", "distributed.mode=on", f"distributed.coordinator=localhost:{port}"]
    finish(
        *(
            start(
                tmp_path / "two",
                f"two{index}",
                *joined,
                "distributed.num_processes=2",
                f"distributed.process_id={index}",
            )
            for index in range(2)
        )
    )
    one, two = (json.loads((tmp_path / name / "summary.json").read_text())["metrics"] for name in ("one", "two"))
    assert one["devices"] == two["devices"] == 8
    # The same programs, sums between processes instead of threads.
    assert abs(one["validation_loss_nats"] - two["validation_loss_nats"]) < 1e-6
    lengths = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("one", "two")]
    assert lengths[0] == lengths[1] > 4 * one["parameters"]

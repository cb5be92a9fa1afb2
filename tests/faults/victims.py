"""Experiments to be disturbed: small, with state on disk, and how to run, watch and compare them."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxsci.core.summary import read_summary

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 600  # seconds for a child on a busy machine

_spec = importlib.util.spec_from_file_location("tiny_experiments", REPOSITORY / "tests/experiments/conftest.py")
assert _spec is not None and _spec.loader is not None
tiny = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tiny)
call = tiny.call_main

OF_THE_CLOCK = re.compile("second|per_s|speed|mfu|hfu|goodput|replayed|_bytes|rate")
PROGRESS = re.compile(r"[\w ]+: [\d,]+/[\d,]+\b")

# Every way of keeping state: checkpoints of a training, stages, ledgers, logs, positions in a stream.
VICTIMS: dict[str, list[str]] = {
    "racing": ["experiment=racing", "target.steps=100", "tuner=random", "budget=60", "ablation=0", "test_seeds=1"],
    "language_model": [
        "experiment=language_model",
        *(line for line in tiny.TINY["language_model"] if not line.startswith(("steps", "evaluate_every"))),
        "steps=24",
        "steps_per_dispatch=2",
        "save_every=6",
        "evaluate_every=12",
    ],
    **{
        name: [f"experiment={name}", *tiny.TINY[name]]
        for name in ("bayesnas", "diffraction_continual", "stabilized_ode", "reduced_order", "workflow_active")
    },
}


def stream(path: Path, rows: int = 400) -> list[str]:
    """A stream in a file, and the experiment that watches it."""
    lines = [f"{t},{t % 7 + (20 if t > rows // 2 else 0)}" for t in range(rows)]
    path.write_text("time,value\n" + "\n".join(lines) + "\n")
    return [
        "experiment=drift",
        "source=tail",
        f"path={path}",
        "detector.capacity=32",
        "tail.chunk=10",
        "tail.save_every=20",
    ]


def started(overrides: Sequence[str], directory: Path | None = None) -> subprocess.Popen:
    """A child that runs an experiment; what it says goes to `said.txt` beside the directory."""
    command = [sys.executable, "-m", "experiments.run", *overrides]
    where = Path(overrides[0].removeprefix("resume=")) if directory is None else directory
    if directory is not None:
        command.append(f"hydra.run.dir={directory}")
    with where.with_name("said.txt").open("w") as said:
        return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=said)


def signalled(child: subprocess.Popen, directory: Path, number: int, changes: int) -> int:
    """Send a signal when the run directory has changed so often; returns how the child ended."""
    seen, last = 0, None
    try:
        while child.poll() is None and seen < changes:
            now = _state(directory)
            if now and now != last:
                seen, last = seen + 1, now
            time.sleep(0.001)
        if child.poll() is None:
            child.send_signal(number)
        return child.wait()
    finally:  # where the test was stopped because it took too long
        child.kill()
        child.wait()


def killed(overrides: Sequence[str], directory: Path, changes: Sequence[int]) -> int:
    """Start the run, kill it, resume it, kill it again ...; returns how many times it was alive to be killed."""
    dead = 0
    for after in changes:
        child = started([f"resume={directory}"]) if resumable(directory) else started(overrides, directory)
        dead += signalled(child, directory, signal.SIGKILL, after) == -signal.SIGKILL
    return dead


def finish(overrides: Sequence[str], directory: Path) -> Any:
    """Resume the run, or start it where it had not begun to write, within this process."""
    if resumable(directory):
        return call(f"resume={directory}")
    return call(*overrides, f"hydra.run.dir={directory}")


def complaint(outcome: Any) -> str:
    """The one line that a refused run said besides its progress."""
    said = [line for line in outcome.err if not PROGRESS.match(line)]
    assert outcome.code == 2 and len(said) == 1, (outcome.code, said)
    return said[0]


def resumable(directory: Path) -> bool:
    return (directory / "overrides.yaml").exists()


def results(directory: Path) -> dict[str, float]:
    """The metrics, less those that a clock gave."""
    return {k: v for k, v in read_summary(directory / "summary.json").metrics.items() if not OF_THE_CLOCK.search(k)}


def steps_are_in_order(directory: Path) -> bool:
    """No step of a metric twice, none before an earlier one."""
    path = directory / "metrics.jsonl"
    seen: dict[str, list[int]] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        row = json.loads(line)
        for name in row.keys() - {"step"}:
            seen.setdefault(name, []).append(row["step"])
    return all(steps == sorted(set(steps)) for steps in seen.values())


def unfinished(directory: Path) -> list[str]:
    """Files that a write left half done."""
    return sorted(path.name for path in directory.rglob("*") if path.name.endswith((".unfinished", ".part")))


def _state(directory: Path) -> tuple:
    found = []
    for folder, _, files in os.walk(directory):
        for name in files:
            try:
                found.append((folder, name, os.stat(os.path.join(folder, name)).st_mtime_ns))
            except FileNotFoundError:
                continue
    return tuple(sorted(found))

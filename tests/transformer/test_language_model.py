"""The language model through the command line: a tiny run, its resumption on another mesh, and refusals."""

import io
import json
import random
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from restored import settings_restored

from experiments import language_model, run
from jaxsci.core.trainstep import HostStep
from jaxsci.transformer import safetensors

TINY = (
    "experiment=language_model",
    "model.layers=3",
    "model.width=32",
    "model.heads=4",
    "model.sequence=16",
    "batch=16",
    "steps=8",
    "steps_per_dispatch=2",
    "log_every=2",
    "evaluate_every=4",
    "validation_sequences=16",
    "save_every=4",
    "sample.count=2",
    "sample.length=8",
    "optimizer.warmup_steps=2",
    "optimizer.learning_rate=1e-2",
    "health.window=8",
)
PIPELINE = ("mesh.data=1", "mesh.fsdp=2", "mesh.pipe=2", "mesh.tensor=2", "parallel.microbatches=2")


class Outcome(NamedTuple):
    code: int
    out: list[str]
    err: list[str]


def call(*arguments: str) -> Outcome:
    """`python -m experiments.run ARGUMENTS` without the process around it; its settings are taken back."""
    out, err = io.StringIO(), io.StringIO()
    with settings_restored(), redirect_stdout(out), redirect_stderr(err):
        code = run.main(arguments)
    return Outcome(code, out.getvalue().splitlines(), err.getvalue().splitlines())


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    """Words in no order: there is something to learn about letters."""
    path, draw = tmp_path_factory.mktemp("text") / "words.txt", random.Random(0)
    words = ["the", "sea", "sees", "a", "tree", "that", "eats", "tea"]
    path.write_text(" ".join(draw.choice(words) for _ in range(4000)))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory, text) -> tuple[Path, Outcome]:
    """A tiny run on a mesh with stages, made once."""
    directory = tmp_path_factory.mktemp("finished") / "run"
    return directory, call(*TINY, *PIPELINE, f"data.path={text}", f"hydra.run.dir={directory}")


def rows(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_a_tiny_run_leaves_everything_behind(finished):
    directory, outcome = finished
    assert outcome.code == 0, outcome.err
    summary = json.loads((directory / "summary.json").read_text())
    metrics = summary["metrics"]
    assert metrics["steps"] == 8 and metrics["devices"] == 8 and metrics["rollbacks"] == 0
    # From a uniform guess over 256 bytes, ln 256 = 5.55, towards what is known of 9 characters: ln 9 = 2.2.
    assert 1.0 < metrics["validation_loss_nats"] < 4.5
    assert metrics["tokens_per_second"] > 0 and 0 < metrics["mfu"] < 1
    seen = rows(directory)
    assert [row["step"] for row in seen if "loss" in row] == [2, 4, 6, 8]
    assert [row["step"] for row in seen if "validation_loss" in row] == [4, 8]
    assert all(row["slow_dispatches"] == 0 for row in seen if "loss" in row)  # too few dispatches for a median
    assert seen[0]["loss"] == pytest.approx(np.log(256), abs=0.3)
    assert (directory / "report.html").read_text().count("Sample ") >= 2
    tensors, _ = safetensors.read(directory / "model.safetensors")
    assert tensors["embed"].shape == (256, 32) and tensors["blocks.2.attention.qkv"].shape == (32, 4, 3, 8)
    assert "blocks.3.attention.qkv" not in tensors  # the fourth stored layer is padding
    assert sum(a.size for a in tensors.values()) == metrics["parameters"]


@pytest.mark.slow
def test_resumed_on_another_mesh_the_run_goes_on(finished, tmp_path, text):
    """Eight steps on one mesh and four more on another are twelve on the first."""
    directory, _ = finished
    start = (*TINY, *PIPELINE, "optimizer.schedule=constant", f"data.path={text}")
    whole = call(*start, "steps=12", f"hydra.run.dir={tmp_path}/w")
    first = call(*start, f"hydra.run.dir={tmp_path}/p")
    other = ("mesh.data=2", "mesh.fsdp=1", "mesh.pipe=1", "mesh.tensor=4", "steps=12")
    second = call(f"resume={tmp_path}/p", *other)
    assert [outcome.code for outcome in (whole, first, second)] == [0, 0, 0], second.err
    a, b = ({row["step"]: row["loss"] for row in rows(tmp_path / name) if "loss" in row} for name in "wp")
    assert sorted(a) == sorted(b) == [2, 4, 6, 8, 10, 12]
    # float32 sums in another order; the bound of the whole system's parity.
    np.testing.assert_allclose([b[n] for n in sorted(b)], [a[n] for n in sorted(a)], atol=1e-4, rtol=0)


@pytest.fixture
def nothing_computed(monkeypatch):
    """Fails the test when a program of the model is made."""

    def refuse(*_, **__):
        raise AssertionError("a program was made before the refusal")

    monkeypatch.setattr(language_model, "init_state", refuse)
    monkeypatch.setattr(HostStep, "compile", refuse)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("mesh.data=3",), "error: mesh: data=3 does not fit the 8 devices available"),
        (("mesh.tensor=8",), "error: mesh.tensor: 8 does not divide model.heads 4"),
        (("mesh.pipe=8",), "error: mesh.pipe: 8 stages x 1 chunks exceed model.layers 3"),
        (("batch=12",), "error: batch: a micro-batch of 12 sequences does not split over data x fsdp = 8"),
        (("model.heads=5",), "error: model.heads: expected a divisor of width 32, got 5"),
        (("model.vocabulary=100",), "error: model.vocabulary: expected 256 or more for this tokenizer, got 100"),
        (("model.sequence=65536",), "error: data.path: the train part has"),
        (("health.spike_factor=0.5",), "error: health.spike_factor: expected above 1, or null, got 0.5"),
        (("data.path=nowhere.txt",), "error: data.path: no such file: nowhere.txt"),
        (("optimizer.warmup_steps=9",), "error: "),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(tmp_path, monkeypatch, nothing_computed, text, overrides, said):
    monkeypatch.chdir(tmp_path)
    outcome = call(*TINY, f"data.path={text}", *overrides, f"hydra.run.dir={tmp_path}/run")
    assert outcome.code == 2
    assert len(outcome.err) == 1 and outcome.err[0].startswith(said), outcome.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty; expected text"),
        (bytes(range(256)) * 100, "looks binary"),
        (b"too short", "tokens, a sequence of 16 needs 17; give a longer text or a smaller model.sequence"),
    ],
)
def test_files_that_are_no_text_are_refused_in_one_line(tmp_path, nothing_computed, content, said):
    (tmp_path / "file").write_bytes(content)
    outcome = call(*TINY, f"data.path={tmp_path}/file", f"hydra.run.dir={tmp_path}/run")
    assert outcome.code == 2
    assert len(outcome.err) == 1 and outcome.err[0].startswith("error: data.path: ") and said in outcome.err[0]
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_another_model_is_refused_in_one_line(finished, nothing_computed):
    directory, _ = finished
    outcome = call(f"resume={directory}", "model.layers=4", "steps=12")
    assert outcome.code == 2
    assert len(outcome.err) == 1
    assert outcome.err[0].startswith(f"error: checkpoints in {directory}/checkpoints are of another model")
    assert "expected model.layers=4, got 3" in outcome.err[0]

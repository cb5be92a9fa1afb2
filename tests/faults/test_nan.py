"""Runs on data with numbers that are none: refused in one line, or every metric is a number nonetheless."""

import io
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import array_files
import damage
import numpy as np
import pytest
import text_files
import victims

from jaxsci.core.summary import read_summary

pytestmark = pytest.mark.timeout(1800)
KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one NaN": damage.CHANGES["nan"][1],
    "one infinity": damage.CHANGES["inf"][1],
    "all NaN": damage.CHANGES["all nan"][1],
}


def tiny(name: str, *without: str) -> list[str]:
    kept = [line for line in victims.tiny.TINY[name] if not line.startswith(without or ("-",))]
    return [f"experiment={name}", *kept]


def packaged_field() -> bytes:
    return Path(str(victims.tiny.PACKAGED_FIELD)).read_bytes()


# Experiment, the key of its data, a sound file, and the array to spoil.
SPOILED = {
    "assimilation": (tiny("assimilation"), "data.path", packaged_field, "z500_m"),
    "workflow_ssl": (
        tiny("workflow_ssl"),
        "data.path",
        lambda: text_files.data("jaxsci.workflows", "eht_smili.npz"),
        "x",
    ),
    "phase_retrieval": (
        tiny("phase_retrieval"),
        "data.path",
        lambda: damage.packed({"intensity": array_files.intensity().astype(float)}),
        "intensity",
    ),
    "stabilized_ode": (tiny("stabilized_ode", "data."), "data.path", array_files.trajectories, "u"),
    "nas_oracle": (
        tiny("nas_oracle"),
        "path",
        lambda: text_files.data("jaxsci.bayesnas", "nasbench201.npz"),
        "test_acc_200ep",
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPOILED)
def test_arrays_with_numbers_that_are_none(name, kind, tmp_path, cases):
    overrides, key, sound, array = SPOILED[name]
    with np.load(io.BytesIO(sound())) as archive:
        content = {entry: archive[entry] for entry in archive.files}
    content[array] = KINDS[kind](content[array])
    (tmp_path / "data.npz").write_bytes(damage.packed(content))
    judge([*overrides, f"{key}={tmp_path / 'data.npz'}"], tmp_path / "run", cases)


@pytest.mark.parametrize("cell", ["nan", "inf", "", "-1e308", "text"])
@pytest.mark.parametrize("share", [0.05, 1.0])
def test_tables_with_numbers_that_are_none(cell, share, tmp_path, cases):
    """Of a stream every 20th value, or each."""
    overrides = victims.stream(tmp_path / "stream.csv")
    lines = (tmp_path / "stream.csv").read_text().splitlines()
    every = round(1 / share)
    spoiled = [f"{line.split(',')[0]},{cell}" if n % every == 0 and n else line for n, line in enumerate(lines)]
    (tmp_path / "stream.csv").write_text("\n".join(spoiled) + "\n")
    judge([*overrides, "stream.values=[value]"], tmp_path / "run", cases)


def judge(command: list[str], directory: Path, cases: Counter) -> None:
    outcome = victims.call(*command, f"hydra.run.dir={directory}")
    if outcome.code == 0:
        assert all(math.isfinite(value) for value in read_summary(directory / "summary.json").metrics.values())
        cases["data with NaN or infinity", "ran, metrics finite"] += 1
    else:
        assert victims.complaint(outcome)
        assert not (directory / "summary.json").exists()
        cases["data with NaN or infinity", "refused in one line"] += 1

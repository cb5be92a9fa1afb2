"""Every file of a run directory cut short: resumed, the run ends as it should, or says in one line what is broken."""

import shutil
import warnings
from pathlib import Path

import damage
import jax.numpy as jnp
import numpy as np
import pytest
import victims
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.errors import CheckpointError

pytestmark = pytest.mark.timeout(1800)
PARTS = (0.0, 0.5)


def state(step: int) -> dict:
    values = np.random.default_rng(step).standard_normal((64, 16), np.float32)
    return {"weights": jnp.asarray(values), "step": jnp.asarray(step)}


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "checkpoints"
    with Checkpoints(directory, asynchronous=False) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, state(step), {"step": step})
    return directory


def restored(directory: Path) -> str:
    """What comes back is one of the states that were saved, whole; or nothing does, in one line."""
    with warnings.catch_warnings(), Checkpoints(directory) as checkpoints:
        warnings.simplefilter("ignore")
        try:
            found = checkpoints.restore_latest(state(0))
        except CheckpointError as error:
            assert "\n" not in str(error) and "damaged" in str(error)
            return "refused in one line"
    assert found is not None
    tree, step, extra = found
    assert extra == {"step": step}
    np.testing.assert_array_equal(tree["weights"], state(step)["weights"])
    return {2: "read", 1: "the one before"}[step]


def files_of(directory: Path, step: int) -> list[Path]:
    return sorted(path for path in (directory / str(step)).rglob("*") if path.is_file())


def test_every_file_of_a_checkpoint_cut_short(saved, tmp_path, cases):
    for file in files_of(saved, 2):
        content = file.read_bytes()
        for length in sorted({int(part * len(content)) for part in (*PARTS, 0.1, 0.9)} | {max(len(content) - 1, 0)}):
            copy = tmp_path / "copy"
            shutil.copytree(saved, copy)
            (copy / file.relative_to(saved)).write_bytes(content[:length])
            cases["checkpoint file truncated", restored(copy)] += 1
            shutil.rmtree(copy)


def test_every_file_of_a_checkpoint_gone(saved, tmp_path, cases):
    for file in files_of(saved, 2):
        copy = tmp_path / "copy"
        shutil.copytree(saved, copy)
        (copy / file.relative_to(saved)).unlink()
        cases["checkpoint file lost", restored(copy)] += 1
        shutil.rmtree(copy)


def test_bytes_of_a_checkpoint_broken(saved, tmp_path, cases):
    """Silent damage is found by the fingerprints: what is restored is exactly what was saved."""
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    files = [file for file in files_of(copy, 2) if file.stat().st_size]
    sound = {file: file.read_bytes() for file in files}

    @settings(max_examples=200, derandomize=True, database=None, deadline=None, suppress_health_check=damage.UNCHECKED)
    @given(st.sampled_from(files).flatmap(lambda file: st.tuples(st.just(file), damage.of_bytes(sound[file]))))
    def broken(drawn: tuple[Path, damage.Damage]) -> None:
        file, one = drawn
        file.write_bytes(one.content)
        cases[f"checkpoint: {one.kind}", restored(copy)] += 1
        file.write_bytes(sound[file])

    broken()


@pytest.mark.parametrize("name", ["racing", "bayesnas", "stream"])
def test_every_file_of_a_run_directory_cut_short(name, tmp_path, cases):
    """The largest and the smallest of each kind of file stand for the rest."""
    overrides = victims.stream(tmp_path / "stream.csv") if name == "stream" else victims.VICTIMS[name]
    alone, copy = tmp_path / "alone", tmp_path / "copy"
    assert victims.call(*overrides, f"hydra.run.dir={alone}").code == 0
    for file in chosen(alone):
        content = file.read_bytes()
        for part in PARTS:
            shutil.copytree(alone, copy)
            (copy / file.relative_to(alone)).write_bytes(content[: int(part * len(content))])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcome = victims.call(f"resume={copy}")
            if outcome.code == 0:
                assert victims.results(copy) == victims.results(alone)
                assert victims.steps_are_in_order(copy)
                cases["run file truncated", "resumed, nothing lost"] += 1
            else:
                assert victims.complaint(outcome), file
                cases["run file truncated", "refused in one line"] += 1
            shutil.rmtree(copy)


def chosen(directory: Path) -> list[Path]:
    kinds: dict[str, list[Path]] = {}
    for path in directory.rglob("*"):
        if path.is_file() and "figures" not in path.parts:
            inside = "checkpoints" in path.parts and path.suffix != ".npz"
            kinds.setdefault("checkpoint" if inside else path.suffix or path.name, []).append(path)
    picked = {pick(paths, key=lambda p: p.stat().st_size) for paths in kinds.values() for pick in (min, max)}
    return sorted(picked)

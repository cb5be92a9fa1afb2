"""Checkpoints: round trips, damage of every kind, other models, other meshes."""

import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.errors import CheckpointError, ConfigError
from jaxsci.core.mesh import MeshConfig, make_mesh


class Pair(NamedTuple):
    left: jax.Array
    right: tuple


def tree(seed=0):
    """A leaf of every kind that a training state may hold."""
    key = jax.random.key(seed)
    return {
        "pair": Pair(jax.random.normal(key, (64, 32)), (jnp.int32(seed), jnp.arange(6).reshape(2, 3) % 2 == 0)),
        "half": jax.random.normal(key, (5,), jnp.bfloat16),
        "complex": jnp.array([1 + 2j, -3j], jnp.complex64),
        "empty": jnp.zeros((0, 3)),
        "keys": jax.random.split(key, 4),
        "other key": jax.random.key(seed, impl="rbg"),
    }


def identical(a, b):
    def same(x, y):
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        return x.dtype == y.dtype and bool(jnp.array_equal(x, y))

    return jax.tree.structure(a) == jax.tree.structure(b) and jax.tree.all(jax.tree.map(same, a, b))


@pytest.fixture
def saved(tmp_path):
    """Checkpoints 1, 2 and 3, each with its own contents."""
    with Checkpoints(tmp_path / "run" / "checkpoints") as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, tree(step), {"rollbacks": step, "note": "µ"})
        checkpoints.wait()
        yield checkpoints


def latest(checkpoints, like, *, shardings=None):
    restored = checkpoints.restore_latest(like, shardings=shardings)
    assert restored is not None, "there is no checkpoint"
    return restored


def data_file(checkpoints, step):
    """The file that holds the largest array of a checkpoint."""
    files = (checkpoints.directory / str(step) / "arrays").rglob("d/*")
    return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("abstract", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_round_trip_of_every_kind_of_leaf(tmp_path, abstract, asynchronous):
    like = tree(9)
    if abstract:
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), like)
    with Checkpoints(tmp_path, asynchronous=asynchronous) as checkpoints:
        checkpoints.save(7, tree(1), {"a": [1, None]})
        restored, step, extra = latest(checkpoints, like)
    assert (step, extra) == (7, {"a": [1, None]})
    assert identical(restored, tree(1))
    assert jax.random.key_impl(restored["other key"]) == "rbg"


def test_float64(tmp_path):
    with jax.enable_x64(True), Checkpoints(tmp_path) as checkpoints:
        value = {"x": jnp.linspace(0.0, 1.0, 7)}
        assert value["x"].dtype == jnp.float64
        checkpoints.save(1, value)
        assert identical(latest(checkpoints, value)[0], value)


def test_keeps_the_last_and_creates_nothing_before_the_first(tmp_path):
    directory = tmp_path / "run" / "checkpoints"
    with Checkpoints(directory, keep=2) as checkpoints:
        assert checkpoints.restore_latest(tree()) is None
        assert not directory.parent.exists()
        for step in range(5):
            checkpoints.save(step, {"x": jnp.ones(2)})
        assert checkpoints.steps() == [3, 4]
    with pytest.raises(ConfigError, match="^keep: "):
        Checkpoints(directory, keep=0)


def test_a_step_saved_again_is_replaced(saved):
    saved.save(3, tree(8))
    assert saved.steps() == [1, 2, 3]
    assert identical(latest(saved, tree())[0], tree(8))


def truncate_data(checkpoints, step):
    path = data_file(checkpoints, step)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_bits_in_data(checkpoints, step):
    path = data_file(checkpoints, step)
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 0x10
    path.write_bytes(contents)


def empty_data(checkpoints, step):
    data_file(checkpoints, step).write_bytes(b"")


def remove_arrays(checkpoints, step):
    shutil.rmtree(checkpoints.directory / str(step) / "arrays")


def remove_everything(checkpoints, step):
    for path in (checkpoints.directory / str(step)).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def truncate_manifest(checkpoints, step):
    path = checkpoints.directory / str(step) / "manifest" / "metadata"
    path.write_text(path.read_text()[:-30])


def change_a_digit_of_the_manifest(checkpoints, step):
    path = checkpoints.directory / str(step) / "manifest" / "metadata"
    path.write_text(path.read_text().replace('"rollbacks": 3', '"rollbacks": 2'))


DAMAGE = [
    truncate_data,
    flip_bits_in_data,
    empty_data,
    remove_arrays,
    remove_everything,
    truncate_manifest,
    change_a_digit_of_the_manifest,
]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("reopened", [False, True])
def test_a_damaged_newest_falls_back_with_a_warning_that_names_it(saved, damage, reopened):
    damage(saved, 3)
    if reopened:  # as by the next process, whose orbax has not seen the checkpoints being written
        saved.close()
        saved = Checkpoints(saved.directory)
    with pytest.warns(UserWarning, match=re.escape(f"checkpoint {saved.directory / '3'} is damaged")):
        restored, step, extra = latest(saved, tree())
    assert (step, extra["rollbacks"]) == (2, 2)
    assert identical(restored, tree(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saved.save(3, tree(4))  # the run comes to the same step again
        assert identical(latest(saved, tree())[0], tree(4))
        saved.close()


def test_no_flipped_bit_ever_changes_what_is_restored(tmp_path):
    """Wherever it falls: the layers below refuse it, or the fingerprint differs, or nothing depends on it."""
    value = {"x": jax.random.normal(jax.random.key(0), (400,)), "n": jnp.arange(3)}
    rng = np.random.default_rng(0)
    verdicts = {"layers below": 0, "fingerprint": 0, "harmless": 0}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, value)
        checkpoints.wait()
        for path in (path for path in (tmp_path / "1").rglob("*") if path.is_file()):
            contents = path.read_bytes()
            for where in rng.integers(0, len(contents), 12):
                flipped = bytearray(contents)
                flipped[where] ^= 1 << rng.integers(8)
                path.write_bytes(flipped)
                try:
                    with warnings.catch_warnings(action="ignore"):
                        restored, *_ = latest(checkpoints, value)
                except CheckpointError as error:
                    verdicts["fingerprint" if "have changed" in str(error) else "layers below"] += 1
                else:
                    assert identical(restored, value), f"byte {where} of {path}"
                    verdicts["harmless"] += 1
            path.write_bytes(contents)
    assert all(verdicts.values()), verdicts  # each occurs, so this has put the fingerprint to the test


def test_all_damaged(saved):
    for step in (1, 2, 3):
        truncate_manifest(saved, step)
    with (
        pytest.warns(UserWarning),
        pytest.raises(CheckpointError, match=r"3 \(.*2 \(.*1 \(.*remove the directory") as e,
    ):
        latest(saved, tree())
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"half": jnp.zeros(6, jnp.bfloat16)}, r"\['half'\] to be bfloat16\[6\], got bfloat16\[5\]"),
        ({"half": jnp.zeros(5)}, r"\['half'\] to be float32\[5\], got bfloat16\[5\]"),
        ({"more": jnp.zeros(5)}, r"\['more'\] to be float32\[5\], got nothing"),
        ({"half": None}, r"\['half'\] to be absent, got bfloat16\[5\]"),
        ({"keys": jnp.zeros((4, 2), jnp.uint32)}, r"\['keys'\] to be uint32\[4,2\], got key<fry>\[4\]"),
    ],
)
def test_another_model_is_not_damage(saved, change, said):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match=said) as e:
            latest(saved, tree() | change)
    assert "\n" not in str(e.value)


def test_restores_onto_another_mesh(tmp_path):
    value = {
        "w": jax.random.normal(jax.random.key(0), (16, 8)),
        "keys": jax.random.split(jax.random.key(1), 8),
    }
    spec = {"w": PartitionSpec("fsdp", "tensor"), "keys": PartitionSpec("fsdp")}

    def shardings(mesh):
        return {name: NamedSharding(mesh, spec[name]) for name in spec}

    first = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    second = make_mesh(MeshConfig(data=1, fsdp=2, tensor=1), devices=jax.devices()[3:5])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, jax.device_put(value, shardings(first)))
        like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), value)
        restored, *_ = latest(checkpoints, like, shardings=shardings(second))
        assert identical(restored, value)
        assert restored["w"].sharding == NamedSharding(second, spec["w"])
        assert restored["keys"].sharding.is_equivalent_to(NamedSharding(second, spec["keys"]), 1)

        # `like` itself may say where; and one sharding may stand for all.
        placed = jax.device_put(value, shardings(first))
        assert latest(checkpoints, placed)[0]["w"].sharding == placed["w"].sharding
        everywhere = NamedSharding(first, PartitionSpec())
        assert latest(checkpoints, like, shardings=everywhere)[0]["w"].sharding == everywhere


def test_donated_buffers_do_not_leak_into_a_write_in_progress(tmp_path):
    """The state saved is at once overwritten in place, as by training; the files must hold the old one."""
    advance = jax.jit(lambda x: x * 1.5 + 1, donate_argnums=0)
    x = jnp.arange(200_000.0)
    with Checkpoints(tmp_path, keep=10) as checkpoints:
        for step in range(8):
            checkpoints.save(step, {"x": x})
            x = advance(x)
        for step in reversed(range(8)):
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a changed array would be reported as damage
                assert latest(checkpoints, {"x": x})[1] == step
            checkpoints.wait()
            shutil.rmtree(tmp_path / str(step))


def test_a_write_that_was_cut_off_leaves_no_checkpoint(tmp_path):
    """Die in the middle of the write: the step's directory has not appeared, and the next start cleans up."""
    program = """
import os, sys
import jax.numpy as jnp
from jaxsci.core.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1])
checkpoints.save(1, {"x": jnp.ones(3)})
checkpoints.wait()
checkpoints.save(2, {"x": jnp.ones(4_000_000)})
os._exit(9)
"""
    arguments = [sys.executable, "-c", program, str(tmp_path / "checkpoints")]
    assert subprocess.run(arguments, cwd=Path(__file__).parents[2], timeout=120).returncode == 9
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        assert checkpoints.steps() == [1]
        checkpoints.save(3, {"x": jnp.zeros(3)})
        assert checkpoints.steps() == [1, 3]
        checkpoints.wait()
        assert sorted(path.name for path in checkpoints.directory.iterdir()) == ["1", "3"]

"""A run goes on wherever it is resumed: on another mesh, after a kill, with another number of processes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
import train_tiny
import transformer_cases as cases
from jax.sharding import PartitionSpec as P

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.errors import CheckpointError
from jaxsci.transformer.layout import layout
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.resume import MeshCheckpoints, fitting

PROGRAM = Path(train_tiny.__file__)
REPOSITORY = PROGRAM.parents[2]
FIRST = (1, 2, 2, 2)  # six stored layers, 256 stored rows
LIMIT = 240  # seconds until a process that hangs is killed


def program(*arguments, devices=8):
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment |= {"JAX_NUM_CPU_DEVICES": str(devices), "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The losses of the run that nothing interrupts."""
    return train_tiny.train(tmp_path_factory.mktemp("undisturbed"), FIRST)[1]


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The directory of a run killed at a random step, and that step."""
    directory, at_step = tmp_path_factory.mktemp("killed"), int(np.random.default_rng().integers(6, 27))
    with program(directory, ",".join(map(str, FIRST)), -at_step) as process:
        assert process.stdout is not None
        overdue = threading.Timer(LIMIT, process.kill)
        overdue.start()
        for line in process.stdout:
            if line.strip() == f"step {at_step}":
                process.send_signal(signal.SIGKILL)
        process.wait()
        overdue.cancel()
    assert process.returncode == -signal.SIGKILL
    return directory, at_step


@pytest.mark.slow
@pytest.mark.parametrize("shape", [FIRST, (2, 1, 1, 4), (2, 1, 4, 1)])
def test_killed_at_a_random_step_and_resumed_on_another_mesh(tmp_path, undisturbed, killed, shape):
    """The last mesh stores eight layers and 128 rows; the second six and 512."""
    directory, at_step = killed
    shutil.copytree(directory, tmp_path / "run")
    done, losses = train_tiny.train(tmp_path / "run", shape)
    resumed_from = done.stats["resumed_from"]
    # The newest checkpoint may have been in the middle of being written; then it is the one before, or none.
    assert resumed_from in (None, *range(4, at_step + 1, 4)), f"killed at {at_step}"
    assert sorted(losses) == list(range((resumed_from or 0) + 1, train_tiny.STEPS + 1))
    # Sums in another order, through the remaining steps of Adam; measured 5e-7.
    np.testing.assert_allclose([losses[n] for n in losses], [undisturbed[n] for n in losses], atol=1e-5, rtol=0)
    assert undisturbed[1] - undisturbed[train_tiny.STEPS] > 0.2  # nats: it is a curve, no plateau


@pytest.mark.slow
def test_two_processes_equal_one_and_one_goes_on_from_them(tmp_path, undisturbed):
    """Four devices each, each loading its own rows; both write the checkpoint that this process then resumes."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    both = [program(tmp_path, ",".join(map(str, FIRST)), 14, port, index, devices=4) for index in range(2)]
    overdue = threading.Timer(LIMIT, lambda: [process.kill() for process in both])
    overdue.start()
    said = [process.communicate() for process in both]
    overdue.cancel()
    assert [process.returncode for process in both] == [0, 0], said
    first, second = (
        {int(n): loss for n, loss in json.loads((tmp_path / f"losses_{index}.json").read_text()).items()}
        for index in range(2)
    )
    assert first == second and sorted(first) == list(range(1, 15))
    # The same programs, sums between processes instead of threads.
    np.testing.assert_allclose(list(first.values()), [undisturbed[n] for n in first], atol=1e-6, rtol=0)
    done, rest = train_tiny.train(tmp_path, (2, 1, 1, 4))
    assert done.stats["resumed_from"] == 14
    np.testing.assert_allclose([rest[n] for n in rest], [undisturbed[n] for n in rest], atol=1e-5, rtol=0)


def state(model, shape, plan=cases.ParallelConfig()):  # noqa: B008
    return cases.placed(model, plan, cases.mesh(shape))


@pytest.mark.parametrize("there", [(1, 1, 1, 8), (2, 1, 4, 1), (8, 1, 1, 1)])
def test_parameters_keep_their_bits_between_meshes(tmp_path, there):
    """Saved from one mesh and restored on another: what the other would have made of them itself."""
    model, plan = replace(cases.GPT, layers=6), ParallelConfig()
    with MeshCheckpoints(tmp_path, model, plan, cases.mesh(FIRST)) as kept:
        kept.save(1, state(model, FIRST), {"rollbacks": 3})
    like = state(model, there)
    with MeshCheckpoints(tmp_path, model, plan, cases.mesh(there)) as kept:
        restored = kept.restore_latest(like)
    assert restored is not None and restored[1] == 1 and restored[2]["rollbacks"] == 3
    jax.tree.map(np.testing.assert_array_equal, restored[0], like)
    places = jax.tree.map(lambda a, b: a.sharding.is_equivalent_to(b.sharding, a.ndim), restored[0], like)
    assert jax.tree.all(places)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layers": 5}, "expected model.layers=5, got 6"),  # stored alike, padded
        ({"vocabulary": 100}, "expected model.vocabulary=100, got 101"),  # likewise
        ({"positions": "rotary"}, "expected model.positions=rotary, got learned"),
        ({"rotary_base": 5e5}, "expected model.rotary_base=500000.0, got 10000.0"),  # no array shows this
    ],
)
def test_a_checkpoint_of_another_model_is_one_line(tmp_path, change, said):
    model, plan = replace(cases.GPT, layers=6), ParallelConfig()
    with MeshCheckpoints(tmp_path, model, plan, cases.mesh(FIRST)) as kept:
        kept.save(1, state(model, FIRST))
    other = replace(model, **change)
    with MeshCheckpoints(tmp_path, other, plan, cases.mesh(FIRST)) as kept, pytest.raises(CheckpointError) as e:
        kept.restore_latest(state(other, FIRST))
    assert said in str(e.value) and "\n" not in str(e.value)


def test_dropout_may_change_and_foreign_checkpoints_may_not_come(tmp_path):
    model, plan = replace(cases.GPT, layers=6), ParallelConfig()
    with MeshCheckpoints(tmp_path / "a", model, plan, cases.mesh(FIRST)) as kept:
        kept.save(1, state(model, FIRST))
    with MeshCheckpoints(tmp_path / "a", replace(model, dropout=0.3), plan, cases.mesh(FIRST)) as kept:
        assert kept.restore_latest(state(model, FIRST)) is not None
    with Checkpoints(tmp_path / "b") as foreign:
        foreign.save(1, {"x": np.ones(3)})
    with (
        MeshCheckpoints(tmp_path / "b", model, plan, cases.mesh(FIRST)) as kept,
        pytest.raises(CheckpointError, match="holds no checkpoints of a transformer"),
    ):
        kept.restore_latest(state(model, FIRST))


def test_an_axis_that_does_not_fit_moves_to_a_dimension_that_it_fits():
    sizes = {"fsdp": 2, "pipe": 4, "tensor": 2}
    spec = P(None, "pipe", "fsdp", "tensor")
    assert fitting(spec, (1, 8, 16, 6), sizes) == P(None, ("pipe",), ("fsdp",), ("tensor",))
    assert fitting(spec, (1, 6, 16, 6), sizes) == P(None, None, ("fsdp", "pipe"), ("tensor",))
    assert fitting(spec, (1, 6, 2, 5), sizes) == P(None, ("tensor",), ("fsdp",), None)  # pipe fits nowhere: copies
    assert fitting(P(), (), sizes) == P()
    assert layout(train_tiny.MODEL, ParallelConfig(), {"pipe": 4, "tensor": 1}).stored == 8

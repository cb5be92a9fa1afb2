"""Training: the update against its formula, then what may interrupt it and must not change its numbers."""

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.errors import ConfigError, NonFiniteError
from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.profile import ProfileConfig, ProfileWindow
from jaxsci.core.train import fit, init_state, make_host_step, make_step, make_update

REPOSITORY = Path(__file__).parents[2]


def _program(name):
    """The program as a module, so that what runs in this process is what runs in the ones that get killed."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / "programs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


train_small = _program("train_small")


def identical(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: bool(jnp.array_equal(x, y)), a, b))


def quadratic(params, batch, *, key):
    """Distance to the batch, shaken by the key; the auxiliary value shows the key's draw."""
    draw = jax.random.normal(key)
    return jnp.sum((params["x"] - batch) ** 2) + 0.1 * draw * params["x"][0], {"draw": draw}


def start(optimizer, seed=0):
    return init_state({"x": jnp.arange(4.0)}, optimizer, key=jax.random.key(seed))


SGD = optax.sgd(0.1)


def test_update_is_one_gradient_step_with_the_key_of_its_number():
    state = start(SGD)._replace(step=jnp.int32(5))
    key = jax.random.fold_in(jax.random.key(0), 5)
    (value, aux), gradient = jax.value_and_grad(quadratic, has_aux=True)(state.params, 1.0, key=key)
    new, metrics = make_update(quadratic, SGD)(state, 1.0)
    np.testing.assert_allclose(new.params["x"], state.params["x"] - 0.1 * gradient["x"], rtol=1e-6)
    assert int(new.step) == 6
    assert metrics["draw"] == aux["draw"]
    np.testing.assert_allclose(metrics["loss"], value, rtol=1e-6)
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(gradient["x"]), rtol=1e-6)


@pytest.mark.parametrize("steps_per_dispatch", [1, 4, 7])
def test_fit_equals_a_loop_over_updates(steps_per_dispatch):
    optimizer = OptimizerConfig(clip_norm=1.0).build(20)
    update, state, losses = jax.jit(make_update(quadratic, optimizer)), start(optimizer), []
    for i in range(20):
        state, metrics = update(state, jnp.sin(jnp.float32(i)))
        losses.append(float(metrics["loss"]))
    rows = {}
    step = make_step(
        quadratic,
        optimizer,
        batch_at=lambda i: jnp.sin(i.astype(float)),
        steps_per_dispatch=steps_per_dispatch,
    )
    done = fit(start(optimizer), step, steps=20, log_every=3, on_log=lambda row, i: rows.update({i: row}))
    # the same float32 operations, compiled in another context
    np.testing.assert_allclose(done.state.params["x"], state.params["x"], rtol=1e-5, atol=1e-6)
    assert list(rows) == [3, 6, 9, 12, 15, 18, 20]
    np.testing.assert_allclose([rows[i]["loss"] for i in rows], [losses[i - 1] for i in rows], rtol=1e-5)
    assert done.result == "trained to step 20"
    assert not done.interrupted
    assert done.stats["steps"] == 20 and done.stats["resumed_from"] is None
    assert done.stats["compile_seconds"] > 0 and done.stats["steps_per_second"] > 0


def test_batches_from_the_host_give_the_same_numbers():
    data = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    asked = []

    def load(i):
        asked.append(i)
        return data[i % 30]

    traced = make_step(quadratic, SGD, batch_at=lambda i: jnp.asarray(data)[i % 30], steps_per_dispatch=4)
    loaded = make_host_step(quadratic, SGD, load=load, steps_per_dispatch=4)
    a, b = (fit(start(SGD), step, steps=18).state for step in (traced, loaded))
    np.testing.assert_allclose(a.params["x"], b.params["x"], rtol=1e-6)
    assert sorted(asked) == list(range(22))  # each once, and one dispatch ahead


def test_host_batches_are_placed_as_asked():
    mesh = make_mesh(MeshConfig())
    rows = NamedSharding(mesh, PartitionSpec("data"))
    data = np.arange(32, dtype=np.float32).reshape(8, 4)
    loss = lambda params, batch, *, key: (jnp.mean((batch - params["x"]) ** 2), {})  # noqa: E731
    state = init_state(
        jax.device_put({"x": jnp.zeros(4)}, NamedSharding(mesh, PartitionSpec())), SGD, key=jax.random.key(0)
    )
    step = make_host_step(loss, SGD, load=lambda i: data, steps_per_dispatch=2, batch_sharding=rows)
    program = step.compile(state, 2)
    text = jax.tree.map(lambda leaf: leaf.sharding.spec, step._batches(0, 2))
    assert text == PartitionSpec(None, "data")
    new, _ = program(state, 0)
    x = np.zeros(4)
    for _ in range(2):
        x -= 0.1 * np.mean(2 * (x - data), axis=0) / 4
    np.testing.assert_allclose(new.params["x"], x, rtol=1e-5)  # float32


def test_gradients_and_moments_stay_sharded_like_their_parameters():
    mesh = make_mesh(MeshConfig(data=2, tensor=4))
    columns, rows = (
        NamedSharding(mesh, PartitionSpec(None, "tensor")),
        NamedSharding(mesh, PartitionSpec("data")),
    )
    optimizer = OptimizerConfig().build(10)
    seen = {}

    def spy(updates, state, params=None):
        jax.debug.inspect_array_sharding(updates["w"], callback=lambda sharding: seen.update(gradient=sharding))
        return optimizer.update(updates, state, params)

    loss = lambda params, batch, *, key: (jnp.mean(jnp.tanh(batch @ params["w"]) ** 2), {})  # noqa: E731
    params = jax.device_put({"w": jnp.ones((8, 16))}, columns)
    spied = optax.GradientTransformation(optimizer.init, spy)
    state = init_state(params, spied, key=jax.random.key(0))
    update = make_update(loss, spied, param_shardings={"w": columns})
    new, _ = jax.jit(update)(state, jax.device_put(jnp.ones((4, 8)), rows))
    assert seen["gradient"].is_equivalent_to(columns, 2)
    assert new.params["w"].sharding.is_equivalent_to(columns, 2)
    assert new.opt_state[0].mu["w"].sharding.is_equivalent_to(columns, 2)
    assert new.step.sharding.is_fully_replicated and len(new.step.sharding.device_set) == 8


def test_the_state_given_is_donated():
    state = start(SGD)
    fit(state, make_step(quadratic, SGD, batch_at=lambda i: 1.0), steps=2)
    assert state.params["x"].is_deleted()
    key = jax.random.key(3)
    fit(
        init_state({"x": jnp.ones(2)}, SGD, key=key),
        make_step(quadratic, SGD, batch_at=lambda i: 1.0),
        steps=2,
    )
    assert not key.is_deleted()  # the caller's key is the caller's


class Watched:
    """A metric, as `fit` sees it, that notes how many dispatches there had been when it was fetched."""

    def __init__(self, dispatches, fetched):
        self.dispatches, self.fetched = dispatches, fetched

    def __array__(self, dtype=None, copy=None):
        self.fetched.append(len(self.dispatches))
        return np.ones(1)

    def block_until_ready(self):
        return self


def test_nothing_is_fetched_between_logs():
    class Step:
        steps_per_dispatch = 1

        def compile(self, state, length) -> Any:
            return self.run

        def run(self, state, at):
            dispatches.append(at)
            return state, {
                "loss": Watched(dispatches, fetched),
                "gradient_norm": Watched(dispatches, fetched),
            }

    dispatches, fetched = [], []
    fit(start(SGD), Step(), steps=60, log_every=20)
    assert dispatches == list(range(60))
    assert fetched == [20] * 40 + [40] * 40 + [60] * 40  # two metrics of each step, all at the three logs


# Interruption. The reference is the run that nothing disturbs, saved at other steps than the disturbed ones.


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return train_small.train(tmp_path_factory.mktemp("undisturbed"), save_every=1000).state


def disturb(directory, number, at_step):
    """Run the program, send it the signal `number` at step `at_step`; what it said, and its exit code."""
    program = [sys.executable, "-m", "tests.core.programs.train_small", str(directory), str(at_step)]
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, cwd=REPOSITORY, **streams) as process:
        assert process.stdin is not None and process.stdout is not None
        overdue = threading.Timer(120, process.kill)
        overdue.start()
        said = []
        for line in process.stdout:
            said.append(line.strip())
            if said[-1] == f"step {at_step}":
                process.send_signal(number)
                process.stdin.close()
        process.wait()
        overdue.cancel()
    return said, process.returncode


def test_killed_at_a_random_step_and_resumed_is_bit_identical(tmp_path, undisturbed):
    at_step = int(np.random.default_rng().integers(7, 38))  # at least one save has begun
    said, code = disturb(tmp_path, signal.SIGKILL, at_step)
    assert code == -signal.SIGKILL
    resumed = train_small.train(tmp_path)
    # The newest checkpoint may have been in the middle of being written; then it is the one before, or none.
    assert resumed.stats["resumed_from"] in {None, *range(6, at_step + 4)}, f"killed at {at_step}"
    assert identical(resumed.state.params, undisturbed.params), f"killed at {at_step}"
    assert identical(resumed.state.opt_state, undisturbed.opt_state)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_terminated_saves_at_once_says_how_to_resume_and_resumes_bit_identical(tmp_path, undisturbed, number):
    said, code = disturb(tmp_path, number, 17)
    assert code == 0
    stopped = int(said[-1].split(";")[0].removeprefix("interrupted at step "))
    assert stopped < train_small.STEPS
    assert said[-1] == f"interrupted at step {stopped}; resume with resume={tmp_path}"
    resumed = train_small.train(tmp_path)
    assert resumed.stats["resumed_from"] == stopped
    assert identical(resumed.state.params, undisturbed.params)


def test_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def on_log(row, step):
        assert signal.getsignal(signal.SIGTERM) != before[0]
        if step == 10:
            os.kill(os.getpid(), signal.SIGTERM)

    done = fit(start(SGD), make_step(quadratic, SGD, batch_at=lambda i: 1.0), steps=50, log_every=10, on_log=on_log)
    assert done.interrupted
    assert done.result == "interrupted at step 11; nothing was saved, for want of checkpoints"
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_off_the_main_thread_there_are_no_handlers_to_install():
    results = []
    step = make_step(quadratic, SGD, batch_at=lambda i: 1.0)
    thread = threading.Thread(target=lambda: results.append(fit(start(SGD), step, steps=3).result))
    thread.start()
    thread.join()
    assert results == ["trained to step 3"]


@pytest.mark.parametrize("save_every", [1, 3, 4, 7])
def test_saving_interval_and_resumption_do_not_alter_the_numbers(tmp_path, undisturbed, save_every):
    def stop_at(steps):  # a run that ends for another reason than having reached its last step
        def on_log(row, step):
            if step == steps:
                raise KeyboardInterrupt

        return on_log

    for steps in (9, 23):
        with pytest.raises(KeyboardInterrupt):
            train_small.train(tmp_path, save_every=save_every, on_log=stop_at(steps))
    done = train_small.train(tmp_path, save_every=save_every)
    assert done.stats["resumed_from"] > 9
    assert identical(done.state.params, undisturbed.params)


def test_damaged_newest_checkpoint_is_passed_over(tmp_path, undisturbed):
    train_small.train(tmp_path, save_every=10)
    manifest = tmp_path / "checkpoints" / str(train_small.STEPS) / "manifest" / "metadata"
    manifest.write_text(manifest.read_text()[:-5])
    with pytest.warns(UserWarning, match=f"checkpoints/{train_small.STEPS} is damaged"):
        again = train_small.train(tmp_path)
    assert again.stats["resumed_from"] == 40
    assert identical(again.state.params, undisturbed.params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        finished = train_small.train(tmp_path)
    assert finished.result.startswith("already at step 41")
    assert finished.stats["steps"] == 0
    assert identical(finished.state.params, undisturbed.params)


# Losses that are not finite.


def explosive(first, last=None):
    """A loss that is infinite on batches `first` to `last`, or from `first` on."""

    def loss(params, batch, *, key):
        bad = (batch >= first) & (batch <= (jnp.inf if last is None else last))
        return jnp.where(bad, jnp.inf, jnp.sum((params["x"] - 1) ** 2)), {}

    return make_step(loss, SGD, batch_at=lambda i: i, steps_per_dispatch=2)


def test_a_loss_that_is_not_finite_stops(tmp_path):
    rows = []
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(NonFiniteError, match="loss became inf at step 12; lower optimizer.learning_rate") as e:
            fit(
                start(SGD),
                explosive(11),
                steps=30,
                log_every=1,
                on_log=lambda row, step: rows.append(step),
                checkpoints=checkpoints,
                save_every=4,
            )
        assert "\n" not in str(e.value)
        assert rows == list(range(1, 12))
        assert checkpoints.steps() == [4, 8]  # and not 12, whose state is spoilt


def test_a_gradient_that_is_not_finite_stops():
    loss = lambda params, batch, *, key: (jnp.sum(jnp.sqrt(params["x"] * 0)), {})  # noqa: E731
    with pytest.raises(NonFiniteError, match="gradient_norm became nan at step 1;"):
        fit(start(SGD), make_step(loss, SGD, batch_at=lambda i: 1.0), steps=3)


def test_rollback_goes_on_with_another_key_and_other_batches(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        step = explosive(11, 11)
        settings = {"steps": 30, "log_every": 5, "save_every": 4, "on_nonfinite": "rollback"}
        done = fit(start(SGD), step, checkpoints=checkpoints, **settings)
        assert done.result == "trained to step 30"
        assert done.stats["rollbacks"] == 1
        assert done.stats["steps"] > 30
        expected = jax.random.fold_in(jax.random.key(0), 1)
        np.testing.assert_array_equal(jax.random.key_data(done.state.key), jax.random.key_data(expected))
        np.testing.assert_allclose(done.state.params["x"], 1 + (np.arange(4) - 1) * 0.8**30, rtol=1e-5)  # float32
        saved = checkpoints.restore_latest(done.state)
        assert saved is not None and saved[2]["rollbacks"] == 1


def test_rollback_before_the_first_save_and_until_there_have_been_enough(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(NonFiniteError, match="loss became inf at step 1, after 2 rollbacks; lower"):
            fit(
                start(SGD),
                explosive(1),
                steps=30,
                checkpoints=checkpoints,
                on_nonfinite="rollback",
                max_rollbacks=2,
            )
        assert checkpoints.steps() == [0]


# What else `fit` does.


def test_evaluate_and_stop_when(tmp_path):
    rows = {}
    with Checkpoints(tmp_path) as checkpoints:
        done = fit(
            start(SGD),
            make_step(quadratic, SGD, batch_at=lambda i: jnp.float32(0), steps_per_dispatch=4),
            steps=1000,
            log_every=500,
            on_log=lambda row, step: rows.update({step: row}),
            checkpoints=checkpoints,
            evaluate=lambda params: {"distance": jnp.max(jnp.abs(params["x"]))},
            eval_every=10,
            stop_when=lambda row, step: row.get("distance", 1.0) < 0.2,
        )
        assert done.result == f"stopped at step {done.state.step} because stop_when was satisfied"
        assert checkpoints.steps() == [int(done.state.step)]
    assert list(rows)[:2] == [12, 20]  # the first dispatch to end at or after 10, and 20
    assert float(jnp.max(jnp.abs(done.state.params["x"]))) < 0.2


def test_profile_window_writes_a_trace(tmp_path):
    window = ProfileWindow(ProfileConfig(start=4, stop=6), tmp_path / "profile")
    fit(
        start(SGD),
        make_step(quadratic, SGD, batch_at=lambda i: 1.0, steps_per_dispatch=2),
        steps=10,
        profile=window,
    )
    assert any(path.stat().st_size for path in (tmp_path / "profile").rglob("*.xplane.pb"))


@pytest.mark.parametrize(
    ("window", "said"),
    [
        ({"stop": 3}, "^stop: "),
        ({"start": -1}, "^start: "),
        ({"start": 3}, "^stop: "),
        ({"start": 3, "stop": 3}, "^stop: "),
    ],
)
def test_profile_windows_that_are_none(window, said):
    with pytest.raises(ConfigError, match=said):
        ProfileConfig(**window)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "^steps: "),
        ({"steps": 5, "log_every": 0}, "^log_every: "),
        ({"steps": 5, "on_nonfinite": "retry"}, "^on_nonfinite: "),
        (
            {"steps": 5, "on_nonfinite": "rollback"},
            "^on_nonfinite: expected stop where there are no checkpoints",
        ),
    ],
)
def test_refusals(settings, said):
    with pytest.raises(ConfigError, match=said):
        fit(start(SGD), make_step(quadratic, SGD, batch_at=lambda i: 1.0), **settings)
    with pytest.raises(ConfigError, match="steps_per_dispatch"):
        make_step(quadratic, SGD, batch_at=lambda i: 1.0, steps_per_dispatch=0)

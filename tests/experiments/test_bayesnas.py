"""The architecture-ensemble experiment: bad input is one line, a stopped run goes on where it was, tables are read."""

import shutil

import numpy as np
import pytest

from experiments.stages import Stages
from jaxsci.core.errors import CheckpointError
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.rundir import Run
from jaxsci.core.summary import read_summary

CIFAR = ["experiment=bayesnas", "data=cifar10"]


def images(path, **changes):
    rng = np.random.default_rng(0)
    content = {
        "x_train": rng.integers(0, 256, (60, 32, 32, 3), dtype=np.uint8),
        "y_train": np.arange(60) % 10,
        "x_test": rng.integers(0, 256, (20, 32, 32, 3), dtype=np.uint8),
        "y_test": np.arange(20) % 10,
    }
    np.savez(path, **(content | changes))
    return f"data.path={path}"


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"y_train": np.arange(60) % 10 + 5}, "expected labels 0 to 9 in 'y_train'"),
        ({"y_train": np.arange(60) % 8}, "no example of class 8, 9 in 'y_train'"),
    ],
)
def test_labels_that_cannot_be(call, tmp_path, changes, message):
    outcome = call(*CIFAR, images(tmp_path / "c.npz", **changes))
    assert outcome.code == 2 and len(outcome.err) == 1 and message in outcome.err[0]
    assert not (tmp_path / "outputs").exists()


def test_an_image_file_that_fails_its_hash(call, tmp_path):
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        (tmp_path / f"{name}.bin").write_bytes(bytes(3073 * 10))
    outcome = call(*CIFAR, f"data.path={tmp_path}")
    assert outcome.code == 2 and "SHA-1" in outcome.err[0] and "fetch it again" in outcome.err[0]


@pytest.mark.parametrize(
    "override, message",
    [
        ("data.path=absent.npz", "no such file"),
        ("ensemble.restarts=1", "ensemble.restarts: expected 2 or more"),
        ("space.kind=mpl", "did you mean 'mlp'"),
        ("weights.cycles=7", "a multiple of cycles=7"),
        ("search.batch_size=5000", "search.batch_size"),
    ],
)
def test_settings_that_cannot_be(call, override, message):
    outcome = call("experiment=bayesnas", "seeds=1", "search.steps=1", override)
    assert outcome.code == 2 and message in outcome.err[-1]


def test_a_run_that_lost_its_last_stages_computes_them_again(finished, call, tmp_path, tiny):
    """Stages depend on their seed alone, so what a resumed run reports is what an uninterrupted one does."""
    whole, _ = finished("bayesnas")
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    for name in ("joint", "random_architectures"):
        (copy / "checkpoints" / f"seed0_{name}.npz").unlink()
    (copy / "summary.json").unlink()
    outcome = call(f"resume={copy}")
    assert outcome.code == 0, outcome.err
    before, after = (read_summary(directory / "summary.json").metrics for directory in (whole, copy))
    assert before == after


def test_a_damaged_stage_is_named(tmp_path):
    with Run(tmp_path / "run", {}) as run, Interrupt() as interrupt:
        stages = Stages(run, interrupt)
        stages.get("one", lambda: {"a": np.arange(3)})
        np.testing.assert_array_equal(stages.get("one", lambda: pytest.fail("computed twice"))["a"], np.arange(3))
        (run.checkpoint_directory / "one.npz").write_bytes(b"broken")
        with pytest.raises(CheckpointError, match="one.npz: damaged"):
            stages.get("one", dict)


def test_tables(call, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3))
    y = x[:, 0] + 0.1 * rng.normal(size=80)
    test = np.stack([np.arange(10), np.arange(10, 20)])
    np.savez(tmp_path / "t.npz", toy_x=x, toy_y=y, toy_test=test)
    outcome = call(
        "experiment=bayesnas",
        "data=uci",
        f"data.path={tmp_path / 't.npz'}",
        "data.splits=2",
        "search.steps=2",
        "search.batch_size=8",
        "regression.members=4",
        "regression.steps=60",
        "space.width=8",
        f"hydra.run.dir={tmp_path / 'run'}",
    )
    assert outcome.code == 0, outcome.err
    metrics = read_summary(tmp_path / "run" / "summary.json").metrics
    assert 0 < metrics["rmse_toy"] < y.std()  # better than the mean
    parts = sum(metrics[f"{part}_toy"] for part in ("architecture", "weights", "aleatoric"))
    assert parts == pytest.approx(metrics["total_toy"], rel=1e-5)


def test_an_emulator_ensemble_has_spread_and_is_a_step_map(x64):
    """On a linear system its mean is near the linear forecast, and its spread enters the model error at equal size."""
    import jax
    import jax.numpy as jnp

    from experiments.emulator_ensemble import EnsembleConfig, spread_covariance, train_ensemble, with_spread
    from jaxsci.bayesnas.search import SearchConfig
    from jaxsci.bayesnas.space import ResidualNet
    from jaxsci.emulators import fit_linear
    from jaxsci.emulators.delay import delay_states

    rng = np.random.default_rng(0)
    days = np.zeros((160, 3))
    for day in range(1, 160):
        days[day] = 0.9 * days[day - 1] + rng.normal(size=3)
    train, validation = days[:110], days[110:]
    linear = fit_linear(train, validation, lags=2, leads=3, ridges=(1e-2,))
    config = EnsembleConfig(2, 2, 12, 16, ResidualNet(1, 8), SearchConfig("elbo", steps=2, batch_size=16))
    ensemble = train_ensemble(train, validation, linear, config, key=jax.random.key(0))
    states = jnp.asarray(delay_states(validation, 2), jnp.float32)
    assert 0 <= float(ensemble.shrink) <= 1
    assert ensemble(states[0]).shape == (2, 3)
    np.testing.assert_allclose(ensemble(states[0])[1], states[0, 0])  # today becomes the older day
    np.testing.assert_allclose(ensemble.forecast(states[0]), ensemble.each(states[0]).mean(0), rtol=1e-6)
    spread = spread_covariance(ensemble, states)
    assert np.linalg.eigvalsh(spread).min() > -1e-6
    error = jnp.diag(jnp.array([1.0, 2.0, 3.0]))
    assert jnp.trace(with_spread(error, spread)) == pytest.approx(6.0, rel=1e-5)


class Stopped(Stages):
    """Answers 'stop' from the second look on, as a signal between two dispatches would."""

    looks = 0

    @property
    def asked(self) -> bool:
        type(self).looks += 1
        return type(self).looks >= 2


def test_a_group_stopped_between_dispatches_goes_on_where_it_was(tmp_path):
    import jax
    import jax.numpy as jnp

    from experiments.bayesnas_arms import Problem, SeedStudy, cross_entropy
    from experiments.bayesnas_config import Config, Digits, EnsembleConfig
    from jaxsci.bayesnas.batches import Examples
    from jaxsci.bayesnas.members import Trainer
    from jaxsci.bayesnas.space import MlpCell, one_hot
    from jaxsci.bayesnas.weights import CyclicalSgHmc, Task
    from jaxsci.core.progress import progress

    x = jax.random.normal(jax.random.key(0), (32, 2, 2, 1))
    part = Examples(x, jnp.arange(32) % 3)
    problem = Problem(part, part, part, part, {}, {}, 3)
    ensemble = EnsembleConfig(2, 2, 6, 8, steps_per_dispatch=2)
    config = Config(data=Digits(), space=MlpCell(width=4), ensemble=ensemble)
    trainer = Trainer(config.space, CyclicalSgHmc(0.05, temperature=1.0), Task(32, 6), cross_entropy, 8)
    z = one_hot(jnp.full((2, 6), 2), 5)
    keys = jax.random.split(jax.random.key(1), 2)
    with Run(tmp_path / "run", {}) as run, Interrupt() as interrupt, progress(1, "test") as bar:

        def study(stages, directory):
            return SeedStudy(config, problem, stages, bar, directory, 0, "vmap")

        whole = study(Stages(run, interrupt), tmp_path / "whole")._group(trainer, z, keys, "a")
        stopped = study(Stopped(run, interrupt), tmp_path / "cut")
        with pytest.raises(KeyboardInterrupt, match="resume="):
            Stopped.looks = 1
            stopped._group(trainer, z, keys, "a")
        resumed = study(Stages(run, interrupt), tmp_path / "cut")._group(trainer, z, keys, "a")
    for left, right in zip(jax.tree.leaves(whole), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(left, right)

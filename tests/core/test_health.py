"""The two watches on made-up numbers, and what `fit` does on what they see."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsci.core import train
from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.errors import ConfigError, NonFiniteError
from jaxsci.core.health import LEAST, HealthConfig, SlowWatch, SpikeWatch
from jaxsci.core.train import fit, init_state, make_host_step, make_step


def test_a_loss_is_compared_with_the_median_before_it():
    watch = SpikeWatch(HealthConfig(spike_factor=2.0, window=9))
    assert not any(watch.spiked(loss) for loss in [9.0] * (LEAST - 1))
    assert not watch.spiked(100.0)  # seven values before it are too few to judge by
    assert not watch.spiked(18.0)  # twice the median and no more
    assert watch.spiked(18.1)
    assert watch.spiked(18.1)  # a spike does not make the next one usual
    for _ in range(9):
        watch.spiked(1.0)
    assert watch.median == 1.0  # of the last nine alone
    assert watch.spiked(2.1)


def test_without_a_factor_or_with_negative_losses_nothing_is_a_spike():
    for config, usual in ((HealthConfig(), 1.0), (HealthConfig(spike_factor=2.0), -1.0)):
        watch = SpikeWatch(config)
        assert not any(watch.spiked(loss) for loss in [usual] * 20 + [1e9])


def test_dispatches_are_timed_from_the_end_of_the_one_before():
    """All are launched at once and each takes one second: none is slow, though the last ends 30 s after its launch."""
    watch = SlowWatch(HealthConfig(slow_factor=3.0))
    for n in range(1, 31):
        watch.completed(10 * n, 10, launched=0.0, now=float(n))
    assert watch.count == 0 and watch.note is None
    watch.completed(310, 10, launched=0.0, now=34.0)
    assert watch.count == 1 and watch.latest == pytest.approx(0.4)
    assert watch.note is not None
    assert watch.note.startswith("the dispatch that ended near step 310 took 0.4 s per step, 4 x the median")
    watch.completed(320, 10, launched=100.0, now=101.0)  # nothing was under way for a while: that is no one's time
    watch.completed(325, 5, launched=100.0, now=101.5)  # half as long in half the time
    assert watch.count == 1
    watch.completed(335, 10, launched=101.5, now=105.0)
    assert watch.count == 2 and "step 310" in watch.note  # the worst is named


def test_what_stays_slow_becomes_usual():
    watch, now = SlowWatch(HealthConfig(slow_factor=2.0, window=10)), 0.0
    for n in range(30):
        now += 1.0 if n < 15 else 5.0
        watch.completed(n, 1, launched=0.0, now=now)
    assert watch.count == 5  # with half of the window slow, the median is 3


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"spike_factor": 1.0}, "^spike_factor: "),
        ({"slow_factor": 0.5}, "^slow_factor: "),
        ({"window": 3}, "^window: "),
    ],
)
def test_refusals_name_the_field(fields, said):
    with pytest.raises(ConfigError, match=said):
        HealthConfig(**fields)


# In the loop.


def spiky(at, *, always=False):
    """A loss ten times itself on batch `at`; or, always, wherever `at` updates have brought the parameters."""

    def loss(params, batch, *, key):
        value = jnp.sum((params["x"] - 1) ** 2) + 1
        updates = jnp.round(jnp.log(1 - params["x"][0]) / jnp.log(0.998))  # x0 = 1 - (1 - 2 lr)^updates
        return jnp.where((updates if always else batch) == at, 10 * value, value), {}

    return make_step(loss, optax.sgd(1e-3), batch_at=lambda i: i, steps_per_dispatch=2)


def start():
    return init_state({"x": jnp.arange(4.0)}, optax.sgd(1e-3), key=jax.random.key(0))


WATCHED = HealthConfig(spike_factor=3.0)


def test_a_spike_is_rolled_back_and_its_batches_left_out(tmp_path):
    rows = {}
    with Checkpoints(tmp_path) as checkpoints:
        settings = {"steps": 40, "log_every": 1, "save_every": 6, "health": WATCHED}
        done = fit(start(), spiky(21), checkpoints=checkpoints, on_log=lambda row, n: rows.update({n: row}), **settings)
        saved = checkpoints.restore_latest(done.state)
    assert done.stats["rollbacks"] == 1 and done.result == "trained to step 40"
    assert done.stats["steps"] == 22 + 40 - 18  # back from the dispatch that ended at 22 to the save at 18
    assert sorted(rows) == list(range(1, 41)) and max(row["loss"] for row in rows.values()) < 12
    # The parameters are those of a run without a spike: 1 + (x0 - 1) (1 - 2 lr)^40, in float32.
    np.testing.assert_allclose(done.state.params["x"], 1 + (np.arange(4) - 1) * 0.998**40, rtol=1e-5)
    # Batches 18 to 21 led from the save to the spike; whoever resumes leaves them out too.
    assert saved is not None and saved[2] == {"rollbacks": 1, "skipped_batches": 4}


@pytest.mark.parametrize("host", [False, True])
def test_after_a_rollback_a_resumed_run_goes_on_with_the_batches_that_come_next(tmp_path, host):
    seen = []

    def loss(params, batch, *, key):
        value = jnp.where(batch == 21, 100.0, 1.0) + 0 * params["x"][0]
        return value, {"batch": 1.0 * batch}

    for steps in (30, 36):
        with Checkpoints(tmp_path) as checkpoints:
            rule = optax.sgd(0.0)
            if host:
                made = make_host_step(loss, rule, load=lambda n: np.int32(n), steps_per_dispatch=2)
            else:
                made = make_step(loss, rule, batch_at=lambda n: n, steps_per_dispatch=2)
            settings = {"steps": steps, "log_every": 1, "save_every": 6, "health": WATCHED}
            fit(start(), made, checkpoints=checkpoints, on_log=lambda row, n: seen.append(row["batch"]), **settings)
    assert seen == [*range(21), *range(22, 40)]


def test_a_spike_that_always_comes_back_is_let_pass_in_the_end(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        done = fit(start(), spiky(21, always=True), steps=40, checkpoints=checkpoints, health=WATCHED, max_rollbacks=2)
    assert done.stats["rollbacks"] == 2 and done.result == "trained to step 40"


def test_without_the_watch_a_spike_is_trained_on(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        done = fit(start(), spiky(21), steps=40, checkpoints=checkpoints)
    assert done.stats["rollbacks"] == 0 and done.stats["steps"] == 40


def test_a_loss_that_is_not_finite_still_stops_a_run_that_watches_spikes(tmp_path):
    loss = lambda params, batch, *, key: (jnp.where(batch == 15, jnp.inf, 1.0) + 0 * params["x"][0], {})  # noqa: E731
    step = make_step(loss, optax.sgd(1e-3), batch_at=lambda i: i)
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(NonFiniteError, match="loss became inf at step 16"):
        fit(start(), step, steps=40, checkpoints=checkpoints, health=WATCHED)


def test_spikes_need_checkpoints_to_go_back_to():
    with pytest.raises(ConfigError, match="^health.spike_factor: expected null where there are no checkpoints"):
        fit(start(), spiky(5), steps=3, health=WATCHED)


class _Clock:
    """Time that passes only when told to."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class _Later:
    """Ones that take a device some seconds to compute, as the one who waits for them finds out."""

    def __init__(self, clock, seconds, length):
        self.clock, self.seconds, self.length = clock, seconds, length

    def block_until_ready(self):
        self.clock.now += self.seconds
        self.seconds = 0
        return self

    def __array__(self, *arguments):
        return np.ones(self.length)


class _TimedStep:
    """A step whose dispatches take one second, or twenty where step 24 is done; compiling takes a thousand."""

    steps_per_dispatch = 2

    def __init__(self, clock):
        self.clock = clock

    def compile(self, state, length):
        self.clock.now += 1000

        def program(state, at):
            loss = _Later(self.clock, 20 if at < 24 <= at + length else 1, length)
            metrics = {"loss": loss, "gradient_norm": np.ones(length)}
            return state._replace(step=state.step + length), metrics

        return program


@pytest.mark.parametrize("log_every", [2, 10, 100])
def test_a_slow_dispatch_is_counted_and_described(monkeypatch, log_every):
    clock, rows, times = _Clock(), {}, {}
    monkeypatch.setattr(train, "time", clock)

    def on_log(row, n):
        rows[n], times[n] = row["slow_dispatches"], row["seconds_per_step"]

    health = HealthConfig(slow_factor=3.0)
    settings = {"steps": 41, "log_every": log_every, "health": health}  # the last dispatch has a program of its own
    done = fit(start(), _TimedStep(clock), on_log=on_log, **settings)
    assert done.stats["slow_dispatches"] == 1 and list(rows) == [*range(log_every, 41, log_every), 41]
    assert "step 24 " in done.stats["slow_note"]
    assert all(count == (n >= 24) for n, count in rows.items())
    if log_every == 2:
        assert times[22] == pytest.approx(0.5) and times[24] == pytest.approx(10.0)  # dispatches are of two steps
    # Nineteen dispatches of one second, one of twenty and half of one, which is taken for whole here.
    assert done.stats["train_seconds"] == pytest.approx(19 + 20 + 1)

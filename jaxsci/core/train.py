"""The training loop: dispatch, log, evaluate, save, stop, resume.

`fit` drives any `TrainingStep`. Dispatches always cover the same ranges of global steps, [m k, (m + 1) k) for
k steps per dispatch and a shorter one at the very end; whatever has to happen in between happens at their
ends. A run that was killed and resumed therefore executes the same compiled programs on the same numbers as
one that was not, whatever the saving interval.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PyTree

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.config import require
from jaxsci.core.errors import CheckpointError, NonFiniteError
from jaxsci.core.health import HealthConfig, SlowWatch, SpikeWatch
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.profile import ProfileWindow
from jaxsci.core.trainstep import TrainingStep as TrainingStep
from jaxsci.core.trainstep import TrainState as TrainState
from jaxsci.core.trainstep import init_state as init_state
from jaxsci.core.trainstep import make_host_step as make_host_step
from jaxsci.core.trainstep import make_step as make_step
from jaxsci.core.trainstep import make_update as make_update

Row = dict[str, float]  # the metrics of one step

# Dispatches under way beyond the one whose metrics are ready: enough to keep the device busy, few enough to
# stop soon.
_AHEAD = 2
UNWATCHED = HealthConfig(spike_factor=None, slow_factor=None)
_REMEDY = "lower optimizer.learning_rate or set optimizer.clip_norm"


class FitResult(NamedTuple):
    """How a training ended.

    - `state`: the final state.
    - `result`: a sentence that says why training ended, and how to go on where that is possible.
    - `interrupted`: whether a signal asked for its end.
    - `stats`: `steps_per_second`, `train_seconds` (without the following), `compile_seconds`, `save_seconds`
      (the part that training waited for), `evaluate_seconds`, `steps` (done in this call), `resumed_from`
      (step or None), `rollbacks`, `skipped_batches`, `slow_dispatches`, `slow_note` (a sentence on the slowest of them,
      or None).
    """

    state: TrainState
    result: str
    interrupted: bool
    stats: dict[str, Any]


def fit(
    state: TrainState,
    step: TrainingStep,
    *,
    steps: int,
    log_every: int = 100,
    on_log: Callable[[Row, int], None] | None = None,
    checkpoints: Checkpoints | None = None,
    save_every: int | None = None,
    on_nonfinite: Literal["stop", "rollback"] = "stop",
    max_rollbacks: int = 3,
    health: HealthConfig = UNWATCHED,
    evaluate: Callable[[PyTree], dict[str, Array]] | None = None,
    eval_every: int | None = None,
    stop_when: Callable[[Row, int], bool] | None = None,
    profile: ProfileWindow | None = None,
) -> FitResult:
    """Train until `steps` updates have been done in all, counting those before a resumption.

    **Arguments:**

    - `state`: the initial state (`init_state`); its buffers are donated. If `checkpoints` already holds one,
      training goes on from there instead, and `state` only says what it looks like.
    - `step`: from `make_step` or `make_host_step`.
    - `log_every`: `on_log(metrics, step)` is called for every step divisible by it, and for the last one.
      Metrics leave the device only when there is something to log, save or evaluate; in between nothing waits
      for the device.
    - `save_every`: steps between checkpoints; the last state is always saved. Saving and evaluating take
      place at the first end of a dispatch at or after the step asked for.
    - `on_nonfinite`: `stop` raises `NonFiniteError`; `rollback` restores the last checkpoint and goes on with
      another key and other batches, at most `max_rollbacks` times in the life of the run. Neither saves such a state.
    - `health`: what counts as a loss spike, which is answered by the same rollback, and as a slow dispatch; those so
      far are counted in `slow_dispatches` of every row of the training passed to `on_log`, and `seconds_per_step` is
      that of the dispatch that ended last. After a rollback the batches from the checkpoint to the spike are left out
      (as in Chowdhery et al. 2204.02311, section 5.1): step n then trains on batch n + `skipped_batches`. After
      `max_rollbacks` rollbacks, spikes are left to pass.
    - `evaluate`: `evaluate(params) -> dict of scalars`, passed to `on_log` every `eval_every` steps and at
      the end.
    - `stop_when`: `stop_when(metrics, step)`, asked wherever `on_log` is; true ends the training.
    - `profile`: the window of steps to trace.

    SIGTERM and SIGINT end the training at the next end of a dispatch, with a checkpoint.

    With several processes all of them call `fit` alike, and `on_log` is called in each: see
    `distributed.is_main`.

    Raises `NonFiniteError`, `CheckpointError` (nothing sound to resume from), `ConfigError`.
    """
    counts = {"steps": steps, "log_every": log_every, "save_every": save_every, "eval_every": eval_every}
    for name, count in counts.items():
        require(count is None or count >= 1, name, "1 or more", count)
    require(on_nonfinite in ("stop", "rollback"), "on_nonfinite", "stop or rollback", on_nonfinite)
    returns = on_nonfinite == "rollback" or health.spike_factor is not None  # to a checkpoint, when need be
    if checkpoints is None:
        require(on_nonfinite == "stop", "on_nonfinite", "stop where there are no checkpoints", on_nonfinite)
        require(not returns, "health.spike_factor", "null where there are no checkpoints", health.spike_factor)

    clock = _Clock()
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state)
    rollbacks, skipped, resumed_from = 0, 0, None
    restored = None if checkpoints is None else checkpoints.restore_latest(like)
    if restored is not None:
        state, resumed_from, extra = restored
        rollbacks, skipped = extra.get("rollbacks", 0), extra.get("skipped_batches", 0)
    at = int(state.step)
    done = 0
    result, interrupted = None, False
    programs = {}  # by length; all dispatches but the last are of one length
    pending: list[tuple[int, dict[str, Array]]] = []  # metrics still on the device, by their first step
    spikes, slow = SpikeWatch(health), SlowWatch(health)
    under_way: deque[tuple[int, int, float]] = deque()  # last step, length and start of the newest dispatches

    def save() -> None:
        if checkpoints is not None:
            with clock.aside("save"):
                checkpoints.save(at, state, {"rollbacks": rollbacks, "skipped_batches": skipped})

    def wait_for_all_but(newest: int) -> None:
        while len(under_way) > newest:
            jax.block_until_ready(pending[-len(under_way)])
            slow.completed(*under_way.popleft(), clock.rest())

    def is_calm(numbered: tuple[int, Row]) -> bool:
        return rollbacks >= max_rollbacks or not spikes.spiked(numbered[1]["loss"])

    def timing() -> Row:
        return {"slow_dispatches": float(slow.count), "seconds_per_step": slow.latest} if slow.on else {}

    def tell(row: Row, number: int) -> bool:
        if on_log is not None:
            on_log(row, number)
        return stop_when is not None and stop_when(row, number)

    if at >= steps:
        result = f"already at step {at}; give more than steps={steps} to train on"
    elif returns and restored is None:
        save()  # something to go back to
    try:
        with Interrupt() as interrupt:
            while result is None:
                length = min(step.steps_per_dispatch - at % step.steps_per_dispatch, steps - at)
                if length not in programs:
                    with clock.aside("compile"):
                        programs[length] = step.compile(state, length)
                if profile is not None:
                    profile.at(at, state)
                launched = clock.rest()
                state, metrics = programs[length](state, at + skipped)
                pending.append((at, metrics))
                before, at = at, at + length
                done += length
                under_way.append((at, length, launched))
                wait_for_all_but(_AHEAD)

                interrupted = interrupted or interrupt.requested()
                logging, saving, evaluating = (
                    at == steps or (every is not None and at // every > before // every)
                    for every in (log_every, save_every, eval_every)
                )
                saving |= interrupted
                if not (logging or saving or evaluating):
                    continue

                wait_for_all_but(0)
                rows = _fetch(pending)
                pending.clear()
                sound = list(takewhile(is_calm, takewhile(_is_finite, rows)))
                stop = False
                for number, row in sound:
                    if number % log_every == 0 or number == steps:
                        stop |= tell(row | timing(), number)
                if len(sound) < len(rows):
                    first = rows[len(sound)]
                    spiked = _is_finite(first)
                    if checkpoints is None or not (spiked or on_nonfinite == "rollback"):
                        raise NonFiniteError(f"{_describe_nonfinite(*first)}; {_REMEDY}, or set on_nonfinite=rollback")
                    if not spiked and rollbacks >= max_rollbacks:
                        raise NonFiniteError(f"{_describe_nonfinite(*first)}, after {rollbacks} rollbacks; {_REMEDY}")
                    rollbacks += 1
                    state, at = _roll_back(checkpoints, like, rollbacks)
                    skipped += first[0] - at
                    continue
                if evaluating and evaluate is not None:
                    with clock.aside("evaluate"):
                        row = _as_row(jax.device_get(evaluate(state.params)))
                    stop |= tell(row, at)
                if saving or stop:
                    save()
                if at == steps:
                    result = f"trained to step {at}"
                elif stop:
                    result = f"stopped at step {at} because stop_when was satisfied"
                elif interrupted:
                    result = f"interrupted at step {at}; " + _how_to_resume(checkpoints)
            jax.block_until_ready(state)
    finally:
        if profile is not None:
            profile.close()
        if checkpoints is not None:
            with clock.aside("save"):
                checkpoints.wait()
    train_seconds = clock.rest()
    stats = {
        "steps": done,
        "steps_per_second": done / train_seconds,
        "train_seconds": train_seconds,
        **{f"{name}_seconds": seconds for name, seconds in clock.seconds.items()},
        "resumed_from": resumed_from,
        "rollbacks": rollbacks,
        "skipped_batches": skipped,
        "slow_dispatches": slow.count,
        "slow_note": slow.note,
    }
    return FitResult(state, result, interrupted, stats)


class _Clock:
    """Seconds since its creation, apart from those spent in named asides."""

    def __init__(self) -> None:
        self.seconds = {"compile": 0.0, "save": 0.0, "evaluate": 0.0}
        self._start = time.perf_counter()

    @contextmanager
    def aside(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    def rest(self) -> float:
        return time.perf_counter() - self._start - sum(self.seconds.values())


def _fetch(pending: list[tuple[int, dict[str, Array]]]) -> list[tuple[int, Row]]:
    """Number and metrics of every step that has ended, in one transfer. The first update ends step 1."""
    fetched = jax.device_get([metrics for _, metrics in pending])
    columns = {name: np.concatenate([metrics[name] for metrics in fetched]) for name in fetched[0]}
    numbers = range(pending[0][0] + 1, pending[0][0] + 1 + len(columns["loss"]))
    return [(number, _as_row({name: columns[name][i] for name in columns})) for i, number in enumerate(numbers)]


def _as_row(metrics: dict[str, np.ndarray]) -> Row:
    return {name: float(value) for name, value in metrics.items()}


def _is_finite(numbered: tuple[int, Row]) -> bool:
    """Whether a step left the parameters sound: a finite loss may still have a gradient that is not."""
    return math.isfinite(numbered[1]["loss"]) and math.isfinite(numbered[1]["gradient_norm"])


def _describe_nonfinite(number: int, row: Row) -> str:
    name = "gradient_norm" if math.isfinite(row["loss"]) else "loss"
    return f"{name} became {row[name]} at step {number}"


def _roll_back(checkpoints: Checkpoints, like: TrainState, rollbacks: int) -> tuple[TrainState, int]:
    """The last checkpoint, with a key that no step before it drew from."""
    restored = checkpoints.restore_latest(like)
    if restored is None:
        raise CheckpointError(f"nothing to roll back to: {checkpoints.directory} was emptied while training")
    state, at, _ = restored
    key = jax.device_put(jax.random.fold_in(state.key, rollbacks), like.key.sharding)
    return state._replace(key=key), at


def _how_to_resume(checkpoints: Checkpoints | None) -> str:
    if checkpoints is None:
        return "nothing was saved, for want of checkpoints"
    return f"resume with resume={checkpoints.directory.parent}"  # a run directory holds them in checkpoints/

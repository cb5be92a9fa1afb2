"""Trains a small, noisy network with checkpoints: `train_small.py DIRECTORY STEP` (a run directory).

Prints `step N` after every step, waits after step STEP until its standard input is closed, and ends with the
result sentence. So a signal sent while it waits arrives at that step, however busy the machine.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.train import FitResult, fit, init_state, make_step

STEPS = 41  # no multiple of the steps per dispatch, so that the last dispatch is a short one


def loss(params, batch, *, key):
    """Mean squared error of a network with one hidden layer, 5% noise on its activations."""
    hidden = jnp.tanh(batch["x"] @ params["first"])
    hidden *= 1 + 0.05 * jax.random.normal(key, hidden.shape)
    return jnp.mean((hidden @ params["second"] - batch["y"]) ** 2), {}


def batch_at(step):
    """Inputs (16, 4) and targets (16, 1), another batch for every step."""
    x = jax.random.normal(jax.random.fold_in(jax.random.key(7), step), (16, 4))
    return {"x": x, "y": jnp.sin(x.sum(axis=1, keepdims=True))}


def train(directory: Path, *, save_every: int = 5, steps: int = STEPS, on_log=None) -> FitResult:
    """Train, or go on training, the run in `directory`."""
    optimizer = OptimizerConfig(name="adamw", weight_decay=0.01, clip_norm=1.0, schedule="cosine").build(STEPS)
    first, second = jax.random.split(jax.random.key(0))
    params = {"first": jax.random.normal(first, (4, 32)), "second": jax.random.normal(second, (32, 1))}
    with Checkpoints(directory / "checkpoints") as checkpoints:
        return fit(
            init_state(params, optimizer, key=jax.random.key(1)),
            make_step(loss, optimizer, batch_at=batch_at, steps_per_dispatch=2),
            steps=steps,
            log_every=1,
            on_log=on_log,
            checkpoints=checkpoints,
            save_every=save_every,
        )


def _tell(metrics, step):
    print(f"step {step}", flush=True)
    if step == int(sys.argv[2]):
        sys.stdin.read()


if __name__ == "__main__":
    print(train(Path(sys.argv[1]), on_log=_tell).result, flush=True)

"""Trains a tiny transformer with checkpoints: `train_tiny.py DIRECTORY DATA,FSDP,PIPE,TENSOR END [PORT INDEX]`.

Prints `step N` after every step and ends with step END; or, where END is negative, waits after step -END until its
standard input is closed, so that a signal sent while it waits arrives at that step, however busy the machine. With
PORT and INDEX it is one of two processes. The losses it has seen go to `DIRECTORY/losses_INDEX.json` at the end.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from jaxsci.core import distributed
from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.train import FitResult, fit
from jaxsci.core.trainstep import HostStep
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.data import Windows
from jaxsci.transformer.model import decays
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.resume import MeshCheckpoints
from jaxsci.transformer.step import batch_sharding, init_state, make_update

# Six layers do not divide into four stages, 101 tokens into no number of tiles; dropout shows in the curve.
MODEL = ModelConfig(layers=6, width=32, heads=4, sequence=16, vocabulary=101, bias=True, dropout=0.1)
STEPS, BATCH = 30, 16
AXES = ("data", "fsdp", "pipe", "tensor")


def train(
    directory: Path, shape: tuple[int, ...], *, steps: int = STEPS, model: ModelConfig = MODEL, on_log=None
) -> tuple[FitResult, dict[int, float]]:
    """Train, or go on training, on a mesh; with the loss of every step done here."""
    plan, mesh = ParallelConfig(microbatches=4), make_mesh(MeshConfig(**dict(zip(AXES, shape, strict=True))))
    where = batch_sharding(plan, mesh)
    # A pattern that can be learned, so that the losses move.
    tokens = (np.arange(20_000) ** 2 % 97 + np.random.default_rng(0).integers(0, 4, 20_000)).astype(np.int32)
    windows = Windows(tokens, model.sequence)
    rule = OptimizerConfig(name="adamw", learning_rate=3e-3, weight_decay=0.1, clip_norm=1.0)
    optimizer = rule.build(STEPS, decay_mask=decays)
    step = HostStep(
        make_update(model, plan, mesh, optimizer),
        lambda n: windows.batch(n, BATCH, plan.microbatches, where),
        1,
        where,
    )
    state = init_state(model, plan, mesh, optimizer, jax.random.key(0))
    losses: dict[int, float] = {}

    def note(row, n):
        losses[n] = row["loss"]
        if on_log is not None:
            on_log(n)

    with MeshCheckpoints(directory / "checkpoints", model, plan, mesh) as checkpoints:
        done = fit(state, step, steps=steps, log_every=1, on_log=note, checkpoints=checkpoints, save_every=4)
    return done, losses


def main(directory: Path, shape: str, end: int, port: int | None = None, index: int = 0) -> None:
    if port is not None:
        joining = distributed.DistributedConfig(
            mode="on", coordinator=f"localhost:{port}", process_id=index, num_processes=2
        )
        distributed.start(joining)

    def on_log(n: int) -> None:
        print(f"step {n}", flush=True)
        if n == -end:
            sys.stdin.read()

    _, losses = train(directory, tuple(map(int, shape.split(","))), steps=end if end > 0 else STEPS, on_log=on_log)
    (directory / f"losses_{index}.json").write_text(json.dumps(losses))
    distributed.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *map(int, sys.argv[4:]))

"""One of two processes: `two_processes.py DIRECTORY PORT INDEX`, each with one CPU device.

Checks inside the processes end in an exception; what concerns both goes to `DIRECTORY/process_INDEX.json`.
"""

import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from jaxsci.core import distributed
from jaxsci.core.checkpoint import Checkpoints
from jaxsci.core.mesh import MeshConfig, make_mesh, replicate
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.train import fit, init_state, make_step


def latest(checkpoints, like, shardings):
    restored = checkpoints.restore_latest(like, shardings=shardings)
    assert restored is not None, "there is no checkpoint"
    return restored


def main(directory: Path, port: int, index: int) -> None:
    config = distributed.DistributedConfig(
        mode="on", coordinator=f"localhost:{port}", process_id=index, num_processes=2
    )
    joined = distributed.start(config)
    mesh = make_mesh(MeshConfig())
    rows, everywhere = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    report = {"joined": joined, "main": distributed.is_main(), "devices": mesh.size}

    # Each process contributes its own row; the sum needs both.
    mine = np.full((1, 3), index + 1.0, np.float32)
    x = jax.make_array_from_process_local_data(rows, mine)
    total = jax.jit(
        jax.shard_map(
            lambda x: jax.lax.psum(x, "data"),
            mesh=mesh,
            in_specs=PartitionSpec("data"),
            out_specs=PartitionSpec(),
        )
    )(x)
    report["psum"] = np.asarray(total).ravel().tolist()

    # Train on parameters cut between the processes, until told to stop.
    initial = np.arange(8, dtype=np.float32).reshape(2, 4)
    optimizer = OptimizerConfig(learning_rate=0.01).build(100_000)
    params = jax.device_put(initial, rows)
    step = make_step(
        lambda params, batch, *, key: (jnp.sum((params - batch) ** 2), {}),
        optimizer,
        batch_at=lambda step: jnp.float32(step % 3),
        steps_per_dispatch=2,
        param_shardings=rows,
    )

    def on_log(metrics, step):
        if distributed.is_main():
            with (directory / "metrics.jsonl").open("a") as file:
                file.write(json.dumps({"step": step, **metrics}) + "\n")
        print(f"step {step}", flush=True)
        time.sleep(0.01)

    with Checkpoints(directory / "checkpoints") as checkpoints:
        state = init_state(params, optimizer, key=jax.random.key(0))
        done = fit(state, step, steps=100_000, log_every=2, on_log=on_log, checkpoints=checkpoints, save_every=10)
        report["result"], report["interrupted"] = done.result, done.interrupted

        # What both wrote, each restores: once as it lay, once whole on every device.
        for sharding in (rows, everywhere):
            like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), done.state)
            shardings = jax.tree.map(lambda leaf: everywhere if leaf.ndim == 0 else sharding, like)  # noqa: B023
            restored, at, _ = latest(checkpoints, like, shardings=shardings)
            assert at == int(done.state.step)
            assert restored.params.sharding.is_equivalent_to(sharding, 2)
            same = jax.jit(lambda a, b: jnp.array_equal(a, b), out_shardings=everywhere)
            assert bool(same(restored.params, done.state.params))
        report["step"] = at

        # A part of the newest checkpoint is damaged: both processes turn to the one before.
        distributed.barrier("before damage")
        if distributed.is_main():
            manifest = checkpoints.directory / str(at) / "manifest" / "metadata"
            manifest.write_text(manifest.read_text()[:-20])
        distributed.barrier("after damage")
        _, report["fallback"], _ = latest(checkpoints, like, shardings=shardings)

        # An array that only one process has cannot be part of a checkpoint, and is refused in a sentence.
        try:
            checkpoints.save(1, {"here": jnp.ones(2)})
        except Exception as error:
            report["refused"] = f"{type(error).__name__}: {error}"
        checkpoints.save(1_000_000, {"here": replicate(jnp.ones(2), mesh)})
    (directory / f"process_{index}.json").write_text(json.dumps(report))
    distributed.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

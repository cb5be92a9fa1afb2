"""Every process lowers the same program, whatever the order in which its sets happen to be kept."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PROGRAM = """
import sys
import jax
jax.config.update("jax_num_cpu_devices", 8)
from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.lowering import batch_shapes, lower_step, placed
from jaxsci.transformer.layout import layout
from jaxsci.transformer.model import init
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.step import make_evaluate
model = ModelConfig(layers=2, width=16, heads=2, sequence=16, vocabulary=256)
plan = ParallelConfig(microbatches=2)
mesh = make_mesh(MeshConfig(data=1, fsdp=2, pipe=2, tensor=2))
params = placed(mesh, jax.eval_shape(lambda key: init(model, layout(model, plan, mesh.shape), key), jax.random.key(0)))
print(lower_step(model, plan, mesh, 8).as_text())
print(make_evaluate(model, plan, mesh).lower(params, batch_shapes(model, plan, mesh, 8)).as_text())
"""


def test_the_hash_seed_changes_no_program():
    texts = []
    for seed in range(4):
        environment = {**os.environ, "XLA_FLAGS": "", "PYTHONHASHSEED": str(seed)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=REPOSITORY,
            env=environment,
            capture_output=True,
            check=True,
            timeout=200,
        )
        assert len(done.stdout) > 10_000
        texts.append(hashlib.sha256(done.stdout).hexdigest())
    assert len(set(texts)) == 1

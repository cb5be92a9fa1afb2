"""The compiler's witness in a process of its own.

There it has as many fake CPU devices as it needs, however many this process started with; the memory it is said to
have used is its own; and a compiler that aborts takes nothing with it. Questions and answers are JSON.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import jax

from jaxsci.core.config import build, to_mapping
from jaxsci.core.errors import ConfigError, JaxsciError
from jaxsci.transformer.budget import Collective
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.plan.buffers import Buffer
from jaxsci.transformer.plan.compile import Compiled, compile_ahead
from jaxsci.transformer.plan.program import Traffic
from jaxsci.transformer.plan.target import target

ROOT = Path(__file__).resolve().parents[1]


def compile_apart(
    model: ModelConfig, plan: ParallelConfig, mesh: Mapping[str, int], batch: int, target: str
) -> Compiled:
    """`compile_ahead` in a new process. Raises `ConfigError`: its refusals, and the last words of a compiler that
    died.
    """
    question = {
        "model": to_mapping(model),
        "parallel": to_mapping(plan),
        "mesh": dict(mesh),
        "batch": batch,
        "target": target,
    }
    done = subprocess.run(
        [sys.executable, "-m", "experiments.plan_compile"],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        env=_environment(),
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        words = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
        raise ConfigError(f"compile: the compiler's process ended with status {done.returncode} ({words})")
    answer = json.loads(lines[-1])
    if "refused" in answer:
        raise ConfigError(answer["refused"])
    return _compiled(answer)


def main() -> None:
    """Read a question from standard input, write the answer to standard output."""
    question = json.loads(sys.stdin.read())
    if question["target"] == "cpu":
        jax.config.update("jax_num_cpu_devices", math.prod(question["mesh"].values()))
    try:
        model = build(ModelConfig, question["model"])
        plan = build(ParallelConfig, question["parallel"])
        found = compile_ahead(model, plan, question["mesh"], question["batch"], target(question["target"]))
        answer = found._asdict()
        for name in ("collectives", "traffic", "largest"):
            answer[name] = [item._asdict() for item in answer[name]]
    except JaxsciError as error:
        answer = {"refused": str(error)}
    print(json.dumps(answer))


def _environment() -> dict[str, str]:
    """No accelerator is touched, and no cache answers in the compiler's place: its seconds would be the disk's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    flags = [f for f in kept.pop("XLA_FLAGS", "").split() if "xla_force_host_platform_device_count" not in f]
    kept.pop("NPROC", None)
    return kept | {
        "JAX_PLATFORMS": "cpu",
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",  # the wheel would complain at length that there is no CUDA
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), kept.get("PYTHONPATH")))),
        "XLA_FLAGS": " ".join(flags),
    }


def _compiled(answer: dict) -> Compiled:
    collectives = [
        Collective(**item | {name: _tuples(item[name]) for name in ("loops", "shapes", "group")})
        for item in answer["collectives"]
    ]
    traffic = [Traffic(**item | {"axes": tuple(item["axes"])}) for item in answer["traffic"]]
    largest = tuple(Buffer(**item) for item in answer["largest"])
    return Compiled(**answer | {"collectives": collectives, "traffic": traffic, "largest": largest})


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


if __name__ == "__main__":
    main()

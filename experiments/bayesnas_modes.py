"""How members share a program on this machine, measured at the start."""

import time

import jax
import jax.numpy as jnp

from experiments.bayesnas_arms import Problem, cross_entropy
from experiments.bayesnas_config import Config
from jaxsci.bayesnas.members import Mode, Trainer, advance, start_chains
from jaxsci.bayesnas.weights import Task

MEMBERS, STEPS = 2, 2


def fastest_mode(config: Config, problem: Problem) -> tuple[Mode, dict[str, float]]:
    """The fastest of vmap, map and unroll, and seconds per step of each: two members, two steps, after compiling."""
    task = Task(len(problem.train.y), config.ensemble.steps, config.ensemble.prior_std)
    trainer = Trainer(config.space, config.baseline, task, cross_entropy, config.ensemble.batch_size)
    z = jnp.full((MEMBERS, config.space.decisions, len(config.space.ops)), 1 / len(config.space.ops))
    keys = jax.random.split(jax.random.key(config.seed), MEMBERS)
    timings: dict[Mode, float] = {}
    candidates: tuple[Mode, ...] = ("vmap", "map", "unroll")
    for mode in candidates:
        chains = start_chains(trainer, z, problem.train.x.shape[1:], problem.classes, keys=keys)
        for attempt in range(2):
            begin = time.perf_counter()
            chains, info = advance(trainer, chains, problem.train, attempt * STEPS, STEPS, mode=mode)
            jax.block_until_ready(info)
            timings[mode] = (time.perf_counter() - begin) / STEPS
    best = min(timings, key=lambda mode: timings[mode])
    return best, {str(mode): seconds for mode, seconds in timings.items()}

"""Pseudo-anomalies: what a degraded worker would have done to the telemetry of a run, without any label.

Random workers of a run are taken to be degraded, and *all* their jobs suffer, each column as the physics of the part
demands and derived columns consistently:

    cores   the part of the runtime that is not staging takes a times as long; a job that spins less while it waits uses
            less CPU time; rates per second fall by a
    disk    staging takes s times as long, its rates fall by s, and the part of the runtime that is at the disk follows
    network staging from and to the submit site takes s times as long; the job itself does not suffer

A run can also be slow as a whole, or on one physical machine, without any worker being at fault (containers share
disks): `Nuisance` does that to original and degraded views alike, so that it is not mistaken for an anomaly.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.core.config import between, require
from jaxsci.workflows.batch import Runs
from jaxsci.workflows.features import TELEMETRY

KINDS = ("normal", "cores", "disk", "network")

_RUNTIME = TELEMETRY.index("runtime")
_STAGE_IN, _STAGE_OUT = TELEMETRY.index("stage_in_delay"), TELEMETRY.index("stage_out_delay")
_CPU_TIMES = tuple(
    TELEMETRY.index(name)
    for name in ("kickstart_executables_cpu_time", "kickstart_online_utime", "kickstart_online_stime")
)
_STAGE_RATES = tuple(TELEMETRY.index(f"stage_{way}_effective_bytes_per_sec") for way in ("in", "out"))
_JOB_RATES = tuple(TELEMETRY.index(f"kickstart_online_bytes_{way}_per_second") for way in ("read", "written"))
_IOWAIT = TELEMETRY.index("kickstart_online_iowait")


@dataclass(frozen=True)
class PseudoConfig:
    """`rate` bounds the share of workers degraded in a run. `slowest_cores`, `slowest_disk`: largest factors, drawn
    log-uniformly from just above 1. `least_cpu_time`: smallest factor of CPU time. `shared`: largest standard deviation
    of the logarithm by which a whole run, and each physical machine, is slow without fault; a run's own is drawn
    uniformly below it, as some runs are calm and some are not."""

    rate: float = 0.4
    slowest_cores: float = 4.0
    slowest_disk: float = 20.0
    least_cpu_time: float = 0.75
    shared: float = 0.6

    def __post_init__(self):
        between(self, "rate", 0.05, 0.9)
        between(self, "least_cpu_time", 0.05, 1.0)
        for name in ("slowest_cores", "slowest_disk"):
            require(getattr(self, name) > 1, name, "a factor above 1", getattr(self, name))
        require(self.shared >= 0, "shared", "0 or more", self.shared)


class Factors:
    """By job: how many times longer staging and the rest take, and how much CPU time is used."""

    def __init__(
        self,
        stage: Float[Array, "runs nodes"],
        work: Float[Array, "runs nodes"],
        cpu_time: Float[Array, "runs nodes"],
    ):
        self.stage, self.work, self.cpu_time = stage, work, cpu_time


def degrade(columns: Float[Array, "runs nodes features"], by: Factors) -> Float[Array, "runs nodes features"]:
    """The columns under `by`; factors of 1 change nothing. Missing entries, 0 here, stay 0."""
    runtime, stage_in, stage_out = columns[..., _RUNTIME], columns[..., _STAGE_IN], columns[..., _STAGE_OUT]
    rest = jnp.maximum(runtime - stage_in - stage_out, 0.0)
    longer = (stage_in + stage_out) * (by.stage - 1.0) + rest * (by.work - 1.0)
    multiplied = (
        columns.at[..., _STAGE_IN]
        .multiply(by.stage)
        .at[..., _STAGE_OUT]
        .multiply(by.stage)
        .at[..., np.array(_STAGE_RATES)]
        .divide(by.stage[..., None])
        .at[..., np.array(_JOB_RATES)]
        .divide(by.work[..., None])
        .at[..., _IOWAIT]
        .multiply(by.work)
        .at[..., np.array(_CPU_TIMES)]
        .multiply(by.cpu_time[..., None])
    )
    return multiplied.at[..., _RUNTIME].set(runtime + longer)


def pseudo_anomalies(
    columns: Float[Array, "runs nodes features"], runs: Runs, config: PseudoConfig, *, key: PRNGKeyArray
) -> tuple[Float[Array, "runs nodes features"], Int[Array, "runs nodes"]]:
    """Degraded columns and the kind (index into `KINDS`) each job's worker was given. Rows of kind 0 are unchanged."""
    keys = jax.random.split(key, 6)
    shape = (len(runs), runs.workers)
    rate = jax.random.uniform(keys[0], (len(runs), 1), minval=0.0, maxval=config.rate)
    kind = jax.random.randint(keys[1], shape, 1, len(KINDS)) * jax.random.bernoulli(keys[2], rate, shape)

    def log_uniform(key: PRNGKeyArray, largest: float) -> Float[Array, "runs workers"]:
        return jnp.exp(jax.random.uniform(key, shape) * jnp.log(largest))

    slow_work, slow_stage = log_uniform(keys[3], config.slowest_cores), log_uniform(keys[4], config.slowest_disk)
    share = jax.random.uniform(keys[5], shape)  # of the job's own time that is spent at the disk; of the cores lost
    work = jnp.select([kind == 1, kind == 2], [1.0 + (slow_work - 1.0) * share, slow_stage**share], 1.0)
    stage = jnp.where(kind >= 2, slow_stage, 1.0)
    cpu_time = jnp.where(kind == 1, config.least_cpu_time ** (1.0 - share), 1.0)
    worker_kind = jnp.take_along_axis(kind, runs.worker, axis=1) * (runs.on_worker > 0)

    def of_jobs(factor: Float[Array, "runs workers"]) -> Float[Array, "runs nodes"]:
        return jnp.where(worker_kind > 0, jnp.take_along_axis(factor, runs.worker, axis=1), 1.0)

    return degrade(columns, Factors(of_jobs(stage), of_jobs(work), of_jobs(cpu_time))), worker_kind


def nuisance(
    columns: Float[Array, "runs nodes features"], runs: Runs, config: PseudoConfig, *, key: PRNGKeyArray
) -> Float[Array, "runs nodes features"]:
    """Runs and physical machines that are slow, or fast, without fault of a worker."""

    def shared(key: PRNGKeyArray) -> Float[Array, "runs nodes"]:
        whole, machine, spread = jax.random.split(key, 3)
        of_run = jnp.abs(jax.random.normal(whole, (len(runs), 1)))
        of_machine = jnp.abs(jax.random.normal(machine, (len(runs), runs.machines)))
        scale = jax.random.uniform(spread, (len(runs), 1), maxval=config.shared)
        return jnp.exp(scale * (of_run + jnp.take_along_axis(of_machine, runs.machine, axis=1)))

    first, second = jax.random.split(key)
    stage, work = shared(first), shared(second)
    return degrade(columns, Factors(stage, work, jnp.ones_like(work)))

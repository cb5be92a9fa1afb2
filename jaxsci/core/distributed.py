"""Explicit start of `jax.distributed`: several processes as one program, never by accident."""

import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import jax
from jax.experimental import multihost_utils

from jaxsci.core.config import one_of, positive, require
from jaxsci.core.errors import ConfigError, JaxsciError

# What a launcher sets, in the order in which it is looked for: (name, number of processes, index of this
# process). SLURM_STEP_NUM_TASKS counts the tasks of this srun; SLURM_NTASKS, those of the allocation, also
# exists in the batch script, which is a single process.
_LAUNCHERS = (
    ("JAX", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"),
    ("Open MPI", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("SLURM", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
    ("SLURM", "SLURM_NTASKS", "SLURM_PROCID"),
)
_COORDINATOR = "JAX_COORDINATOR_ADDRESS"


@dataclass(frozen=True)
class DistributedConfig:
    """Whether and how this process joins others.

    - `mode`: `auto` starts when the environment shows more than one process (variables of JAX, Open MPI or
      SLURM), `on` insists, `off` never starts.
    - `coordinator`: `host:port` of process 0; overrides `JAX_COORDINATOR_ADDRESS`. SLURM and older Open MPI
      need none.
    - `process_id`, `num_processes`: override what the launcher's variables say.
    - `heartbeat_timeout_seconds`: a process silent for longer counts as dead. Good values: 60 to 300.
    """

    mode: str = "auto"
    coordinator: str | None = None
    process_id: int | None = None
    num_processes: int | None = None
    heartbeat_timeout_seconds: int = 100

    def __post_init__(self):
        one_of(self, "mode", ("auto", "on", "off"))
        positive(self, "num_processes", "heartbeat_timeout_seconds")
        where = self.coordinator
        require(where is None or where.rpartition(":")[2].isdigit(), "coordinator", "host:port", where)
        require(self.process_id is None or self.process_id >= 0, "process_id", "0 or more", self.process_id)
        if self.process_id is not None and self.num_processes is not None:
            require(
                self.process_id < self.num_processes,
                "process_id",
                f"a value below num_processes={self.num_processes}",
                self.process_id,
            )


def start(config: DistributedConfig, environment: Mapping[str, str] = os.environ) -> bool:
    """Join the other processes if `config` says so; return whether this process is now one of several.

    Call it before anything touches a device. Raises `ConfigError`, naming the variables seen and missing,
    when the processes cannot be told apart.
    """
    if config.mode == "off" or jax.distributed.is_initialized():
        return jax.distributed.is_initialized()
    launcher, count, index = _seen(environment)
    coordinator = config.coordinator or environment.get(_COORDINATOR)
    count = count if config.num_processes is None else config.num_processes
    index = index if config.process_id is None else config.process_id
    if config.mode == "auto" and (count is None or count < 2) and coordinator is None:
        return False

    missing = []
    if count is None:
        missing.append("distributed.num_processes (or JAX_NUM_PROCESSES)")
    if index is None:
        missing.append("distributed.process_id (or JAX_PROCESS_ID)")
    if coordinator is None and not _finds_coordinator(launcher, environment):
        missing.append(f"distributed.coordinator=host:port (or {_COORDINATOR})")
    if missing:
        seen = [name for name in _variables() if name in environment]
        raise ConfigError(
            "distributed: expected to know coordinator, process_id and num_processes; "
            f"missing {', '.join(missing)}; "
            f"variables seen: {', '.join(seen) or 'none'}; set them or distributed.mode=off"
        )
    # Both concern CPU devices only. Without gloo processes on CPUs cannot exchange data; and with two programs in
    # flight their collectives could meet in another order on each process, and wait for each other for ever.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    jax.distributed.initialize(
        coordinator_address=coordinator,
        num_processes=count,
        process_id=index,
        heartbeat_timeout_seconds=config.heartbeat_timeout_seconds,
    )
    return True


def is_main() -> bool:
    """Whether this process writes what only one may write. Touches no device unless `start` has joined."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def barrier(name: str) -> None:
    """Wait until every process has come to the barrier of this `name`; nothing to do for a single process."""
    if jax.distributed.is_initialized():
        multihost_utils.sync_global_devices(name)


@contextmanager
def ending_together() -> Iterator[None]:
    """Inside the block, an unexpected exception ends this process at once if it is one of several.

    The others wait for it in their next collective. A process that leaves in good order would wait for them at the
    door; one that is gone is missed after `heartbeat_timeout_seconds` (process 0 at once), and they end too.
    """
    try:
        yield
    except JaxsciError:
        raise
    except Exception:
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def shutdown() -> None:
    """Leave the other processes; nothing to do for a single process."""
    if jax.distributed.is_initialized():
        jax.distributed.shutdown()


def _seen(environment: Mapping[str, str]) -> tuple[str | None, int | None, int | None]:
    """The launcher that set its variables, with the number of processes and the index of this one."""
    for launcher, count, index in _LAUNCHERS:
        if count in environment and index in environment:
            return launcher, _whole(count, environment), _whole(index, environment)
    return None, None, None


def _whole(name: str, environment: Mapping[str, str]) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise ConfigError(f"{name}: expected a whole number, got '{environment[name]}'") from None


def _finds_coordinator(launcher: str | None, environment: Mapping[str, str]) -> bool:
    """Whether `jax.distributed` can work out the address of process 0 from what the launcher says."""
    if launcher == "SLURM":
        return all(name in environment for name in ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_LOCALID"))
    return launcher == "Open MPI" and "OMPI_MCA_orte_hnp_uri" in environment


def _variables() -> tuple[str, ...]:
    return tuple(dict.fromkeys([_COORDINATOR, *(name for _, *names in _LAUNCHERS for name in names)]))

"""What recorded runs say about the jobs and the pool that a simulation of them needs."""

from itertools import zip_longest

import numpy as np
from jaxtyping import Int

from jaxsci.workflows.testbed import JobModel, TestbedConfig
from jaxsci.workflows.workflow import Workflow

LEAST_SECONDS, NO_STAGING_RATE = 0.5, 100.0
NEGOTIATION = 20.0  # seconds between negotiations of the scheduler; longer queueing is for want of slots
CONTAINERS_SEEN = 0.1  # of the runs in which a host must have had a job to count as one of the pool


def job_model(workflow: Workflow, runs: Int[np.ndarray, "some"]) -> JobModel:
    """Medians over `runs`, which should be normal ones, by job. Missing values count as 0.

    A job writes what it reports to have written, and at least what it stages out.
    """
    x = {name: _median(workflow, name, runs) for name in _USED}
    work = np.maximum(x["runtime"] - x["stage_in_delay"] - x["stage_out_delay"], LEAST_SECONDS)
    stage_in, stage_out = x["stage_in_bytes"] / 1e6, x["stage_out_bytes"] / 1e6
    rate = np.where(x["stage_in_delay"] > 0, stage_in / np.maximum(x["stage_in_delay"], LEAST_SECONDS), NO_STAGING_RATE)
    return JobModel(
        cpu=work,
        demand=np.clip(x["kickstart_executables_cpu_time"] / work, 0.0, 1.0),
        stage_in=stage_in,
        stage_out=stage_out,
        written=np.maximum(x["kickstart_online_bytes_written"] / 1e6, stage_out),
        net=np.clip(rate, 1.0, 200.0),
        wms=np.maximum(x["wms_delay"], 0.0),
        queue=np.clip(x["queue_delay"], 0.0, NEGOTIATION),
        post=np.maximum(x["post_script_delay"], 0.0),
        on_worker=workflow.compute_jobs(),
        edges=workflow.edges,
    )


_USED = (
    "runtime",
    "stage_in_delay",
    "stage_out_delay",
    "stage_in_bytes",
    "stage_out_bytes",
    "kickstart_executables_cpu_time",
    "kickstart_online_bytes_written",
    "wms_delay",
    "queue_delay",
    "post_script_delay",
)


def _median(workflow: Workflow, name: str, runs: Int[np.ndarray, "some"]) -> np.ndarray:
    return np.median(np.nan_to_num(workflow.feature(name)[runs].astype(np.float64)), axis=0)


def pool_hosts(workflow: Workflow) -> list[int]:
    """Hosts that had jobs in at least a tenth of the runs, taken in turn from each physical machine: host i is on
    machine i modulo their number, as the simulation has it, for as long as every machine has one left."""
    on, host = workflow.on_worker(), workflow.host
    machines: dict[str, list[int]] = {}
    for h, name in enumerate(workflow.hosts):
        if (on & (host == h)).any(axis=1).mean() >= CONTAINERS_SEEN:
            machines.setdefault(name.split("-container-")[0] if "-container-" in name else "", []).append(h)
    return [h for several in zip_longest(*machines.values()) for h in several if h is not None]


def pool_of(workflow: Workflow) -> TestbedConfig:
    """The workers of the runs and the physical machines they are on."""
    hosts = pool_hosts(workflow)
    machines = {workflow.hosts[h].split("-container-")[0] for h in hosts if "-container-" in workflow.hosts[h]}
    return TestbedConfig(workers=max(len(hosts), 1), machines=max(len(machines), 1))


def degraded_counts(workflow: Workflow, workers: int) -> dict[str, Int[np.ndarray, "runs"]]:
    """By class, how many of `workers` were degraded in each of its runs, from the share among those with jobs."""
    on, bad, host = workflow.on_worker(), workflow.anomalous(), workflow.host
    counts: dict[str, list[int]] = {}
    for r, kind in enumerate(workflow.run_class()):
        used = len(np.unique(host[r][on[r]]))
        hurt = len(np.unique(host[r][bad[r]]))
        counts.setdefault(workflow.classes[kind], []).append(max(round(workers * hurt / max(used, 1)), int(hurt > 0)))
    return {name: np.array(values) for name, values in counts.items()}

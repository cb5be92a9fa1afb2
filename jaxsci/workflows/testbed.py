"""A testbed of workers simulated event by event: slots, cores, disks with write-back cache, network with loss.

A job whose parents are done is *ready*, is submitted after its `wms` delay, waits for the next negotiation and then in
a first-in-first-out queue, and starts on the worker with the fewest jobs, of several on one that this run has used
before (HTCondor spreads jobs and keeps its claims). It stages in, works, waits until what it wrote is on the disk, and
stages out. Between events everything flows at constant rates, so the simulation is exact for the model:

    staging in  min(network rate x loss factor, share of the worker's disk); what arrives is dirty in the page cache
    working     min(1, cores of the worker / cores its jobs keep busy)^crowding / slow-down by its disk; writes
    flushing    until the worker's disk has taken all that was dirty when the work ended (`disks.Disks`)
    staging out min(network rate x loss factor, share of the worker's disk); read from the page cache

The anomalies: `cpu` takes cores away; `hdd` throttles the worker's disk to writing `level` MB/s; `loss` slows the
network of the worker as 1 / (RTT sqrt(2 p / 3)) does once that is below the link (Mathis et al.,
doi:10.1145/263932.264023; not calibrated: the traces have none). Jobs at the submit site start at once, uncontended.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsci.core.config import between, positive, require

LINK_RTT, SEGMENT = 0.0005, 1460e-6  # seconds; MB


@dataclass(frozen=True)
class TestbedConfig:
    """The pool: `workers` of `slots` slots and `cores` cores on `machines` machines; `worker_disk` in MB/s is each
    worker's share of the physical disk.

    - `noise`: standard deviation of the logarithm of work and volume from run to run.
    - `root_delay`: seconds over which roots are submitted.
    - `crowding`: work slows with this power of the cores wanted over those there are; below 1, since of jobs that wait
      for cores fewer run at once, and each finds more memory bandwidth.
    - `cache`: MB of written data a throttled worker holds in memory before its writers must wait. Linux lets a fifth of
      the memory be dirty; a worker of Flow-Bench has 16 GB.
    - `small_files`: extra work, in shares of a job's own, that waits for a disk throttled to 10 MB/s; twice that at 5.
    - `beside`: share of that which the other workers of a machine suffer, were all its workers throttled.
    - `entangled`: chance that a job beside a throttled worker must wait until that one's data are on the disk they
      share, too (one journal commits what all have written).

    The last five say what no first principle does. `testbed_calibration` fits them to recorded runs; the values here
    are what it finds for 1000genome of Flow-Bench.
    """

    workers: int = 20
    slots: int = 4
    cores: float = 4.0
    machines: int = 2
    worker_disk: float = 400.0
    noise: float = 0.03
    root_delay: float = 5.0
    crowding: float = 0.94
    cache: float = 2400.0
    small_files: float = 0.5
    beside: float = 1.2
    entangled: float = 0.9

    def __post_init__(self):
        positive(self, "workers", "slots", "cores", "machines", "worker_disk")
        between(self, "crowding", 0.2, 1.0)
        between(self, "entangled", 0.0, 1.0)
        for name in ("noise", "cache", "small_files", "beside"):
            require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))


@dataclass(frozen=True)
class JobModel:
    """What each of N jobs does on an idle, healthy worker.

    - `cpu`: seconds of work; `demand`: cores it keeps busy meanwhile, between 0 and 1.
    - `stage_in`, `stage_out`, `written`: MB; what the work itself writes is `written`. `net`: MB/s.
    - `wms`, `queue`, `post`: seconds from ready to submission, from there to the next negotiation, and after the end.
    - `on_worker`: the others run at the submit site. `edges`: parent, child.
    """

    cpu: Float[np.ndarray, "nodes"]
    demand: Float[np.ndarray, "nodes"]
    stage_in: Float[np.ndarray, "nodes"]
    stage_out: Float[np.ndarray, "nodes"]
    written: Float[np.ndarray, "nodes"]
    net: Float[np.ndarray, "nodes"]
    wms: Float[np.ndarray, "nodes"]
    queue: Float[np.ndarray, "nodes"]
    post: Float[np.ndarray, "nodes"]
    on_worker: Bool[np.ndarray, "nodes"]
    edges: Int[np.ndarray, "edges 2"]


@dataclass(frozen=True)
class Anomaly:
    """`kind` normal, cpu, hdd or loss, its `level` (see `ExperimentRequest`), on `n_workers` workers."""

    kind: str = "normal"
    level: float = 0.0
    n_workers: int = 0

    def __post_init__(self):
        known = ("normal", "cpu", "hdd", "loss")
        require(self.kind in known, "anomaly", f"one of {', '.join(known)}", self.kind)
        require(self.level >= 0, "level", "0 or more", self.level)
        require(self.kind != "hdd" or self.level > 0, "level", "MB/s above 0 for hdd", self.level)


@dataclass(frozen=True)
class Trace:
    """What happened to each job, in seconds from the start. `worker` is -1 at the submit site.

    Work ends at `computed`, and for the telemetry at `flushed`, when all it wrote was on the disk. `cpu_work` (s) and
    `volume` (MB staged in) are this run's amounts, drawn around those of the model.
    """

    ready: Float[np.ndarray, "nodes"]
    submit: Float[np.ndarray, "nodes"]
    start: Float[np.ndarray, "nodes"]
    staged_in: Float[np.ndarray, "nodes"]
    computed: Float[np.ndarray, "nodes"]
    flushed: Float[np.ndarray, "nodes"]
    end: Float[np.ndarray, "nodes"]
    worker: Int[np.ndarray, "nodes"]
    degraded: Int[np.ndarray, "anomalous"]
    cpu_work: Float[np.ndarray, "nodes"]
    volume: Float[np.ndarray, "nodes"]

    @property
    def makespan(self) -> float:
        """Seconds from the first job to the last."""
        return float(self.end.max() - self.ready.min())


def loss_factor(percent: float, rate: Float[np.ndarray, "nodes"]) -> Float[np.ndarray, "nodes"]:
    """Share of its undisturbed rate (MB/s) that a transfer keeps at this packet loss; 1 without loss."""
    if percent <= 0:
        return np.ones_like(rate)
    bound = SEGMENT / (LINK_RTT * np.sqrt(2.0 * percent / 300.0))
    return np.minimum(1.0, bound / np.maximum(rate, 1e-9))

"""A testbed of workers simulated event by event: slots, cores, disks with write-back cache, network with loss.

A job whose parents are done is *ready*, is submitted after its `wms_delay`, waits in a first-in-first-out queue and
starts on a random worker with a free slot. It stages in, computes, stages out. Between events everything flows at
constant rates, so the simulation is exact for the model:

    computing   min(1, cores of the worker / jobs computing on it) / slow-down of its disk
    staging     min(network rate of the job x loss factor, share of the worker's disk) / slow-down of its machine's disk

The anomalies: `cpu` takes cores away; `hdd` throttles the worker's own disk, writing to `level` MB/s, reading to twice
that; `loss` slows the network of the worker as 1 / (RTT sqrt(2 p / 3)) does once that is below the link (Mathis et al.,
doi:10.1145/263932.264023; not calibrated: the traces have none). Three effects of a throttled disk are no first
principles but constants fitted to traces: how much of a stage-in the page cache takes up before the disk must follow,
how much of a job's own work waits for the disk, and how much the other workers of the machine, which share its physical
disk, suffer. Jobs at the submit site start at once, uncontended.
"""

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from jaxtyping import Float, Int

from jaxsci.core.config import between, positive, require

LINK_RTT, SEGMENT = 0.0005, 1460e-6  # seconds; MB
HARD_LIMIT = 10.0  # MB/s, at which the fitted constants of a throttled disk are stated


@dataclass(frozen=True)
class TestbedConfig:
    """The pool: `workers` of `slots` slots and `cores` cores on `machines` machines; `worker_disk` in MB/s.

    - `noise`: standard deviation of the logarithm of work and volume from run to run.
    - `root_delay`: seconds over which roots are submitted.
    - `cached`: share of staged volume that the page cache takes up.
    - `work_at_disk`: extra work, in shares of a job's own, on a worker throttled to 10 MB/s; twice that at 5 MB/s.
    - `shared_work`, `shared_staging`: the same for the other workers of a machine all of whose workers are throttled.

    The values are those that fit 1000genome of Flow-Bench (`experiment=benchmarks/testbed` measures how well).
    """

    workers: int = 20
    slots: int = 4
    cores: float = 4.0
    machines: int = 2
    worker_disk: float = 400.0
    noise: float = 0.03
    root_delay: float = 5.0
    cached: float = 0.37
    work_at_disk: float = 0.5
    shared_work: float = 1.4
    shared_staging: float = 0.6

    def __post_init__(self):
        positive(self, "workers", "slots", "cores", "machines", "worker_disk")
        between(self, "cached", 0.0, 0.99)
        for name in ("noise", "work_at_disk", "shared_work", "shared_staging"):
            require(getattr(self, name) >= 0, name, "0 or more", getattr(self, name))


@dataclass(frozen=True)
class JobModel:
    """What each of N jobs does on an idle, healthy worker.

    Seconds: `cpu`, `wms`, `post`. MB: `stage_in`, `stage_out`. MB/s: `net`. `on_worker`: the others run at the submit
    site. `edges`: parent, child.
    """

    cpu: Float[np.ndarray, "nodes"]
    stage_in: Float[np.ndarray, "nodes"]
    stage_out: Float[np.ndarray, "nodes"]
    net: Float[np.ndarray, "nodes"]
    wms: Float[np.ndarray, "nodes"]
    post: Float[np.ndarray, "nodes"]
    on_worker: np.ndarray
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


@dataclass(frozen=True)
class Trace:
    """What happened to each job, in seconds from the start. `worker` is -1 at the submit site."""

    ready: Float[np.ndarray, "nodes"]
    submit: Float[np.ndarray, "nodes"]
    start: Float[np.ndarray, "nodes"]
    staged_in: Float[np.ndarray, "nodes"]
    computed: Float[np.ndarray, "nodes"]
    end: Float[np.ndarray, "nodes"]
    worker: Int[np.ndarray, "nodes"]
    degraded: Int[np.ndarray, "anomalous"]
    cpu_work: Float[np.ndarray, "nodes"]

    @property
    def makespan(self) -> float:
        return float(self.end.max() - self.ready.min())


def loss_factor(percent: float, rate: Float[np.ndarray, "nodes"]) -> Float[np.ndarray, "nodes"]:
    """Share of its undisturbed rate (MB/s) that a transfer keeps at this packet loss; 1 without loss."""
    if percent <= 0:
        return np.ones_like(rate)
    bound = SEGMENT / (LINK_RTT * np.sqrt(2.0 * percent / 300.0))
    return np.minimum(1.0, bound / np.maximum(rate, 1e-9))


def simulate(model: JobModel, anomaly: Anomaly, config: TestbedConfig, rng: np.random.Generator) -> Trace:
    """One run of the workflow. The same `rng` state gives the same run."""
    return _Simulation(model, anomaly, config, rng).run()


class _Simulation:
    """Rates change on one worker at a time, so an event touches only the jobs of its worker."""

    def __init__(self, model: JobModel, anomaly: Anomaly, config: TestbedConfig, rng: np.random.Generator):
        nodes = len(model.cpu)
        self.model, self.config, self.rng = model, config, rng
        self.cores = np.full(config.workers, config.cores)
        self.disk = np.full(config.workers, config.worker_disk)
        chosen = min(anomaly.n_workers, config.workers) if anomaly.kind != "normal" else 0
        self.degraded = rng.choice(config.workers, chosen, replace=False)
        self.net = model.net
        self.loss = np.ones((config.workers, nodes))
        self.slow_work, self.slow_staging = np.ones(config.workers), np.ones(config.workers)
        machine = np.arange(config.workers) % config.machines
        if anomaly.kind == "cpu":
            self.cores[self.degraded] = max(config.cores - anomaly.level, 0.1)
        elif anomaly.kind == "hdd":
            self._throttle(anomaly.level, machine)
        elif anomaly.kind == "loss":
            self.loss[self.degraded] = loss_factor(anomaly.level, model.net)
        noise = np.exp(config.noise * rng.standard_normal((2, nodes)))
        self.cpu_work = np.maximum(model.cpu * noise[0], 1e-3)
        self.work = np.stack(
            [np.maximum(model.stage_in * noise[1], 0.01), self.cpu_work, np.maximum(model.stage_out, 0.01)]
        )
        self.left = self.work.copy()
        self.phase = np.zeros(nodes, int)
        self.rate = np.zeros(nodes)
        self.stamp = np.zeros(nodes)
        self.version = np.zeros(nodes, int)
        self.worker = np.full(nodes, -1)
        self.here: list[set[int]] = [set() for _ in range(config.workers)]
        self.times = {name: np.zeros(nodes) for name in ("ready", "submit", "start", "staged_in", "computed", "end")}
        self.heap: list[tuple[float, int, str, int, int]] = []
        self.queue: list[int] = []
        self.count = 0
        self.children: list[list[int]] = [[] for _ in range(nodes)]
        self.waiting = np.zeros(nodes, int)
        for parent, child in model.edges.tolist():
            self.children[parent].append(child)
            self.waiting[child] += 1

    def _throttle(self, level: float, machine: Int[np.ndarray, "workers"]) -> None:
        config, hurt = self.config, np.zeros(self.config.workers)
        hurt[self.degraded] = 1.0
        share = (np.bincount(machine, hurt) / np.bincount(machine))[machine]  # of the machine's workers
        self.slow_work += HARD_LIMIT / level * np.where(hurt > 0, config.work_at_disk, config.shared_work * share)
        self.slow_staging += HARD_LIMIT / level * config.shared_staging * share
        self.disk[self.degraded] = 2.0 * level / (1.0 - config.cached)

    def run(self) -> Trace:
        for job in np.flatnonzero(self.waiting == 0).tolist():
            delay = self.rng.uniform(0.0, self.config.root_delay)
            self._push(self.model.wms[job] + delay, "submit", job)
        while self.heap:
            now, _, what, job, version = heappop(self.heap)
            if what == "submit":
                self._submit(now, job)
            elif what == "done":
                self._release(now, job)
            elif version == self.version[job]:
                self._next_phase(now, job)
        t = self.times
        return Trace(
            t["ready"],
            t["submit"],
            t["start"],
            t["staged_in"],
            t["computed"],
            t["end"],
            self.worker,
            self.degraded,
            self.cpu_work,
        )

    def _push(self, when: float, what: str, job: int, version: int = 0) -> None:
        self.count += 1
        heappush(self.heap, (float(when), self.count, what, int(job), int(version)))

    def _submit(self, now: float, job: int) -> None:
        self.times["submit"][job] = now
        if not self.model.on_worker[job]:
            stage_in, stage_out = self.work[0, job] / self.net[job], self.work[2, job] / self.net[job]
            self.times["start"][job] = now
            self.times["staged_in"][job] = now + stage_in
            self.times["computed"][job] = now + stage_in + self.work[1, job]
            self._push(now + stage_in + self.work[1, job] + stage_out, "done", job)
            return
        self.queue.append(job)
        self._dispatch(now)

    def _dispatch(self, now: float) -> None:
        while self.queue:
            free = [w for w, jobs in enumerate(self.here) if len(jobs) < self.config.slots]
            if not free:
                return
            job = self.queue.pop(0)
            worker = free[int(self.rng.integers(len(free)))]
            self.worker[job], self.stamp[job], self.times["start"][job] = worker, now, now
            self.here[worker].add(job)
            self._replan(now, worker)

    def _next_phase(self, now: float, job: int) -> None:
        worker = self.worker[job]
        self._advance(now, worker)
        self.left[self.phase[job], job] = 0.0
        name = ("staged_in", "computed")[self.phase[job]] if self.phase[job] < 2 else "end"
        self.times[name][job] = now
        self.phase[job] += 1
        if self.phase[job] == 3:
            self.here[worker].discard(job)
            self.version[job] += 1
            self._push(now, "done", job)
        self._replan(now, worker)
        if self.phase[job] == 3:
            self._dispatch(now)

    def _advance(self, now: float, worker: int) -> None:
        for job in self.here[worker]:
            self.left[self.phase[job], job] -= self.rate[job] * (now - self.stamp[job])
            self.stamp[job] = now

    def _replan(self, now: float, worker: int) -> None:
        """New rates for all jobs of the worker; their next events."""
        self._advance(now, worker)
        jobs = self.here[worker]
        computing = sum(1 for job in jobs if self.phase[job] == 1)
        moving = len(jobs) - computing
        for job in jobs:
            if self.phase[job] == 1:
                self.rate[job] = min(1.0, self.cores[worker] / computing) / self.slow_work[worker]
            else:
                share = self.disk[worker] / moving
                self.rate[job] = min(self.net[job] * self.loss[worker, job], share) / self.slow_staging[worker]
            self.version[job] += 1
            left = max(self.left[self.phase[job], job], 0.0)
            self._push(now + left / self.rate[job], "phase", job, self.version[job])

    def _release(self, now: float, job: int) -> None:
        self.times["end"][job] = now
        for child in self.children[job]:
            self.waiting[child] -= 1
            if self.waiting[child] == 0:
                ready = now + self.model.post[job]
                self.times["ready"][child] = ready
                self._push(ready + self.model.wms[child], "submit", child)

"""The events of one run on the simulated testbed of `testbed`."""

from heapq import heappop, heappush

import numpy as np

from jaxsci.workflows.disks import Disks
from jaxsci.workflows.testbed import Anomaly, JobModel, TestbedConfig, Trace, loss_factor

STAGING_IN, WORKING, FLUSHING, STAGING_OUT, DONE = range(5)
_ENDS = ("staged_in", "computed", "flushed", "end")  # of the first four phases
_LEAST_VOLUME, _LEAST_WORK = 0.01, 1e-3  # MB, seconds: every phase takes time


def simulate(model: JobModel, anomaly: Anomaly, config: TestbedConfig, rng: np.random.Generator) -> Trace:
    """One run of the workflow. The same `rng` state gives the same run."""
    return _Simulation(model, anomaly, config, rng).run()


class _Simulation:
    """Rates change on one worker at a time, so an event touches only the jobs of its worker."""

    def __init__(self, model: JobModel, anomaly: Anomaly, config: TestbedConfig, rng: np.random.Generator):
        nodes, workers = len(model.cpu), config.workers
        self.config, self.rng = config, rng
        chosen = min(anomaly.n_workers, workers) if anomaly.kind != "normal" else 0
        self.degraded = rng.choice(workers, chosen, replace=False)
        bad = set(self.degraded.tolist())
        left = max(config.cores - anomaly.level, 0.1) if anomaly.kind == "cpu" else config.cores
        self.cores = [left if w in bad else config.cores for w in range(workers)]
        self.disks = Disks(config, self.degraded.tolist() if anomaly.kind == "hdd" else [], max(anomaly.level, 1e-3))
        lossy = model.net * loss_factor(anomaly.level, model.net) if anomaly.kind == "loss" else model.net
        self.net = [lossy.tolist() if w in bad else model.net.tolist() for w in range(workers)]
        noise = np.exp(config.noise * rng.standard_normal((2, nodes)))
        work = np.maximum(model.cpu * noise[0], _LEAST_WORK)
        volume = np.maximum(model.stage_in * noise[1], _LEAST_VOLUME)
        self.drawn = {"cpu_work": work, "volume": volume}
        self.amount = {
            STAGING_IN: volume.tolist(),
            WORKING: work.tolist(),
            STAGING_OUT: np.maximum(model.stage_out, _LEAST_VOLUME).tolist(),
        }
        self.writing: list[float] = (model.written / work).tolist()  # MB per second of work
        self.demand: list[float] = model.demand.tolist()
        self.on_worker: list[bool] = model.on_worker.tolist()
        self.at_home: list[float] = model.net.tolist()
        self.wms, self.wait, self.post = model.wms.tolist(), model.queue.tolist(), model.post.tolist()
        self.phase = [STAGING_IN] * nodes
        self.left = [0.0] * nodes
        self.rate = [0.0] * nodes
        self.version = [0] * nodes
        self.worker = [-1] * nodes
        self.here: list[set[int]] = [set() for _ in range(workers)]
        self.used = [False] * workers
        self.stamp = [0.0] * workers
        self.plan = [0] * workers
        self.times = {name: [0.0] * nodes for name in ("ready", "submit", "start", *_ENDS)}
        self.heap: list[tuple[float, int, str, int, int]] = []
        self.queue: list[int] = []
        self.count = 0
        self.children: list[list[int]] = [[] for _ in range(nodes)]
        self.waiting = [0] * nodes
        for parent, child in model.edges.tolist():
            self.children[parent].append(child)
            self.waiting[child] += 1

    def run(self) -> Trace:
        for job, parents in enumerate(self.waiting):
            if parents == 0:
                self._push(self.wms[job] + self.rng.uniform(0.0, self.config.root_delay), "submit", job)
        while self.heap:
            now, _, what, which, version = heappop(self.heap)
            if what == "phase":
                if version == self.version[which]:
                    self._next_phase(now, which)
            elif what == "full":
                if version == self.plan[which]:
                    self._replan(now, which)
            elif what == "submit":
                self.times["submit"][which] = now
                self._push(now + self.wait[which], "match", which)
            elif what == "match":
                self._match(now, which)
            else:
                self._release(now, which)
        arrays = {name: np.array(values) for name, values in self.times.items()}
        return Trace(**arrays, worker=np.array(self.worker), degraded=self.degraded, **self.drawn)

    def _push(self, when: float, what: str, which: int, version: int = 0) -> None:
        self.count += 1
        heappush(self.heap, (when, self.count, what, which, version))

    def _match(self, now: float, job: int) -> None:
        if self.on_worker[job]:
            self.queue.append(job)
            self._dispatch(now)
            return
        staged_in = now + self.amount[STAGING_IN][job] / self.at_home[job]
        computed = staged_in + self.amount[WORKING][job]
        for name, when in (("start", now), ("staged_in", staged_in), ("computed", computed), ("flushed", computed)):
            self.times[name][job] = when
        self._push(computed + self.amount[STAGING_OUT][job] / self.at_home[job], "done", job)

    def _dispatch(self, now: float) -> None:
        while self.queue:
            order = [(len(jobs), not self.used[w]) for w, jobs in enumerate(self.here)]
            least = min(order)
            if least[0] >= self.config.slots:
                return
            free = [w for w, rank in enumerate(order) if rank == least]
            job = self.queue.pop(0)
            worker = free[int(self.rng.integers(len(free)))]
            self.used[worker] = True
            self._advance(now, worker)
            self.worker[job], self.times["start"][job] = worker, now
            self.left[job] = self.amount[STAGING_IN][job]
            self.here[worker].add(job)
            self._replan(now, worker)

    def _next_phase(self, now: float, job: int) -> None:
        worker = self.worker[job]
        self._advance(now, worker)
        self.times[_ENDS[self.phase[job]]][job] = now
        self.phase[job] += 1
        self.rate[job] = 0.0
        if self.phase[job] == FLUSHING:
            self.version[job] += 1
            self._push(self._flushed(now, worker), "phase", job, self.version[job])
        elif self.phase[job] == DONE:
            self.here[worker].discard(job)
            self._release(now, job)
        else:
            self.left[job] = self.amount[self.phase[job]][job]
        self._replan(now, worker)
        if self.phase[job] == DONE:
            self._dispatch(now)

    def _flushed(self, now: float, worker: int) -> float:
        """When the data of a job that ends its work now are on the disk."""
        disks = self.disks
        if disks.throttled[worker]:
            return disks.clean_at(now, worker)
        if not disks.neighbours[worker] or self.rng.random() >= self.config.entangled:
            return now
        latest = now
        for other in disks.neighbours[worker]:
            self._advance(now, other)
            arriving = sum(self.left[job] for job in self.here[other] if self.phase[job] == STAGING_IN)
            latest = max(latest, disks.clean_at(now, other, arriving))
        return latest

    def _advance(self, now: float, worker: int) -> None:
        since = now - self.stamp[worker]
        if since > 0.0:
            for job in self.here[worker]:
                self.left[job] -= self.rate[job] * since
            self.stamp[worker] = now

    def _replan(self, now: float, worker: int) -> None:
        """New rates for all jobs of the worker; their next events, and that of its cache."""
        self._advance(now, worker)
        disks, moving, busy = self.disks, 0, 0.0
        writers: list[int] = []
        for job in self.here[worker]:
            if self.phase[job] == WORKING:
                busy += self.demand[job]
                if self.writing[job] > 0.0:
                    writers.append(job)
            elif self.phase[job] != FLUSHING:
                moving += 1
                if self.phase[job] == STAGING_IN:
                    writers.append(job)
        slow, bound = disks.throttled[worker], float("inf")
        if slow:
            disks.advance(now, worker)
            if disks.full(worker) and writers:
                bound = disks.level / len(writers)
        pace = 1.0
        if busy > self.cores[worker]:
            pace = (self.cores[worker] / busy) ** self.config.crowding
        pace /= disks.slow_work[worker]
        inflow = 0.0
        for job in self.here[worker]:
            phase = self.phase[job]
            if phase == FLUSHING:
                continue
            if phase == WORKING:
                writing = self.writing[job]
                rate = min(pace, bound / writing) if writing > 0.0 else pace
                inflow += rate * writing
            else:
                rate = min(self.net[worker][job], self.config.worker_disk / moving)
                if phase == STAGING_IN:
                    rate = min(rate, bound)
                    inflow += rate
            self.rate[job] = rate
            self.version[job] += 1
            self._push(now + max(self.left[job], 0.0) / rate, "phase", job, self.version[job])
        if slow:
            self.plan[worker] += 1
            full = disks.fill(now, worker, inflow)
            if full < float("inf"):
                self._push(full, "full", worker, self.plan[worker])

    def _release(self, now: float, job: int) -> None:
        self.times["end"][job] = now
        for child in self.children[job]:
            self.waiting[child] -= 1
            if self.waiting[child] == 0:
                ready = now + self.post[job]
                self.times["ready"][child] = ready
                self._push(ready + self.wms[child], "submit", child)

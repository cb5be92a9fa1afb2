"""The simulated testbed as an oracle, calibrated to the normal runs of a recorded workflow."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PRNGKeyArray

from jaxsci.active import Answer
from jaxsci.core.errors import DataError
from jaxsci.workflows.job_model import LEAST_SECONDS, degraded_counts, job_model, pool_hosts, pool_of
from jaxsci.workflows.requests import UNIT, ExperimentRequest, mean_seconds, request_for
from jaxsci.workflows.simulation import simulate
from jaxsci.workflows.testbed import Anomaly, JobModel, TestbedConfig, Trace
from jaxsci.workflows.workflow import Workflow

WORKERS_DEGRADED = (2, 5, 10)  # drawn where neither the request nor `like` says how many, as Poseidon-X does


class SimulatedTestbed:
    """Answers requests by simulation. `like` gives the workflow, its normal runs what jobs do when nothing is wrong.

    `config` is a pool, by default that of `like` with constants fitted to another workflow (`testbed_calibration` fits
    them to this one). Where a request leaves open how many workers are degraded, as many are as were in the recorded
    runs of its class, evenly over their quantiles. `classes` are what may be asked for, by default the recorded ones.
    Telemetry that is not simulated is that of a random normal run.
    """

    unit = UNIT

    def __init__(
        self,
        like: Workflow,
        *,
        n_runs: int,
        config: TestbedConfig | None = None,
        classes: Sequence[str] | None = None,
    ):
        self._normal = np.flatnonzero(like.run_class() == 0)
        if len(self._normal) == 0:
            raise DataError(f"workflow {like.name}: expected normal runs to calibrate the simulator, found none")
        self._like, self._n_runs = like, n_runs
        self._config = config or pool_of(like)
        self._degraded = degraded_counts(like, self._config.workers)
        self._model = job_model(like, self._normal)
        self._mean = dict(mean_seconds(like))
        self._classes = tuple(classes or self._mean)

    def requests(self) -> Sequence[ExperimentRequest]:
        return [request_for(self._like.name, name, n_runs=self._n_runs) for name in self._classes]

    def cost(self, request: ExperimentRequest) -> float:
        return self._mean.get(request.group, max(self._mean.values())) * request.n_runs

    def submit(self, request: ExperimentRequest, *, key: PRNGKeyArray) -> Answer[Workflow]:
        receipt = {"seed": int(jax.random.randint(key, (), 0, 2**31 - 1))}
        data, seconds = self._simulated(request, receipt["seed"])
        return Answer(data, seconds, receipt)

    def recall(self, request: ExperimentRequest, receipt: Mapping[str, Any]) -> Workflow:
        return self._simulated(request, int(receipt["seed"]))[0]

    def _simulated(self, request: ExperimentRequest, seed: int) -> tuple[Workflow, float]:
        rng = np.random.default_rng(seed)
        traces, templates = [], []
        usual = np.sort(self._degraded.get(request.group, WORKERS_DEGRADED))
        quantiles = np.linspace(0, len(usual) - 1, request.n_runs + 2)[1:-1].round().astype(int)
        for count in rng.permutation(usual[quantiles]).tolist():
            count = request.n_workers or count
            anomaly = Anomaly(request.anomaly, request.level, min(count, self._config.workers))
            traces.append(simulate(self._model, anomaly, self._config, rng))
            templates.append(int(rng.choice(self._normal)))
        data = as_workflow(self._like, templates, traces, self._model, self._config, request.group)
        return data, float(sum(trace.makespan for trace in traces))


def as_workflow(
    like: Workflow,
    templates: Sequence[int],
    traces: Sequence[Trace],
    model: JobModel,
    config: TestbedConfig,
    group: str,
) -> Workflow:
    """Simulated runs in the form of recorded ones, on the hosts of the templates' pool.

    Where cores are short, a job that keeps them busy uses less CPU time, by what `crowding` says (traces: 0.86 of heavy
    jobs, 0.97 of light ones).
    """
    classes = like.classes if group in like.classes else (*like.classes, group)
    x = like.x[np.array(templates)].copy()
    submit_site = int(like.host[~like.on_worker()][0]) if (~like.on_worker()).any() else 0
    workers = np.array(pool_hosts(like))
    host = np.full(x.shape[:2], submit_site)
    y = np.zeros(x.shape[:2], np.int64)
    kind, _, level = group.partition("_")
    kept = 1.0 - float(level) / config.cores if kind == "cpu" else 1.0  # of the cores
    spared = max(kept, 0.1 / config.cores) ** (1.0 - config.crowding)
    for r, trace in enumerate(traces):
        on = trace.worker >= 0
        host[r, on] = workers[trace.worker[on] % len(workers)]
        bad = np.isin(trace.worker, trace.degraded) & on
        y[r, bad] = classes.index(group)
        _write(x[r], like, trace, model, np.where(bad, spared**model.demand, 1.0))
    return replace(
        like,
        x=x,
        host=host,
        y=y,
        classes=classes,
        run=tuple(f"simulated-{group}-{i}" for i in range(len(traces))),
        start_epoch=np.arange(len(traces), dtype=np.float64),
    )


def _write(x: np.ndarray, like: Workflow, trace: Trace, model: JobModel, cpu_time: Float[np.ndarray, "nodes"]) -> None:
    """Change one recorded normal run into what the simulation says: every part takes so many times longer as it did
    there, and queues longer by what it waited for a slot. The scatter between runs stays the recorded one."""
    on = trace.worker >= 0
    longer_in = _times(trace.staged_in - trace.start, trace.volume / model.net)
    longer_out = _times(trace.end - trace.flushed, model.stage_out / model.net)
    slower = (trace.flushed - trace.staged_in) / trace.cpu_work

    def column(name: str) -> Float[np.ndarray, "nodes"]:
        return x[:, like.features.index(name)] if name in like.features else np.zeros(len(x), np.float32)

    parts = [np.nan_to_num(column(name)) for name in ("stage_in_delay", "stage_out_delay")]
    work = np.maximum(column("runtime") - parts[0] - parts[1], 0.0)
    column("runtime")[on] = (parts[0] * longer_in + work * slower + parts[1] * longer_out)[on]
    column("queue_delay")[on] += np.maximum(trace.start - trace.submit - model.queue, 0.0)[on]
    factors = {
        "stage_in_delay": longer_in,
        "stage_out_delay": longer_out,
        "stage_in_effective_bytes_per_sec": 1.0 / longer_in,
        "stage_out_effective_bytes_per_sec": 1.0 / longer_out,
        "kickstart_online_bytes_read_per_second": 1.0 / slower,
        "kickstart_online_bytes_written_per_second": 1.0 / slower,
        "kickstart_executables_cpu_time": cpu_time,
        "kickstart_online_utime": cpu_time,
        "kickstart_online_stime": cpu_time,
    }
    for name, factor in factors.items():
        column(name)[on] *= factor[on].astype(np.float32)
    stamps = {
        "ready": trace.ready,
        "submit": trace.submit,
        "execute_start": trace.start,
        "execute_end": trace.end,
        "post_script_end": trace.end + model.post,
    }
    for name, values in stamps.items():
        recorded = column(name)
        recorded[:] = np.where(np.isfinite(recorded), values, np.nan)


def _times(seconds: np.ndarray, usual: np.ndarray) -> np.ndarray:
    return np.maximum(seconds, LEAST_SECONDS) / np.maximum(usual, LEAST_SECONDS)

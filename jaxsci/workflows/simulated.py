"""The simulated testbed as an oracle, calibrated to the normal runs of a recorded workflow."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from jaxsci.active import Answer
from jaxsci.core.errors import DataError
from jaxsci.workflows.requests import UNIT, ExperimentRequest, mean_seconds, request_for
from jaxsci.workflows.testbed import Anomaly, JobModel, TestbedConfig, Trace, simulate
from jaxsci.workflows.workflow import Workflow

LEAST_SECONDS, NO_STAGING_RATE = 0.5, 100.0
STEADY_CPU = {"cpu": 0.93}  # a job that waits for cores spins less: CPU time of the degraded, by kind (traces: .86-.97)
WORKERS_DEGRADED = (2, 5, 10)  # drawn where the request leaves it open, as Poseidon-X does


def job_model(workflow: Workflow, runs: np.ndarray) -> JobModel:
    """Medians over `runs`, which should be normal ones, by job. Missing values count as 0."""
    x = {name: _median(workflow, name, runs) for name in _USED}
    staging = x["stage_in_delay"] + x["stage_out_delay"]
    stage_in, stage_out = x["stage_in_bytes"] / 1e6, x["stage_out_bytes"] / 1e6
    rate = np.where(x["stage_in_delay"] > 0, stage_in / np.maximum(x["stage_in_delay"], LEAST_SECONDS), NO_STAGING_RATE)
    return JobModel(
        cpu=np.maximum(x["runtime"] - staging, LEAST_SECONDS),
        stage_in=stage_in,
        stage_out=stage_out,
        net=np.clip(rate, 1.0, 200.0),
        wms=np.maximum(x["wms_delay"], 0.0),
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
    "wms_delay",
    "post_script_delay",
)


def _median(workflow: Workflow, name: str, runs: np.ndarray) -> np.ndarray:
    return np.median(np.nan_to_num(workflow.feature(name)[runs].astype(np.float64)), axis=0)


def pool_size(workflow: Workflow) -> int:
    """Hosts that ran jobs in at least a tenth of the runs, submit site excepted: the workers of the pool."""
    on = workflow.on_worker()
    seen = [len(np.unique(row[w])) for row, w in zip(workflow.host, on, strict=True)]
    return max(2, int(np.max(seen)))


class SimulatedTestbed:
    """Answers requests by simulation. `like` gives the workflow, its normal runs the calibration.

    Telemetry the simulator does not model is that of a random normal run of `like`.
    """

    unit = UNIT

    def __init__(self, like: Workflow, *, n_runs: int, config: TestbedConfig | None = None):
        self._normal = np.flatnonzero(like.run_class() == 0)
        if len(self._normal) == 0:
            raise DataError(f"workflow {like.name}: expected normal runs to calibrate the simulator, found none")
        self._like, self._n_runs = like, n_runs
        self._config = config or TestbedConfig(workers=pool_size(like))
        self._model = job_model(like, self._normal)
        self._mean = dict(mean_seconds(like))

    def requests(self) -> Sequence[ExperimentRequest]:
        return [request_for(self._like.name, name, n_runs=self._n_runs) for name in self._mean]

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
        for _ in range(request.n_runs):
            count = request.n_workers or int(rng.choice(WORKERS_DEGRADED))
            anomaly = Anomaly(request.anomaly, request.level, min(count, self._config.workers))
            traces.append(simulate(self._model, anomaly, self._config, rng))
            templates.append(int(rng.choice(self._normal)))
        data = as_workflow(self._like, templates, traces, self._model, request.group)
        return data, float(sum(trace.makespan for trace in traces))


def as_workflow(
    like: Workflow, templates: Sequence[int], traces: Sequence[Trace], model: JobModel, group: str
) -> Workflow:
    """Simulated runs in the form of recorded ones, on the hosts of the templates' pool."""
    classes = like.classes if group in like.classes else (*like.classes, group)
    x = like.x[np.array(templates)].copy()
    submit_site = int(like.host[~like.on_worker()][0]) if (~like.on_worker()).any() else 0
    workers = sorted(set(like.host[like.on_worker()].tolist()))
    host = np.full(x.shape[:2], submit_site)
    y = np.zeros(x.shape[:2], np.int64)
    for r, trace in enumerate(traces):
        on = trace.worker >= 0
        host[r, on] = np.array(workers)[trace.worker[on] % len(workers)]
        bad = np.isin(trace.worker, trace.degraded) & on
        y[r, bad] = classes.index(group)
        _write(x[r], like, trace, model, bad, group.partition("_")[0])
    return replace(
        like,
        x=x,
        host=host,
        y=y,
        classes=classes,
        run=tuple(f"simulated-{group}-{i}" for i in range(len(traces))),
        start_epoch=np.arange(len(traces), dtype=np.float64),
    )


def _write(x: np.ndarray, like: Workflow, trace: Trace, model: JobModel, bad: np.ndarray, kind: str) -> None:
    """Replace in one run's features what the simulation knows."""
    on = trace.worker >= 0
    stage_in, work, stage_out = (
        trace.staged_in - trace.start,
        trace.computed - trace.staged_in,
        trace.end - trace.computed,
    )
    slower = np.where(on, work / model.cpu, 1.0)

    def put(name: str, values: np.ndarray, jobs: np.ndarray = on) -> None:
        if name in like.features:
            column = x[:, like.features.index(name)]
            column[jobs] = np.where(np.isfinite(column[jobs]), values[jobs], np.nan)

    def scale(name: str, factor: np.ndarray) -> None:
        if name in like.features:
            x[on, like.features.index(name)] *= factor[on].astype(np.float32)

    usual_in, usual_out = model.stage_in / model.net, model.stage_out / model.net
    longer_in = np.maximum(stage_in, LEAST_SECONDS) / np.maximum(usual_in, LEAST_SECONDS)
    longer_out = np.maximum(stage_out, LEAST_SECONDS) / np.maximum(usual_out, LEAST_SECONDS)
    scale("stage_in_delay", longer_in)
    scale("stage_out_delay", longer_out)
    scale("stage_in_effective_bytes_per_sec", 1.0 / longer_in)
    scale("stage_out_effective_bytes_per_sec", 1.0 / longer_out)
    for name in ("kickstart_online_bytes_read_per_second", "kickstart_online_bytes_written_per_second"):
        scale(name, 1.0 / slower)
    for name in ("kickstart_executables_cpu_time", "kickstart_online_utime", "kickstart_online_stime"):
        scale(name, np.where(bad, STEADY_CPU.get(kind, 1.0), 1.0))
    put("runtime", stage_in + work + stage_out)
    put("queue_delay", trace.start - trace.submit)
    for name, values in (
        ("ready", trace.ready),
        ("submit", trace.submit),
        ("execute_start", trace.start),
        ("execute_end", trace.end),
        ("post_script_end", trace.end + model.post),
    ):
        put(name, values, np.ones_like(on))  # the clock runs at the submit site too

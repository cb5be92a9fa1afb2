"""A testbed outside this process: an experiments file goes out, Flow-Bench run files come back into a folder."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from jaxsci.active import Answer, OracleError
from jaxsci.core.errors import DataError
from jaxsci.core.files import disk_errors, write_atomic
from jaxsci.workflows.flowbench_csv import Graph, RunRows, assemble, read_run
from jaxsci.workflows.requests import UNIT, ExperimentRequest, run_seconds
from jaxsci.workflows.workflow import NORMAL, Workflow

CONDOR = {"cores": 4, "ram": 16, "network_limit": 1000}


class ExternalTestbed:
    """Writes `<folder>/<id>.json` in Poseidon-X's form and waits for `n_runs` CSV files in `<folder>/<id>/`.

    `id` names the request and its key, so that a request made again after a kill finds its answer instead of being
    executed twice. A file still being written is read again later. `menu` lists what may be asked for, with the
    expected seconds of one run. Raises `OracleError` when `timeout` seconds pass.
    """

    unit = UNIT

    def __init__(
        self,
        folder: Path,
        graph: Graph,
        menu: Mapping[ExperimentRequest, float],
        *,
        timeout: float,
        poll: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self._folder, self._graph, self._menu = folder, graph, dict(menu)
        self._timeout, self._poll, self._sleep = timeout, poll, sleep

    def requests(self) -> Sequence[ExperimentRequest]:
        return list(self._menu)

    def cost(self, request: ExperimentRequest) -> float:
        return self._menu[request] * request.n_runs

    def submit(self, request: ExperimentRequest, *, key: PRNGKeyArray) -> Answer[Workflow]:
        number = "".join(f"{word:08x}" for word in jax.random.key_data(key).ravel().tolist())
        name = f"{request.workflow}-{request.group}-{number}"
        results = self._folder / name
        with disk_errors("create", results):
            results.mkdir(parents=True, exist_ok=True)
        if not (self._folder / f"{name}.json").exists():
            write_atomic(self._folder / f"{name}.json", json.dumps(experiments(request), indent=2) + "\n")
        waited, reason = 0.0, "no file came"
        while True:
            read, reason = self._read(results, reason)
            if len(read) >= request.n_runs:
                break
            if waited >= self._timeout:
                raise OracleError(
                    f"{results}: expected {request.n_runs} run files within {self._timeout:g} s, "
                    f"got {len(read)} ({reason}); look at the testbed, or allow more time"
                )
            self._sleep(self._poll)
            waited += self._poll
        data = assemble(self._graph, read, name=request.workflow)
        return Answer(data, float(run_seconds(data).sum()), {"folder": name, "files": [run.name for run in read]})

    def recall(self, request: ExperimentRequest, receipt: Mapping[str, Any]) -> Workflow:
        files = [self._folder / receipt["folder"] / name for name in receipt["files"]]
        return assemble(self._graph, [read_run(file, self._graph) for file in files], name=request.workflow)

    def _read(self, results: Path, reason: str) -> tuple[list[RunRows], str]:
        read = []
        for file in sorted(results.glob("*.csv")):
            try:
                read.append(read_run(file, self._graph))
            except DataError as error:  # half-written: later
                reason = str(error)
        return read, reason


def experiments(request: ExperimentRequest) -> dict[str, Any]:
    """The request in Poseidon-X's form (arXiv:2405.06133). No worker degraded is an empty list."""
    workers = [] if request.group == NORMAL else [request.n_workers or 5]
    entry = {
        "workflow": request.workflow,
        "type": request.group,
        "number_of_runs": request.n_runs,
        "number_of_anomaly_workers": workers,
        "condor_config": CONDOR,
    }
    return {"infrastructure": {}, "experiments": [entry]}

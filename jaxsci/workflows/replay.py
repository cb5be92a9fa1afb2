"""The testbed played back: requests are answered from recorded runs, each of which can be given out once."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, PRNGKeyArray

from jaxsci.active import Answer, OracleError
from jaxsci.core.host_random import generator
from jaxsci.workflows.requests import UNIT, ExperimentRequest, mean_seconds, request_for, run_seconds
from jaxsci.workflows.workflow import Workflow


class TraceReplay:
    """An oracle over the runs `pool` of `workflow`, drawn without replacement from the class that is asked for.

    A class with fewer runs left than asked for gives those it has. The declared cost is the mean of the class.
    """

    unit = UNIT

    def __init__(self, workflow: Workflow, pool: Int[np.ndarray, "pool"], *, n_runs: int):
        self._workflow, self._n_runs = workflow, n_runs
        self._seconds = run_seconds(workflow)
        self._mean = mean_seconds(workflow.take(pool))
        kind = workflow.run_class()
        self._left = {name: [int(i) for i in pool if workflow.classes[kind[i]] == name] for name in self._mean}

    def requests(self) -> Sequence[ExperimentRequest]:
        return [
            request_for(self._workflow.name, name, n_runs=self._n_runs) for name, left in self._left.items() if left
        ]

    def cost(self, request: ExperimentRequest) -> float:
        return self._mean[request.group] * min(request.n_runs, max(1, len(self._left.get(request.group, []))))

    def submit(self, request: ExperimentRequest, *, key: PRNGKeyArray) -> Answer[Workflow]:
        left = self._left.get(request.group, [])
        if not left:
            raise OracleError(f"no run of class {request.group} is left among the recorded ones")
        order = generator(key).permutation(left)
        rows = [int(row) for row in order[: request.n_runs]]
        data = self.recall(request, {"rows": rows})
        return Answer(data, float(self._seconds[rows].sum()), {"rows": rows})

    def recall(self, request: ExperimentRequest, receipt: Mapping[str, Any]) -> Workflow:
        rows = [int(row) for row in receipt["rows"]]
        self._left[request.group] = [row for row in self._left[request.group] if row not in set(rows)]
        return self._workflow.take(np.array(rows))

"""A folder into which run files fall, one by one and perhaps half-written.

A file that cannot be read yet is tried again whenever it has changed; one that has not changed for `PATIENCE` looks is
given up, with its reason, and the watch goes on.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxsci.core.errors import DataError
from jaxsci.workflows.batch import Runs, runs_of
from jaxsci.workflows.features import TELEMETRY
from jaxsci.workflows.flowbench_csv import Graph, assemble, read_run
from jaxsci.workflows.graph import Dag
from jaxsci.workflows.pseudo import KINDS
from jaxsci.workflows.scoring import Scorer, read, run_scores
from jaxsci.workflows.workflow import Workflow

PATIENCE = 3
TOLD_FEATURES = 3


@dataclass(frozen=True)
class Alarm:
    """A worker of a run whose score is above the threshold.

    `jobs` it was given; `kind` it resembles; `features` that differ most from what was expected, strongest first.
    """

    run: str
    worker: str
    score: float
    run_score: float
    kind: str
    features: tuple[str, ...]
    jobs: tuple[str, ...]


@dataclass
class Folder:
    """What has become of the files of a folder."""

    path: Path
    done: set[str] = field(default_factory=set)
    looks: dict[str, tuple[tuple[int, int], int]] = field(default_factory=dict)

    def look(self, graph: Graph) -> tuple[list[Workflow], list[tuple[str, str]]]:
        """Runs that have become readable since the last look, and files given up with the reason."""
        runs, failed = [], []
        for file in sorted(self.path.glob("*.csv")):
            if file.name in self.done:
                continue
            try:
                stat = file.stat()
                runs.append(assemble(graph, [read_run(file, graph)], name=graph.name))
            except FileNotFoundError:
                continue  # moved away between listing and reading
            except DataError as error:
                state = (stat.st_size, stat.st_mtime_ns)
                before, times = self.looks.get(file.name, (state, 0))
                times = times + 1 if before == state else 1
                self.looks[file.name] = (state, times)
                if times < PATIENCE:
                    continue
                failed.append((file.name, str(error)))
            self.done.add(file.name)
        return runs, failed


def graph_of(workflow: Workflow) -> Graph:
    """The graph that run files of this workflow must match."""
    return Graph(workflow.name, workflow.nodes, workflow.edges)


def alarms(
    scorer: Scorer, workflow: Workflow, dag: Dag, like: Runs, threshold: float
) -> tuple[list[Alarm], np.ndarray]:
    """Alarms of all runs of `workflow`, highest first within a run, and the score of each run."""
    runs = runs_of(workflow, workers=like.workers, machines=like.machines)
    reading = read(scorer.model, scorer.own, runs, dag)
    on_worker = np.asarray(runs.on_worker)
    scores = scorer.combine(scorer.terms(reading, runs), on_worker)
    whole = run_scores(scores, workflow.host)
    found = []
    for r in range(workflow.runs):
        here = []
        for host in np.unique(workflow.host[r][on_worker[r] > 0]):
            jobs = (workflow.host[r] == host) & (on_worker[r] > 0)
            score = float(scores[r][jobs].max())
            if score >= threshold:
                strength = np.abs(reading.residual[r][jobs].mean(axis=0))
                telling = np.argsort(-strength)[:TOLD_FEATURES]
                kind = KINDS[1 + int(reading.kinds[r][jobs].mean(axis=0)[1:].argmax())]
                here.append(
                    Alarm(
                        workflow.run[r],
                        workflow.hosts[host],
                        score,
                        float(whole[r]),
                        kind,
                        tuple(TELEMETRY[i] for i in telling),
                        tuple(np.array(workflow.nodes)[jobs].tolist()),
                    )
                )
        found += sorted(here, key=lambda alarm: -alarm.score)
    return found, whole

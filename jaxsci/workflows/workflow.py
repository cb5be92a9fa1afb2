"""A workflow as data: one graph of jobs, and its runs on a pool of workers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxsci.core.errors import DataError

NORMAL = "normal"
SUBMIT_SITE_TYPES = ("auxiliary", "transfer")  # job types that Pegasus runs at the submit site


@dataclass(frozen=True)
class Workflow:
    """R runs of one workflow of N jobs, F telemetry features each.

    - `nodes`, `job_type`, `transformation`: names by job.
    - `edges`: (E, 2) parent and child.
    - `features`: names; `x`: (R, N, F), NaN where missing, timestamps in seconds after the run's first `ready`.
    - `host`: (R, N) index into `hosts`; -1 where a job has none.
    - `y`: (R, N) index into `classes`, whose first is "normal"; `None` without labels.
    - `run`, `start_epoch`: name and start in epoch seconds, by run.
    """

    name: str
    nodes: tuple[str, ...]
    job_type: tuple[str, ...]
    transformation: tuple[str, ...]
    edges: Int[np.ndarray, "edges 2"]
    features: tuple[str, ...]
    x: Float[np.ndarray, "runs nodes features"]
    host: Int[np.ndarray, "runs nodes"]
    hosts: tuple[str, ...]
    run: tuple[str, ...]
    start_epoch: Float[np.ndarray, "runs"]
    y: Int[np.ndarray, "runs nodes"] | None = None
    classes: tuple[str, ...] = (NORMAL,)

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self.x)

    def feature(self, name: str) -> Float[np.ndarray, "runs nodes"]:
        """One column by name; all missing where the workflow does not have it."""
        if name not in self.features:
            return np.full(self.x.shape[:2], np.nan, np.float32)
        return self.x[..., self.features.index(name)]

    def labels(self) -> Int[np.ndarray, "runs nodes"]:
        """`y`. Raises `DataError` without labels."""
        if self.y is None:
            raise DataError(f"workflow {self.name}: expected labels (y and classes), found none; they are needed here")
        return self.y

    def anomalous(self) -> Bool[np.ndarray, "runs nodes"]:
        """Which jobs ran on a degraded worker. Raises `DataError` without labels."""
        return self.labels() > 0

    def run_class(self) -> Int[np.ndarray, "runs"]:
        """The anomaly of each run: that of its anomalous jobs, 0 where there are none."""
        return self.labels().max(axis=1)

    def on_worker(self) -> Bool[np.ndarray, "runs nodes"]:
        """Which jobs ran on a worker rather than at the submit site.

        Flow-Bench's workers are containers and say so in their names. Elsewhere: every host that was given a job of
        type compute.
        """
        container = np.array(["-container-" in name for name in self.hosts] + [False])
        if container.any():
            return container[self.host]
        kind = np.array(self.job_type)
        computes = np.zeros(len(self.hosts) + 1, bool)
        computes[self.host[:, ~np.isin(kind, SUBMIT_SITE_TYPES)]] = True
        computes[-1] = False
        return computes[self.host]

    def compute_jobs(self) -> Bool[np.ndarray, "nodes"]:
        """Jobs that run on workers in most runs: those whose labels are not trivially normal."""
        return self.on_worker().mean(axis=0) > 0.5

    def take(self, runs: Int[np.ndarray, "some"]) -> "Workflow":
        """The same workflow with only these runs, in this order."""
        return replace(
            self,
            x=self.x[runs],
            host=self.host[runs],
            run=tuple(self.run[i] for i in runs),
            start_epoch=self.start_epoch[runs],
            y=None if self.y is None else self.y[runs],
        )


def joined(parts: Sequence[Workflow], classes: Sequence[str] = ()) -> Workflow:
    """Runs of one workflow, one after the other, whichever hosts, features and classes each part has met.

    Features are those of the first part, missing where another does not have them. Classes are `classes` and then what
    else the parts have. Without labels in every part there are none.
    """
    first = parts[0]
    hosts = tuple(dict.fromkeys(name for part in parts for name in part.hosts))
    known = tuple(dict.fromkeys((*classes, *(name for part in parts for name in part.classes))))
    x, host, y = [], [], []
    for part in parts:
        same = part.features == first.features
        x.append(part.x if same else np.stack([part.feature(name) for name in first.features], axis=-1))
        host.append(np.array([*map(hosts.index, part.hosts), -1])[part.host])
        if part.y is not None:
            y.append(np.array([known.index(name) for name in part.classes])[part.y])
    return replace(
        first,
        x=np.concatenate(x),
        host=np.concatenate(host),
        hosts=hosts,
        run=tuple(name for part in parts for name in part.run),
        start_epoch=np.concatenate([part.start_epoch for part in parts]),
        y=np.concatenate(y) if len(y) == len(parts) else None,
        classes=known,
    )


def depths(nodes: int, edges: Int[np.ndarray, "edges 2"]) -> Int[np.ndarray, "nodes"]:
    """Longest way from a root: larger for a child than for any of its parents. Raises `DataError` on a cycle."""
    depth = np.zeros(nodes, np.int64)
    waiting = np.bincount(edges[:, 1], minlength=nodes)
    children: list[list[int]] = [[] for _ in range(nodes)]
    for parent, child in edges.tolist():
        children[parent].append(child)
    ready = [node for node in range(nodes) if waiting[node] == 0]
    done = 0
    while ready:
        node = ready.pop()
        done += 1
        for child in children[node]:
            depth[child] = max(depth[child], depth[node] + 1)
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    if done < nodes:
        raise DataError(f"edges: expected a graph without cycles, {nodes - done} of {nodes} jobs wait for themselves")
    return depth


def checked(workflow: Workflow) -> Workflow:
    """`workflow` itself, once its parts are found to fit each other. Raises `DataError` naming what does not."""
    runs, nodes, count = workflow.x.shape
    where = f"workflow {workflow.name}"

    def expect(condition: bool, expected: str, came: object) -> None:
        if not condition:
            raise DataError(f"{where}: expected {expected}, got {came}")

    expect(runs > 0 and nodes > 0, "at least one run of at least one job", f"{runs} runs of {nodes} jobs")
    expect(len(workflow.features) == count, f"{count} feature names", len(workflow.features))
    expect(len(set(workflow.features)) == count, "distinct feature names", sorted(workflow.features))
    for field in ("nodes", "job_type", "transformation"):
        expect(len(getattr(workflow, field)) == nodes, f"{nodes} entries in {field}", len(getattr(workflow, field)))
    expect(len(set(workflow.nodes)) == nodes, "distinct job names", "a name twice")
    expect(workflow.host.shape == (runs, nodes), f"host of shape {(runs, nodes)}", workflow.host.shape)
    known = workflow.host.min() >= 0 and workflow.host.max() < len(workflow.hosts)
    expect(known, f"host from 0 to {len(workflow.hosts) - 1}", f"{workflow.host.min()} to {workflow.host.max()}")
    expect(len(workflow.run) == runs, f"{runs} run names", len(workflow.run))
    expect(workflow.start_epoch.shape == (runs,), f"{runs} start epochs", workflow.start_epoch.shape)
    edges = workflow.edges
    expect(edges.shape[1:] == (2,), "edges as pairs of jobs", edges.shape)
    in_range = edges.size == 0 or (edges.min() >= 0 and edges.max() < nodes)
    expect(in_range, f"edges between jobs 0 to {nodes - 1}", "others")
    if workflow.y is not None:
        expect(workflow.y.shape == (runs, nodes), f"y of shape {(runs, nodes)}", workflow.y.shape)
        known = workflow.y.min() >= 0 and workflow.y.max() < len(workflow.classes)
        expect(known, f"labels 0 to {len(workflow.classes) - 1} ({', '.join(workflow.classes)})", int(workflow.y.max()))
        expect(workflow.classes[0] == NORMAL, "'normal' as the first class", workflow.classes[0])
    depths(nodes, edges)
    return workflow

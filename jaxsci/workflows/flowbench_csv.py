"""Flow-Bench's own form: `<workflow>.dag.json` (job: [children]) and one CSV file a run, one row a job.

Rows come in any order; jobs are told by name and put in the order of the graph's keys. Names must be the graph's,
all of them and no others: a wrong pairing would put every feature at the wrong place of the graph.

A timestamp that is empty or 0 is missing; they are made relative to the run's first `ready`. The class of a normal job
is the word None, which is why no reader that takes it for a missing value may touch these files.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxsci.core.errors import DataError, did_you_mean
from jaxsci.core.reading import existing, read_json
from jaxsci.workflows.workflow import NORMAL, Workflow, checked

DELAYS = ("wms_delay", "queue_delay", "runtime", "post_script_delay", "stage_in_delay", "stage_out_delay")
VOLUMES = (
    "stage_in_bytes",
    "stage_out_bytes",
    "stage_in_effective_bytes_per_sec",
    "stage_out_effective_bytes_per_sec",
    "kickstart_executables_cpu_time",
    "kickstart_status",
    "kickstart_executables_exitcode",
)
ONLINE = tuple(
    f"kickstart_online_{what}"
    for what in (
        "iowait",
        "bytes_read",
        "bytes_written",
        "read_system_calls",
        "write_system_calls",
        "utime",
        "stime",
        "bytes_read_per_second",
        "bytes_written_per_second",
    )
)
STAMPS = (
    "ready",
    "submit",
    "stage_in_start",
    "stage_in_end",
    "execute_start",
    "execute_end",
    "stage_out_start",
    "stage_out_end",
    "post_script_start",
    "post_script_end",
)
COLUMNS = (*DELAYS, *VOLUMES, *ONLINE, *STAMPS)
_NEEDED = ("anomaly_type", "kickstart_hostname", "ready", "runtime")  # without these a file is no Flow-Bench run
CLASSES = (NORMAL, "cpu_2", "cpu_3", "cpu_4", "hdd_5", "hdd_10")  # the order of the npz files; others follow as met
LOCAL = "submit-site"


@dataclass(frozen=True)
class Graph:
    """The jobs in the order of the file's keys, and (E, 2) parent and child."""

    name: str
    nodes: tuple[str, ...]
    edges: np.ndarray


@dataclass(frozen=True)
class RunRows:
    """One CSV file, jobs in the order of the graph. `x` is (N, len(COLUMNS)), NaN where missing."""

    name: str
    start_epoch: float
    x: Float[np.ndarray, "nodes columns"]
    host: tuple[str, ...]
    anomaly: tuple[str, ...]
    job_type: tuple[str, ...]
    transformation: tuple[str, ...]


def load_csv_folder(folder: Path, *, graph: Path | None = None) -> Workflow:
    """All runs of `folder`, by file name. The graph is the one `*.dag.json` (or `*.json`) in it or beside it."""
    files = sorted(folder.glob("*.csv"))
    if not files:
        raise DataError(f"{folder}: expected run files (*.csv), found none")
    dag = load_graph(graph or find_graph(folder))
    return assemble(dag, [read_run(file, dag) for file in files], name=folder.name)


def find_graph(folder: Path) -> Path:
    """Raises `DataError` unless there is exactly one candidate: in the folder, or beside it under its name."""
    beside = folder.parent / f"{folder.name}.dag.json"
    candidates = sorted(folder.glob("*.dag.json")) or sorted(folder.glob("*.json")) or [beside][: beside.exists()]
    if len(candidates) != 1:
        found = f"{len(candidates)} ({', '.join(c.name for c in candidates)})" if candidates else "none"
        raise DataError(f"{folder}: expected one graph (*.dag.json) in it or {beside.name} beside it, found {found}")
    return candidates[0]


def load_graph(path: Path) -> Graph:
    """Raises `DataError` for a file that is no mapping of jobs to lists of jobs, or has a child that is no job."""
    content = read_json(path, "a JSON file of job: [children]")
    if not isinstance(content, dict) or not all(isinstance(children, list) for children in content.values()):
        raise DataError(f"{path}: expected a JSON object of job: [children], got something else")
    nodes = tuple(content)
    index = {name: i for i, name in enumerate(nodes)}
    for parent, children in content.items():
        for child in children:
            if not isinstance(child, str) or child not in index:
                raise DataError(f"{path}: '{parent}' has the child '{child}', which is no job of the graph")
    edges = [(index[parent], index[child]) for parent, children in content.items() for child in children]
    return Graph(path.name.split(".")[0], nodes, np.array(edges, np.int64).reshape(-1, 2))


def read_run(path: Path, graph: Graph) -> RunRows:
    """One run. Raises `DataError` naming the file and what is wrong: columns, jobs missing or unknown, bad numbers."""
    header, rows = _rows(path)
    missing = [column for column in _NEEDED if column not in header]
    if missing:
        raise DataError(f"{path}: expected Flow-Bench's columns, {', '.join(missing)} missing")
    by_name = {row[header[0]]: row for row in rows}
    if len(by_name) < len(rows):
        raise DataError(f"{path}: expected one row a job, {len(rows) - len(by_name)} jobs have several")
    absent = [name for name in graph.nodes if name not in by_name]
    if absent:
        raise DataError(f"{path}: expected {len(graph.nodes)} jobs, missing {len(absent)}, the first '{absent[0]}'")
    extra = sorted(by_name.keys() - set(graph.nodes))
    if extra:
        raise DataError(f"{path}: job '{extra[0]}' is not in the graph{did_you_mean(extra[0], graph.nodes)}")
    ordered = [by_name[name] for name in graph.nodes]
    x = np.array([[_number(row.get(c, ""), path, c) for c in COLUMNS] for row in ordered])
    stamps = [COLUMNS.index(name) for name in STAMPS]
    x[:, stamps] = np.where(x[:, stamps] == 0, np.nan, x[:, stamps])
    ready = x[:, COLUMNS.index("ready")]
    if np.isnan(ready).all():
        raise DataError(f"{path}: expected the time each job became ready, all are missing")
    start = float(np.nanmin(ready))
    x[:, stamps] -= start

    def text(column: str, otherwise: str) -> tuple[str, ...]:
        return tuple(row.get(column) or otherwise for row in ordered)

    site = text("kickstart_site", "local")
    host = text("kickstart_hostname", LOCAL)
    return RunRows(
        name=path.name,
        start_epoch=start,
        x=x.astype(np.float32),
        host=tuple(LOCAL if s == "local" and "-container-" not in h else h for s, h in zip(site, host, strict=True)),
        anomaly=tuple(NORMAL if kind in ("None", "") else kind for kind in text("anomaly_type", "None")),
        job_type=text("type", "compute"),
        transformation=text("kickstart_transformations", "unknown"),
    )


def assemble(graph: Graph, runs: list[RunRows], *, name: str) -> Workflow:
    """One workflow of all runs; columns missing in every run are dropped."""
    x = np.stack([run.x for run in runs])
    kept = ~np.isnan(x).all(axis=(0, 1))
    hosts = tuple(sorted({host for run in runs for host in run.host}))
    met = sorted({kind for run in runs for kind in run.anomaly} - set(CLASSES))
    classes = (*CLASSES, *met)
    return checked(
        Workflow(
            name=name,
            nodes=graph.nodes,
            job_type=runs[0].job_type,
            transformation=runs[0].transformation,
            edges=graph.edges,
            features=tuple(c for c, keep in zip(COLUMNS, np.atleast_1d(kept), strict=True) if keep),
            x=x[..., kept],
            host=np.array([[hosts.index(h) for h in run.host] for run in runs]),
            hosts=hosts,
            run=tuple(run.name for run in runs),
            start_epoch=np.array([run.start_epoch for run in runs]),
            y=np.array([[classes.index(kind) for kind in run.anomaly] for run in runs]),
            classes=classes,
        )
    )


def _rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    try:
        with existing(path, "a run of Flow-Bench").open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader)
            header = list(reader.fieldnames or [])
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: expected a run of Flow-Bench as CSV ({error})") from None
    if not rows:
        raise DataError(f"{path}: expected a row a job, found none; is it still being written?")
    short = [i for i, row in enumerate(rows) if None in row or any(value is None for value in row.values())]
    if short:
        raise DataError(
            f"{path}: row {short[0] + 2} does not have the header's {len(header)} fields; is it still being written?"
        )
    return header, rows


def _number(text: str | None, path: Path, column: str) -> float:
    if not text or text == "None":
        return np.nan
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{path}: expected a number in column {column}, got '{text[:40]}'") from None

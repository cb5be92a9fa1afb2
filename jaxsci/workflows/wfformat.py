"""Workflows in WfFormat, the JSON of wfcommons (schema 1.5 and later): one file is one run of one workflow.

Read, it is a workflow of one normal run, enough to simulate any anomaly of it. Written, a recorded or simulated run can
be read by every tool that reads WfFormat. The format knows files, not staging: their sizes become `stage_in_bytes` and
`stage_out_bytes`. Fields it does not have stay missing.

Coleman et al., doi:10.1016/j.future.2021.09.043.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from jaxsci.core.errors import DataError, did_you_mean
from jaxsci.core.files import write_atomic
from jaxsci.core.reading import read_json
from jaxsci.workflows.workflow import Workflow, checked, depths

SCHEMA = "1.5"
FEATURES = (
    "runtime",
    "stage_in_bytes",
    "stage_out_bytes",
    "kickstart_executables_cpu_time",
    "kickstart_online_bytes_read",
    "kickstart_online_bytes_written",
    "ready",
    "execute_start",
    "execute_end",
)
SUBMIT_SITE = "submit-site"


def load_wfformat(path: Path) -> Workflow:
    """The run of the file. Raises `DataError` naming the file and what does not fit."""
    content = _object(path)
    where = f"{path}: expected WfFormat {SCHEMA} or later"
    parts = content.get("workflow")
    if not isinstance(parts, dict) or not isinstance(parts.get("specification"), dict):
        raise DataError(f"{where}, with workflow.specification, got schemaVersion {content.get('schemaVersion')!r}")
    tasks = _list(parts["specification"], "tasks", where)
    if not tasks:
        raise DataError(f"{where}, with at least one task, got none")
    nodes = tuple(_text(task, "id", where) for task in tasks)
    index = {name: number for number, name in enumerate(nodes)}
    if len(index) < len(nodes):
        raise DataError(f"{where}, with distinct task ids, {len(nodes) - len(index)} come twice")
    edges = _edges(tasks, index, where)
    sizes = {_text(file, "id", where): _size(file, where) for file in _list(parts["specification"], "files", where)}
    volumes = np.array([[_volume(task, key, sizes, where) for key in ("inputFiles", "outputFiles")] for task in tasks])
    execution = parts.get("execution", {})
    executed = {_text(task, "id", where): task for task in _list(execution, "tasks", where)}
    unknown = sorted(executed.keys() - index.keys())
    if unknown:
        raise DataError(
            f"{where}: task '{unknown[0]}' of the execution is not specified{did_you_mean(unknown[0], nodes)}"
        )
    ran = [executed.get(name, {}) for name in nodes]
    runtime = np.array([_number(task, "runtimeInSeconds", where) for task in ran])
    cpu_time = runtime * np.array([_number(task, "avgCPU", where) for task in ran]) / 100.0
    ready, start, epoch = _times([task.get("executedAt") for task in ran], runtime, edges, where)
    x = np.stack(
        [
            runtime,
            volumes[:, 0],
            volumes[:, 1],
            cpu_time,
            np.array([_number(task, "readBytes", where) for task in ran]),
            np.array([_number(task, "writtenBytes", where) for task in ran]),
            ready,
            start,
            start + np.nan_to_num(runtime),
        ],
        axis=-1,
    )
    host = [(_list(task, "machines", where) or ["worker"])[0] for task in ran]
    hosts = tuple(dict.fromkeys(map(str, host)))
    return checked(
        Workflow(
            name=str(content.get("name") or path.stem),
            nodes=nodes,
            job_type=tuple("auxiliary" if name == SUBMIT_SITE else "compute" for name in host),
            transformation=tuple(str(task.get("name", name)) for task, name in zip(tasks, nodes, strict=True)),
            edges=edges,
            features=FEATURES,
            x=x[None].astype(np.float32),
            host=np.array([[hosts.index(str(name)) for name in host]]),
            hosts=hosts,
            run=(path.name,),
            start_epoch=np.array([epoch]),
            y=np.zeros((1, len(nodes)), np.int64),
        )
    )


def save_wfformat(workflow: Workflow, run: int, path: Path) -> None:
    """Write run number `run` of `workflow`. Raises `OutputError` where that is not possible."""

    def column(name: str) -> Float[np.ndarray, "nodes"]:
        return workflow.feature(name)[run].astype(np.float64)

    runtime, cpu_time = column("runtime"), column("kickstart_executables_cpu_time")
    volume = {"in": column("stage_in_bytes"), "out": column("stage_out_bytes")}
    started = column("execute_start")
    measured = {
        "runtimeInSeconds": np.nan_to_num(runtime),
        "avgCPU": 100.0 * cpu_time / np.maximum(runtime, 1e-9),
        "readBytes": column("kickstart_online_bytes_read"),
        "writtenBytes": column("kickstart_online_bytes_written"),
    }
    on_worker = workflow.on_worker()[run]
    host = [workflow.hosts[h] if on else SUBMIT_SITE for h, on in zip(workflow.host[run], on_worker, strict=True)]
    parents: list[list[str]] = [[] for _ in workflow.nodes]
    children: list[list[str]] = [[] for _ in workflow.nodes]
    for parent, child in workflow.edges.tolist():
        parents[child].append(workflow.nodes[parent])
        children[parent].append(workflow.nodes[child])
    tasks, executed, files = [], [], []
    for n, name in enumerate(workflow.nodes):
        own = {way: f"{name}.{way}" for way, bytes in volume.items() if bytes[n] > 0}
        files += [{"id": file, "sizeInBytes": round(volume[way][n])} for way, file in own.items()]
        tasks.append(
            {
                "name": workflow.transformation[n],
                "id": name,
                "parents": parents[n],
                "children": children[n],
                "inputFiles": [own["in"]] if "in" in own else [],
                "outputFiles": [own["out"]] if "out" in own else [],
            }
        )
        known = {key: float(values[n]) for key, values in measured.items() if np.isfinite(values[n])}
        when = {"executedAt": _stamp(workflow.start_epoch[run] + started[n])} if np.isfinite(started[n]) else {}
        executed.append({"id": name, **known, **when, "machines": [host[n]]})
    ends = column("execute_end")
    makespan = float(np.nanmax(ends) - np.nanmin(column("ready"))) if np.isfinite(ends).any() else 0.0
    content = {
        "name": workflow.name,
        "description": f"Run {workflow.run[run]} of {workflow.name}",
        "schemaVersion": SCHEMA,
        "workflow": {
            "specification": {"tasks": tasks, "files": files},
            "execution": {
                "makespanInSeconds": makespan,
                "executedAt": _stamp(float(workflow.start_epoch[run])),
                "tasks": executed,
                "machines": [{"nodeName": name} for name in dict.fromkeys(host)],
            },
        },
    }
    write_atomic(path, json.dumps(content, indent=1) + "\n")


def _object(path: Path) -> dict[str, Any]:
    content = read_json(path, "a WfFormat JSON file, an npz file or a folder of CSVs")
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a WfFormat JSON object, got {type(content).__name__}")
    return content


def _list(parent: Any, key: str, where: str) -> list[Any]:
    found = parent.get(key, []) if isinstance(parent, dict) else None
    if not isinstance(found, list):
        raise DataError(f"{where}, with a list of {key}, got something else")
    return found


def _text(item: Any, key: str, where: str) -> str:
    if not isinstance(item, dict) or not isinstance(item.get(key), str) or not item[key]:
        raise DataError(f"{where}, every task and file with an {key}, got {str(item)[:60]}")
    return item[key]


def _number(task: Mapping[str, Any], key: str, where: str) -> float:
    value = task.get(key)
    if value is None:
        return np.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= sys.float_info.max:
        raise DataError(f"{where}: task '{task.get('id')}' needs a {key} of 0 or more, got {value!r}")
    return float(value)


def _size(file: Mapping[str, Any], where: str) -> float:
    size = _number(file, "sizeInBytes", where)
    if np.isnan(size):
        raise DataError(f"{where}: file '{file['id']}' has no sizeInBytes")
    return size


def _edges(tasks: Sequence[Mapping[str, Any]], index: Mapping[str, int], where: str) -> np.ndarray:
    edges = set()
    for task in tasks:
        for key in ("parents", "children"):
            for other in _list(task, key, where):
                if not isinstance(other, str) or other not in index:
                    raise DataError(f"{where}: '{other}', of the {key} of '{task['id']}', is no task")
                pair = (index[other], index[task["id"]])
                edges.add(pair if key == "parents" else pair[::-1])
    return np.array(sorted(edges), np.int64).reshape(-1, 2)


def _volume(task: Mapping[str, Any], key: str, sizes: Mapping[str, float], where: str) -> float:
    total = 0.0
    for file in _list(task, key, where):
        name = file.get("id") if isinstance(file, dict) else file
        if not isinstance(name, str) or name not in sizes:
            raise DataError(f"{where}: '{name}', of the {key} of '{task['id']}', is not among the files")
        total += sizes[name]
    return total


def _times(
    stamps: Sequence[Any], runtime: np.ndarray, edges: np.ndarray, where: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """Ready and start of every task, in seconds after the first, and the epoch of the first.

    A task is ready when its parents have ended; where no start is given it starts at once.
    """
    epochs = np.full(len(runtime), np.nan)
    for number, stamp in enumerate(stamps):
        if stamp is not None:
            try:
                epochs[number] = datetime.fromisoformat(str(stamp)).timestamp()
            except ValueError:
                raise DataError(f"{where}: expected executedAt in ISO 8601, got {str(stamp)[:40]!r}") from None
    first = float(np.nanmin(epochs)) if np.isfinite(epochs).any() else 0.0
    start, ready, took = epochs - first, np.zeros(len(runtime)), np.nan_to_num(runtime)
    depth = depths(len(runtime), edges)
    for node in np.argsort(depth, kind="stable"):
        parents = edges[edges[:, 1] == node, 0]
        ready[node] = (start + took)[parents].max() if len(parents) else 0.0
        start[node] = ready[node] if np.isnan(start[node]) else start[node]
    return ready, start, first


def _stamp(epoch: float) -> str:
    return datetime.fromtimestamp(float(epoch), UTC).isoformat()

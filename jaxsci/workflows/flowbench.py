"""Read a workflow: Flow-Bench's folder of CSV files with its graph, one npz file, or one WfFormat file.

ArXiv:2306.09930. `load_workflow(path)` takes any of them; without a path, the packaged EHT SMILI workflow.
"""

import os
from importlib import resources
from pathlib import Path

import numpy as np

from jaxsci.core.errors import DataError
from jaxsci.core.reading import read_npz, require_array
from jaxsci.workflows.flowbench_csv import load_csv_folder
from jaxsci.workflows.wfformat import load_wfformat
from jaxsci.workflows.workflow import Workflow, checked

PACKAGED = "eht_smili"
_FORM = {
    "x": ("f", 3),
    "host": ("iu", 2),
    "edges": ("iu", 2),
    "y": ("iu", 2),
    "start_epoch": ("iuf", 1),
    **{name: ("U", 1) for name in ("features", "hosts", "nodes", "job_type", "transformation", "classes")},
}
_NEEDED = ("x", "features", "host", "hosts", "edges", "nodes")


def load_workflow(path: str | Path | None = None, *, graph: str | Path | None = None) -> Workflow:
    """The workflow at `path`: an npz file, a WfFormat file, or a folder of CSV files beside or with its `*.dag.json`.

    `graph` names the graph of a CSV folder where it lies elsewhere. Raises `DataError` for whatever does not fit.
    """
    if path is None:
        with resources.as_file(resources.files("jaxsci.workflows").joinpath(f"data/{PACKAGED}.npz")) as packaged:
            return load_npz(packaged)
    path = Path(path)
    if os.path.isdir(path):  # unlike Path.is_dir, false where asking is not permitted
        return load_csv_folder(path, graph=None if graph is None else Path(graph))
    if path.suffix == ".npz":
        return load_npz(path)
    if path.suffix == ".json":
        return load_wfformat(path)
    raise DataError(
        f"{path}: expected an .npz file, a WfFormat .json or a folder of run CSVs, found {_what_is_there(path)}"
    )


def load_npz(path: Path) -> Workflow:
    """The npz form (keys in data/README.md). `y` with `classes`, `job_type`, `transformation`, `run`, `start_epoch` may
    be absent."""
    content = read_npz(path)
    missing = [key for key in _NEEDED if key not in content]
    if missing:
        raise DataError(f"{path}: expected the arrays {', '.join(_NEEDED)}, {', '.join(missing)} missing")
    x = content["x"]
    for name, (kinds, dimensions) in _FORM.items():
        if name in content:
            require_array(path, name, content[name], kinds, dimensions)
    runs, nodes = x.shape[:2]
    numbers: np.ndarray = np.arange(runs)
    labelled = "y" in content and "classes" in content
    return checked(
        Workflow(
            name=path.stem,
            nodes=_names(content["nodes"]),
            job_type=_names(content.get("job_type", np.full(nodes, "compute"))),
            transformation=_names(content.get("transformation", content["nodes"])),
            edges=content["edges"].astype(np.int64),
            features=_names(content["features"]),
            x=x.astype(np.float32),
            host=content["host"].astype(np.int64),
            hosts=_names(content["hosts"]),
            run=_names(content.get("run", numbers)),
            start_epoch=content.get("start_epoch", numbers).astype(np.float64),
            y=content["y"].astype(np.int64) if labelled else None,
            classes=_names(content["classes"]) if labelled else ("normal",),
        )
    )


def _names(array: np.ndarray) -> tuple[str, ...]:
    return tuple(str(name) for name in array.tolist())


def _what_is_there(path: Path) -> str:
    return "neither" if os.path.exists(path) else "nothing"

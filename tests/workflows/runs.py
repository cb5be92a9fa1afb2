"""A workflow small enough to write by hand: four jobs in a diamond, as Flow-Bench's files."""

import csv
import json
from pathlib import Path

import numpy as np

GRAPH = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
HOSTS = {"a": "site1-container-0-3", "b": "site1-container-4-7", "c": "site2-container-0-3", "d": "submit"}


def row(job: str, seed: int, anomaly: str = "None", shift: float = 0.0) -> dict[str, str]:
    rng = np.random.default_rng([seed, ord(job)])
    start = 1000.0 + shift + 10 * (ord(job) - ord("a"))
    run = float(rng.uniform(4, 6))
    return {
        "": job,
        "anomaly_type": anomaly,
        "type": "auxiliary" if job == "d" else "compute",
        "ready": str(start),
        "submit": str(start + 1),
        "execute_start": str(start + 2),
        "execute_end": str(start + 2 + run),
        "stage_in_start": "0",
        "post_script_end": str(start + 3 + run),
        "wms_delay": "1",
        "queue_delay": "1",
        "runtime": str(run),
        "stage_in_delay": str(run / 5),
        "stage_in_bytes": "1000000",
        "kickstart_site": "local" if job == "d" else "condorpool",
        "kickstart_hostname": HOSTS[job],
        "kickstart_transformations": f"step_{job}",
        "kickstart_executables_cpu_time": str(run * 0.9),
    }


def write_run(path: Path, seed: int = 0, *, order: str = "abcd", anomaly=(), drop=(), shift=0.0) -> Path:
    """One run; `anomaly` are (job, class) pairs, `drop` columns to leave out."""
    rows = [row(job, seed, dict(anomaly).get(job, "None"), shift) for job in order]
    names = [name for name in rows[0] if name not in drop]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_folder(folder: Path, runs: int = 4, graph=None, **options) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "diamond.dag.json").write_text(json.dumps(graph or GRAPH))
    for number in range(runs):
        write_run(folder / f"run{number}.csv", number, **options)
    return folder

"""Tables of I/O benchmark results in the format of the TOKIO year-long probes: one row a job.

The published files have a trap: the header names one column fewer than the rows have, because the first field is an
unnamed row number. Which columns a file has depends on the machine; nothing here relies on names of applications, file
systems or sizes of jobs.
"""

import csv
import gzip
import math
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from jaxsci.core.errors import DataError, did_you_mean
from jaxsci.core.reading import existing

PACKAGED = "cori_knl_sample.csv.gz"
TARGET = "darshan_agg_perf_by_slowest_posix"
TIMES = ("darshan_start_time", "_datetime_start")  # the first one the file has
FEATURES = (
    *(f"darshan_tot_{name}_posix" for name in ("bytes_read", "bytes_written", "reads", "writes", "opens")),
    *(f"fs_ave_{name}" for name in ("bytes_read_per_sec", "bytes_written_per_sec", "mds_cpu", "oss_cpu")),
    "fs_ave_open_ops_per_sec",
    "fshealth_ost_avg_full_pct",
    "fshealth_ost_most_full_pct",
    "jobsdb_concurrent_nodes",
    "jobsdb_concurrent_jobs",
    "topology_job_avg_radius",
)
LARGEST, LONGEST_LINE = 2 * 10**9, 10**6  # characters; the year-long table has 10 million
WIDE = 1000.0  # a feature whose maximum exceeds this is used as log10(x + 1)


@dataclass(frozen=True)
class Jobs:
    """Benchmark jobs of one machine group, in order of time.

    `time` is seconds since 1970; `kind` indexes `kinds` (application, direction, file layout); `performance` is log10
    of MiB/s; `features` are raw columns, logarithms where wide, named by `feature_names`. `notes` name whatever was
    set aside, and why.
    """

    time: Float[np.ndarray, " n"]
    kind: Int[np.ndarray, " n"]
    performance: Float[np.ndarray, " n"]
    features: Float[np.ndarray, "n f"]
    kinds: tuple[str, ...]
    feature_names: tuple[str, ...]
    group: str
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.time)


def load_jobs(
    path: str | None = None,
    *,
    target: str = TARGET,
    features: Sequence[str] = FEATURES,
    processes: int | None = None,
    file_system: str | None = None,
    least: int = 40,
) -> Jobs:
    """Read a CSV or CSV.gz file; `None` reads the packaged sample of Cori's KNL jobs.

    Jobs are grouped by number of processes and file system; the group with the most jobs is used unless `processes` or
    `file_system` says which. Features the file lacks are left out, jobs that lack a feature are set aside, and so are
    kinds with fewer than `least` jobs. Raises `DataError` with one line.
    """
    if path is None:
        with resources.as_file(resources.files("jaxsci.drift") / "data" / PACKAGED) as file:
            header, rows, notes = _read(file)
    else:
        header, rows, notes = _read(Path(path))
    for needed, options in (("target", [target]), ("time", TIMES), ("application", ["darshan_app"])):
        if not any(name in header for name in options):
            close = did_you_mean(options[0], header)
            raise DataError(f"{path}: no column of {needed}: expected {' or '.join(options)}{close}")
    table = _Table(header, rows)
    when = table.numbers(next(name for name in TIMES if name in header))
    value = table.numbers(target)
    usable = _good(when, value, target, notes)
    present = [name for name in features if name in header and np.isfinite(table.numbers(name)).any()]
    absent = [name for name in features if name not in present]
    if absent:
        notes.append(f"{len(absent)} features the file lacks: {', '.join(absent)}")
    matrix = np.stack([table.numbers(name) for name in present], axis=1) if present else np.zeros((len(rows), 0))
    whole = usable & np.isfinite(matrix).all(axis=1)
    groups = np.array(_groups(table))
    group = _choose(groups, whole, processes, file_system, path)
    inside = (groups == group) & usable
    if not (inside & whole).any():
        raise DataError(f"{path}: no job of {group} has every feature; give data.features=[...] without the empty ones")
    if (inside & ~whole).any():
        notes.append(f"{(inside & ~whole).sum()} jobs of {group} lack a feature and are set aside")
    chosen = np.flatnonzero(inside & whole)
    chosen = chosen[np.argsort(when[chosen], kind="stable")]
    labels = np.array(_kinds(table))[chosen]
    counts = Counter(labels.tolist())
    rare = sorted(name for name, count in counts.items() if count < least)
    if rare:
        notes.append(f"kinds with fewer than {least} jobs, set aside: {', '.join(rare)}")
    kinds = tuple(sorted(set(counts) - set(rare)))
    if not kinds:
        raise DataError(f"{path}: no kind of job in {group} has {least} jobs; give data.least=<fewer>")
    kept = chosen[np.isin(labels, kinds)]
    labels = labels[np.isin(labels, kinds)]
    repeated = len(kept) - len(set(zip(when[kept].tolist(), labels.tolist(), strict=True)))
    if repeated:
        notes.append(f"{repeated} jobs start in the same second as another of their kind; all are kept")
    columns = matrix[kept]
    wide = columns.max(axis=0, initial=0.0) > WIDE
    columns = np.where(wide, np.log10(np.maximum(columns, 0) + 1), columns)
    return Jobs(
        when[kept],
        np.array([kinds.index(label) for label in labels]),
        np.log10(value[kept]),
        columns,
        kinds,
        tuple(present),
        group,
        tuple(notes),
    )


class _Table:
    """Columns by name, converted when asked for."""

    def __init__(self, header: Sequence[str], rows: Sequence[Sequence[str]]):
        self._index: Mapping[str, int] = {name: i for i, name in enumerate(header)}
        self._rows = rows

    def text(self, name: str) -> list[str]:
        """Empty where the file has no such column."""
        at = self._index.get(name)
        return ["" if at is None else row[at] for row in self._rows]

    def numbers(self, name: str) -> Float[np.ndarray, " n"]:
        return np.array([_number(cell) for cell in self.text(name)])


def _read(file: Path) -> tuple[list[str], list[list[str]], list[str]]:
    """Header, rows of the header's length, and notes on rows that are not."""
    notes: list[str] = []
    try:
        lines = list(_lines(file))
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise DataError(f"{file}: not a readable CSV or CSV.gz file ({error})") from None
    if len(lines) < 2:
        raise DataError(f"{file}: expected a header and rows, found {len(lines)} lines")
    header, body = lines[0], lines[1:]
    widths = Counter(len(row) for row in body)
    offset = widths.most_common(1)[0][0] - len(header)
    if offset not in (0, 1):
        raise DataError(f"{file}: the header has {len(header)} columns but rows have {len(header) + offset}")
    if header[0] == "" and offset == 0:
        header = ["row", *header[1:]]
    good = [row[offset:] for row in body if len(row) == len(header) + offset]
    bad = [i + 2 for i, row in enumerate(body) if len(row) != len(header) + offset]
    if bad:
        notes.append(f"{len(bad)} rows with a wrong number of fields, the first on line {bad[0]}, are set aside")
    return header, good, notes


def _lines(file: Path) -> Iterator[list[str]]:
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(existing(file, "a table of jobs"), "rt", newline="", encoding="utf-8") as text:
        yield from csv.reader(_bounded(lambda: text.readline(LONGEST_LINE)))


def _bounded(read_line: Callable[[], str]) -> Iterator[str]:
    """Lines, as long as there are not more of them than a table of jobs can have: a gzip file hides its size."""
    taken = 0
    while line := read_line():
        taken += len(line)
        if taken > LARGEST:
            raise ValueError(f"more than {LARGEST:,} characters, unpacked")
        yield line


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _good(when: np.ndarray, value: np.ndarray, target: str, notes: list[str]) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        kinds = {
            "no time": ~np.isfinite(when),
            f"an infinite {target}": np.isinf(value),
            f"no {target}": np.isnan(value),
            f"a {target} of zero or less": value <= 0,
        }
    for what, rows in kinds.items():
        if rows.any():
            notes.append(
                f"{rows.sum()} jobs with {what}, the first in row {np.flatnonzero(rows)[0] + 1}, are set aside"
            )
    return ~np.any(list(kinds.values()), axis=0)


def _groups(table: _Table) -> list[str]:
    pairs = zip(table.numbers("darshan_nprocs"), table.text("_file_system"), strict=True)
    return [f"{'?' if math.isnan(n) else int(n)} processes on {fs or 'an unnamed file system'}" for n, fs in pairs]


def _choose(groups: np.ndarray, whole: np.ndarray, processes: int | None, file_system: str | None, path) -> str:
    counts = Counter(groups[whole].tolist())
    fitting = {
        name: count
        for name, count in counts.items()
        if (processes is None or name.startswith(f"{processes} processes"))
        and (file_system is None or name.endswith(f" on {file_system}"))
    }
    if not fitting:
        known = "; ".join(f"{name} ({count})" for name, count in counts.most_common()) or "none is complete"
        raise DataError(f"{path}: no complete jobs for data.processes, data.file_system as given; found {known}")
    return max(fitting, key=lambda name: fitting[name])


def _kinds(table: _Table) -> list[str]:
    """Application x direction x layout: file-per-process when the files are a multiple of the processes, or nearly."""
    columns = {name: table.numbers(f"darshan_biggest_{name}") for name in ("write_api_bytes", "read_api_bytes")} | {
        name: table.numbers(f"darshan_biggest_{name}") for name in ("write_api_files", "read_api_files")
    }
    processes = table.numbers("darshan_nprocs")
    names = []
    for i, application in enumerate(table.text("darshan_app")):
        writes = np.nan_to_num(columns["write_api_bytes"][i]) > np.nan_to_num(columns["read_api_bytes"][i])
        files = columns["write_api_files" if writes else "read_api_files"][i]
        spread = math.isfinite(files) and processes[i] > 0 and files > 0 and files % processes[i] / files < 0.05
        base = re.sub(r"\s+", "_", application.rsplit("/", 1)[-1])
        names.append(f"{base} {'write' if writes else 'read'} {'per process' if spread else 'shared'}")
    return names

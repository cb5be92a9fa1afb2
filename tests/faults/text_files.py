"""A small, sound file of every text format the package reads, and the loader of each."""

import csv
import gzip
import io
import json
from importlib import resources
from pathlib import Path

import damage
import jax.numpy as jnp
import numpy as np
from formats import Format, holding

from experiments.command_line import resume_arguments
from jaxsci.active.ledger import Entry, Ledger
from jaxsci.core.rundir import saved_config
from jaxsci.core.summary import Summary, read_summary, write_summary
from jaxsci.core.tracking import build_trackers
from jaxsci.diffraction.on_demand import PatternRequest
from jaxsci.diffraction.potential import read_setfl, second_moment
from jaxsci.drift.stream import StreamConfig, Tail
from jaxsci.drift.tcpd import load_collection
from jaxsci.drift.tokio import PACKAGED, load_jobs
from jaxsci.racing import configspace_json, irace_files, packaged
from jaxsci.racing.log import RunLog, read_runs
from jaxsci.racing.targets import qap, tsp
from jaxsci.racing.targets.protocol import Job, Outcome
from jaxsci.transformer.tokenizer import BytePairs
from jaxsci.workflows.flowbench_csv import load_csv_folder
from jaxsci.workflows.wfformat import load_wfformat

GRAPH = {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}
COLUMNS = ("", "anomaly_type", "type", "ready", "execute_start", "runtime", "stage_in_bytes", "kickstart_hostname")


def data(package: str, name: str) -> bytes:
    return resources.files(package).joinpath("data", name).read_bytes()


def write_runs(path: Path) -> None:
    """A Flow-Bench folder of three runs and its graph."""
    folder = path.parent
    (folder / "diamond.dag.json").write_text(json.dumps(GRAPH))
    for run in range(3):
        rows = [
            (job, "None", "compute", 1000 + run, 1002, 5.5, 1e6, f"site-container-{i}") for i, job in enumerate("abcd")
        ]
        text = "\n".join(",".join(map(str, row)) for row in (COLUMNS, *rows))
        (folder / f"run{run}.csv").write_text(text + "\n")


def read_runs_folder(path: Path) -> object:
    return load_csv_folder(path.parent)


def wfformat() -> bytes:
    tasks = [
        {"name": f"step_{job}", "id": job, "parents": [p for p in GRAPH if job in GRAPH[p]], "children": GRAPH[job]}
        | {"inputFiles": [f"{job}.in"], "outputFiles": []}
        for job in GRAPH
    ]
    ran = [
        {"id": job, "runtimeInSeconds": 5.0, "avgCPU": 90.0, "readBytes": 10, "writtenBytes": 10}
        | {"executedAt": "2023-05-01T12:00:00+00:00", "machines": ["w1"]}
        for job in GRAPH
    ]
    files = [{"id": f"{job}.in", "sizeInBytes": 10} for job in GRAPH]
    parts = {"specification": {"tasks": tasks, "files": files}, "execution": {"makespanInSeconds": 9, "tasks": ran}}
    return json.dumps({"name": "diamond", "schemaVersion": "1.5", "workflow": parts}).encode()


def write_collection(path: Path) -> None:
    """The packaged collection around `path`, whichever of its files that is."""
    folder = path.parent if path.parent.name != "series" else path.parent.parent
    source = resources.files("jaxsci.drift").joinpath("data", "tcpd")
    (folder / "series").mkdir(parents=True, exist_ok=True)
    for name in ("annotations.json", "published_scores.csv", "bocpd_reference_locations.json"):
        (folder / name).write_bytes(source.joinpath(name).read_bytes())
    for file in source.joinpath("series").iterdir():
        (folder / "series" / file.name).write_bytes(file.read_bytes())


def read_collection(path: Path) -> object:
    return load_collection(str(path.parent if path.parent.name != "series" else path.parent.parent))


def jobs() -> bytes:
    rows = list(csv.reader(io.StringIO(gzip.decompress(data("jaxsci.drift", PACKAGED)).decode())))
    text = io.StringIO()
    csv.writer(text).writerows(rows[:60])
    return gzip.compress(text.getvalue().encode(), 1)


def of_jobs(content: bytes):
    return damage.within_gzip(damage.of_words, content)


def stream_csv() -> bytes:
    return b"time,a,b\n" + b"".join(f"{t},{t % 7},{t / 3}\n".encode() for t in range(40))


def stream_lines() -> bytes:
    return b"".join(json.dumps({"time": t, "a": t % 7, "b": t / 3}).encode() + b"\n" for t in range(40))


def read_stream(path: Path) -> object:
    """To its end, in pieces, as an experiment does."""
    tail, before = Tail(path, StreamConfig()), -1
    while tail.position["offset"] > before:
        before = tail.position["offset"]
        tail.read(7)
    return tail


def setfl() -> bytes:
    gold, points = second_moment("Au"), 50
    r, rho = np.arange(points) * gold.cutoff / (points - 1), np.arange(points) * 2.0
    values = [np.asarray(f(jnp.asarray(x))) for f, x in ((gold.embedding, rho), (gold.density, r), (gold.pair, r))]
    values[2] = np.where(r > 0, r * values[2], 0.0)
    head = f"one\ntwo\nthree\n1 Au\n{points} 2.0 {points} {r[1]} {gold.cutoff}\n79 196.97 4.08 fcc\n"
    rows = [" ".join(f"{v:.9e}" for v in row) for value in values for row in value.reshape(-1, 5)]
    return (head + "\n".join(rows) + "\n").encode()


def configspace() -> bytes:
    space = irace_files.from_text('a "" c (x, y)\nb "" r,log (0.1, 1) | a == "x"\nn "" i (1, 9)\n[forbidden]\nn == 3\n')
    return json.dumps(configspace_json.to_mapping(space)).encode()


def write_instance(path: Path) -> None:
    source = resources.files("jaxsci.racing").joinpath("data", "tsplib", "train")
    for name in (path.name, "solutions.txt"):
        path.with_name(name).write_bytes(source.joinpath(name).read_bytes())


def write_optima(path: Path) -> None:
    write_instance(path.with_name("eil51.tsp"))


def qaplib() -> bytes:
    return data("jaxsci.racing", "qaplib/train/chr18a.dat")


def write_index(path: Path) -> None:
    size, _, *rest = qaplib().split()
    path.with_name("chr18a.dat").write_bytes(b" ".join([size, *rest]))  # without its best known value
    path.write_text("name,n,best_known\nchr18a,18,11098\n")


def write_run_log(path: Path) -> None:
    log = RunLog(path, {"seed": 1})
    job = Job(1, {"a": "x", "b": 0.5}, "i1", 7)
    log.record([job, Job(1, job.configuration, "i2", 8)], [Outcome(1.5, 0.1, ""), Outcome(2.5, None, "")])
    log.close()


def continue_run_log(path: Path) -> object:
    log = RunLog(path, {"seed": 1})
    log.close()
    return log


def write_ledger(path: Path) -> None:
    ledger = Ledger(PatternRequest, path)
    for seed in range(3):
        ledger.record(Entry(PatternRequest("easy", "edge", 3), 3.0, {"seed": seed}, "start"))
    ledger.score({"accuracy": 0.5})


def read_ledger(path: Path) -> object:
    ledger = Ledger(PatternRequest, path)
    return ledger.cost(), ledger.counts(), ledger.course("accuracy"), ledger.answered


def write_summary_file(path: Path) -> None:
    write_summary(Summary("test", {"a": 1.0}, notes=("a note",)), path)


def write_metrics(path: Path) -> None:
    trackers = build_trackers(("jsonl", "csv"), path.parent)
    for step in range(5):
        trackers.log(step, {"loss": 1 / (step + 1)})
    trackers.close()


def go_on(path: Path) -> object:
    """Log one more step, as a resumed run does."""
    trackers = build_trackers(("jsonl", "csv"), path.parent, resumed=True)
    trackers.log(5, {"loss": 0.1, "rate": 1.0})
    trackers.close()
    return trackers


def write_tokenizer(path: Path) -> None:
    path.with_name("text.txt").write_text("to be or not to be, that is the question, to be sure " * 3)
    BytePairs.train(path.with_name("text.txt"), 260).save(path)


def tokenizer(path: Path) -> object:
    pairs = BytePairs.load(path)
    return pairs.decode(pairs.encode("to be or not to be"))


WORDS, JSON, LINES = (damage.of_words,), (damage.of_json,), (damage.of_json_lines,)
SPACE = "jaxsci.racing"
FORMATS = {
    "Flow-Bench run": Format("run1.csv", write_runs, read_runs_folder, WORDS),
    "Flow-Bench graph": Format("diamond.dag.json", write_runs, read_runs_folder, JSON),
    "WfFormat": Format("diamond.json", holding(wfformat), load_wfformat, JSON, cases=500),
    "TCPD series": Format("series/nile.json", write_collection, read_collection, JSON),
    "TCPD annotations": Format("annotations.json", write_collection, read_collection, JSON),
    "TCPD scores": Format("published_scores.csv", write_collection, read_collection, WORDS),
    "TCPD locations": Format("bocpd_reference_locations.json", write_collection, read_collection, JSON),
    "TOKIO table": Format("jobs.csv.gz", holding(jobs), lambda path: load_jobs(str(path), least=1), (of_jobs,)),
    "stream CSV": Format("stream.csv", holding(stream_csv), read_stream, WORDS),
    "stream JSONL": Format("stream.jsonl", holding(stream_lines), read_stream, LINES),
    "setfl potential": Format("Au.eam.alloy", holding(setfl), read_setfl, WORDS),
    "irace parameters": Format(
        "parameters.txt", holding(lambda: data(SPACE, "process/parameters.txt")), irace_files.read, WORDS, cases=600
    ),
    "ConfigSpace": Format("space.json", holding(configspace), configspace_json.read, JSON, cases=500),
    "QAPLIB": Format("chr18a.dat", holding(qaplib), qap.load, WORDS),
    "QAPLIB index": Format("index.csv", write_index, lambda path: qap.load_folder(path.parent), WORDS),
    "TSPLIB places": Format("eil51.tsp", write_instance, tsp.load, WORDS),
    "TSPLIB geographic": Format("ulysses22.tsp", write_instance, tsp.load, WORDS),
    "TSPLIB matrix": Format("bays29.tsp", write_instance, tsp.load, WORDS),
    "TSPLIB triangle": Format("dantzig42.tsp", write_instance, tsp.load, WORDS),
    "TSPLIB optima": Format("solutions.txt", write_optima, lambda path: tsp.load_folder(path.parent), WORDS),
    "instance list": Format(
        "list.txt", holding(lambda: b"one\ntwo # what\n\n"), lambda p: packaged.lines(str(p)), WORDS
    ),
    "run log, read": Format("runs.jsonl", write_run_log, read_runs, LINES),
    "run log, continued": Format("runs.jsonl", write_run_log, continue_run_log, LINES),
    "active ledger": Format("ledger.jsonl", write_ledger, read_ledger, LINES),
    "summary": Format("summary.json", write_summary_file, read_summary, JSON),
    "metrics JSONL": Format("metrics.jsonl", write_metrics, go_on, LINES),
    "metrics CSV": Format("metrics.csv", write_metrics, go_on, WORDS),
    "tokenizer": Format("tokenizer.json", write_tokenizer, tokenizer, JSON),
    "saved overrides": Format(
        "overrides.yaml",
        holding(lambda: b"- experiment=twin\n- seed=1\n"),
        lambda p: resume_arguments([f"resume={p.parent}"]),
        WORDS,
    ),
    "saved config": Format(
        "config.yaml",
        holding(lambda: b"seed: 1\ndata:\n  path: null\n  sizes: [1, 2]\n"),
        lambda p: saved_config(p.parent),
        WORDS,
    ),
}

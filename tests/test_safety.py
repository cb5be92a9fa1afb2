"""Files are data: nothing in one is executed, followed, extracted or believed to be small. The source is searched for
what could, and what could is tried."""

import ast
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from experiments import catalogue, command_line, run
from experiments.stages import read_stage
from jaxsci.active.ledger import Ledger
from jaxsci.bayesnas.loaders.cifar10 import BATCHES, load_cifar10
from jaxsci.bayesnas.loaders.images import load_digits
from jaxsci.bayesnas.loaders.safe_pickle import read_pickle
from jaxsci.bayesnas.loaders.uci import load_tables
from jaxsci.bayesnas.oracle import load_tables as load_nas_tables
from jaxsci.core.errors import DataError, JaxsciError
from jaxsci.core.reading import read_npz
from jaxsci.core.report import Report
from jaxsci.core.rundir import saved_config
from jaxsci.core.summary import Reference, Summary, read_summary
from jaxsci.diffraction.measured import MeasuredConfig, load_intensity
from jaxsci.drift.tcpd import load_collection
from jaxsci.emulators.fields import load_field
from jaxsci.emulators.stabilized_ode.storage import load_model
from jaxsci.emulators.stabilized_ode.trajectories import load_trajectories
from jaxsci.racing import configspace_json, irace_files
from jaxsci.racing.expressions import parse
from jaxsci.racing.log import read_runs
from jaxsci.transformer import safetensors
from jaxsci.transformer.corpus import encode_file
from jaxsci.transformer.tokenizer import Bytes
from jaxsci.workflows.flowbench import load_workflow
from jaxsci.workflows.requests import ExperimentRequest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("jaxsci", "experiments", "conf", "hydra_plugins", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
PRODUCT = [path for path in SOURCES if "tests" not in path.relative_to(ROOT).parts]

# The source, searched

EXECUTES = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "runpy.run_path", "torch.load"}
EXECUTES |= {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "hydra.utils.instantiate", "hydra.utils.call"}
EXECUTES |= {"instantiate", "pickle.load", "pickle.loads", "np.lib.format.read_array", "numpy.load"}
EXECUTES_THE_DOCS = {"tests/test_docs.py"}  # pages of this repository, never what was read from elsewhere
EXTRACTS = {"extract", "extractall", "unpack_archive"}  # members are read, never written under a name of their own
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
NETWORK = {"urllib", "requests", "http", "httpx", "aiohttp", "ftplib", "smtplib", "socket", "socketserver", "xmlrpc"}
# Serves costs on the loopback address to a tuner in another language, when a benchmark asks for it.
MAY_USE_SOCKETS = {"experiments/benchmarks/racing_server.py"}


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def packages(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def unsafe(path: Path) -> list[str]:
    """What a file does that could execute, extract or unpickle what it reads."""
    found = sorted(packages(path) & PICKLES)
    for name, call in calls(path):
        keywords = {word.arg: ast.unparse(word.value) for word in call.keywords}
        if name in EXECUTES or name.split(".")[-1] in EXTRACTS and "tests" not in path.parts:
            found.append(name)
        if name == "np.load" and keywords.get("allow_pickle", "False") != "False":
            found.append("np.load of pickles")
        if keywords.get("allow_pickle", "False") != "False" or keywords.get("shell", "False") != "False":
            found.append(f"{name} with allow_pickle or shell")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_nothing_read_is_ever_executed(path):
    assert unsafe(path) == (["runpy.run_path"] if named(path) in EXECUTES_THE_DOCS else [])


def test_that_search_can_fail(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text(
        "import pickle\nyaml.load(eval('1'))\nnp.load(f, allow_pickle=True)\nt.extractall()\nrun(c, shell=True)"
    )
    assert {"pickle", "eval", "yaml.load", "t.extractall", "np.load of pickles"} <= set(unsafe(path))
    assert "run with allow_pickle or shell" in unsafe(path)


@pytest.mark.parametrize("path", PRODUCT, ids=named)
def test_nothing_is_downloaded(path):
    assert named(path) in MAY_USE_SOCKETS or not packages(path) & NETWORK


OFFLINE = """
import importlib, socket, sys
def refuse(*arguments, **keywords):
    raise OSError("the network was asked for: %r" % (arguments[1:],))
for name in ("connect", "connect_ex", "bind"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.create_connection = refuse
for name in sys.argv[2:]:
    importlib.import_module(name)
from experiments import run
sys.exit(run.main(["experiment=twin", "cycles=5", "seeds=1", "hydra.run.dir=" + sys.argv[1]]))
"""


def test_imports_and_a_run_need_no_network(tmp_path):
    data = [path for path in PRODUCT if path.is_relative_to(ROOT / "jaxsci") and "data" in path.parts]
    modules = [
        named(path)[:-3].replace("/", ".").removesuffix(".__init__")
        for path in PRODUCT
        if path.is_relative_to(ROOT / "jaxsci") and path not in data
    ]
    command = [sys.executable, "-c", OFFLINE, str(tmp_path / "run"), *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_summary(tmp_path / "run" / "summary.json").metrics


# Pickles


class Trap:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


ARRAY_LOADERS: dict[str, Callable[[Path], object]] = {
    "core": read_npz,
    "stage": read_stage,
    "field": lambda path: load_field(str(path)),
    "workflow": load_workflow,
    "cifar10": lambda path: load_cifar10(str(path)),
    "digits": lambda path: load_digits(str(path)),
    "regression": lambda path: load_tables(str(path)),
    "architectures": lambda path: load_nas_tables(str(path)),
    "trajectories": load_trajectories,
    "model": load_model,
    "intensity": lambda path: load_intensity(MeasuredConfig(path=str(path))),
}


@pytest.mark.parametrize("name", ARRAY_LOADERS)
def test_an_archive_with_objects_is_refused(name, tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "objects.npz"
    np.savez(path, x=np.array([Trap(mark)], object), y=np.zeros(3))
    with pytest.raises(JaxsciError, match="objects.npz|something else|damaged"):
        ARRAY_LOADERS[name](path)
    path.write_bytes(np.array([Trap(mark)], object).dumps())  # a pickle under the name of an archive
    with pytest.raises(JaxsciError):
        ARRAY_LOADERS[name](path)
    assert not mark.exists()


def test_single_arrays_with_objects_are_refused(tmp_path):
    mark = tmp_path / "mark"
    for name in ("scan.npy", "tokens.npy"):
        np.save(tmp_path / name, np.array([Trap(mark)], object))
    (tmp_path / "text").write_text("text")
    with pytest.raises(DataError):
        load_intensity(MeasuredConfig(path=str(tmp_path / "scan.npy")))
    with pytest.raises(DataError):
        encode_file(tmp_path / "text", Bytes(), tmp_path / "tokens.npy")
    assert not mark.exists()


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nmkdir\n(S'MARK'\ntR.",
        b"\x80\x02cbuiltins\neval\nX\x04\x00\x00\x001+11\x85R.",
        b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c\x04MARK\x85R.",
        b"cnumpy\ndtype\n(cos\nmkdir\n(S'MARK'\ntRtR.",
        b"(S'MARK'\nios\nmkdir\n.",
    ],
)
def test_a_pickle_is_read_and_not_run(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="not allowed|not a readable pickle"):
        read_pickle(program, "batch")
    assert not (tmp_path / "MARK").exists()


# Archives


def test_hostile_members_of_an_archive(tmp_path):
    """Read by the last part of their names and never written: no path, no link, no device leads anywhere."""
    place = tmp_path / "deep" / "cifar.tar.gz"
    place.parent.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    with tarfile.open(place, "w:gz") as archive:
        for name in ("../../escaped", "/tmp/escaped", "../data_batch_1.bin"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
        kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
        for batch, kind in zip(BATCHES[1:], kinds, strict=True):
            member = tarfile.TarInfo(f"{batch}.bin")
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="found data_batch_1.bin$"):
        load_cifar10(str(place))
    assert sorted(tmp_path.rglob("*")) == before


def test_archives_that_claim_to_be_huge(tmp_path):
    huge = tarfile.TarInfo("data_batch_1.bin")
    huge.size = 10**15
    (tmp_path / "huge.tar").write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(DataError, match="claims 1,000,000,000 MB"):
        load_cifar10(str(tmp_path / "huge.tar"))
    bomb = tmp_path / "bomb.tar.gz"
    with tarfile.open(bomb, "w:gz", compresslevel=1) as archive:
        member = tarfile.TarInfo("README")
        member.size = 300_000_000
        archive.addfile(member, Zeros())  # type: ignore[arg-type]
    assert bomb.stat().st_size < 3_000_000
    with pytest.raises(DataError, match="README claims 300 MB"):
        load_cifar10(str(bomb))
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY")
        archive.infolist()[0].file_size = 10**15
    with pytest.raises(DataError, match="claims to unpack to 1,000,000 GB"):
        read_npz(tmp_path / "bomb.npz")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000, 1000000000)}\n"
    with zipfile.ZipFile(tmp_path / "shape.npz", "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(DataError, match="not a readable npz"):
        read_npz(tmp_path / "shape.npz")


class Zeros(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        return bytes(size)


# Configs, names and expressions


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Calls the command line, which must refuse in one line, and returns that."""
    monkeypatch.chdir(tmp_path)

    def get(*arguments: str) -> str:
        assert run.main(arguments) == 2
        said = capsys.readouterr().err.splitlines()
        assert len(said) == 1, said
        assert not (tmp_path / "MARK").exists()
        return said[0]

    return get


@pytest.mark.parametrize(
    "override",
    [
        "_target_=os.mkdir",
        "+_target_=os.mkdir",
        "++method._target_=os.mkdir",
        "+method={_target_: os.mkdir, path: MARK}",
        "seed={_target_: os.mkdir, _args_: [MARK]}",
        "+seed._partial_=true",
        "seed=${oc.create:{_target_: os.mkdir}}",
    ],
)
def test_a_config_names_no_code(override, refused):
    assert refused("experiment=twin", override).startswith("error: ")


@pytest.mark.parametrize(
    "line",
    [
        "+hydra.callbacks.trap={_target_: os.mkdir, path: MARK}",
        "hydra.launcher._target_=os.mkdir",
        "++hydra.sweeper._target_=os.mkdir",
        "hydra/launcher=trap",
        "hydra.searchpath=[file://trap]",
        "~hydra.job",
        "-m",
        "--config-dir=trap",
        "seed={_target_: os.mkdir, _args_: [MARK]}",
    ],
)
def test_the_overrides_of_a_run_from_elsewhere_name_no_code(line, refused, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "config.yaml").write_text("seed: 0\n")
    (folder / "overrides.yaml").write_text(f"- experiment=twin\n- '{line}'\n")
    assert refused(f"resume={folder}").startswith("error: ")
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "overrides.yaml"]


@pytest.mark.parametrize(
    "tag", ["object/apply:os.mkdir [MARK]", "name:os.mkdir ''", "module:os ''", "object/new:os.mkdir"]
)
def test_tags_in_yaml_build_nothing(tag, refused, tmp_path):
    (tmp_path / "config.yaml").write_text(f"seed: !!python/{tag}\n")
    (tmp_path / "overrides.yaml").write_text(f"- !!python/{tag}\n")
    with pytest.raises(JaxsciError):
        saved_config(tmp_path)
    with pytest.raises(JaxsciError):
        command_line.resume_arguments([f"resume={tmp_path}"])
    refused(f"resume={tmp_path}")


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').mkdir('MARK')",
        "a.__class__",
        "a.__class__.__mro__",
        "().__class__",
        "eval('1')",
        "exec(a)",
        "lambda: a",
        "[x for x in a]",
        "a[0]",
        "a := 1",
        "a; b",
        "`id`",
        "$(id)",
        "system('id')",
        "c('os').mkdir",
    ],
)
def test_expressions_reach_nothing_but_parameters(text, tmp_path):
    with pytest.raises(DataError):
        parse(text, {"a", "b"})
    path = tmp_path / "parameters.txt"
    path.write_text(f'a "" r (0, 1)\nb "" r (0, 1) | {text}\n')
    with pytest.raises(DataError):
        irace_files.read(path)


DEEP_READERS: dict[str, Callable[[Path], object]] = {
    "graph.json": load_workflow,
    "summary.json": read_summary,
    "space.json": configspace_json.read,
    "runs.jsonl": read_runs,
    "ledger.jsonl": lambda path: Ledger(ExperimentRequest, path),
    "config.yaml": lambda path: saved_config(path.parent),
    "model.safetensors": safetensors.read,
    "annotations.json": lambda path: load_collection(str(path.parent)),
}


@pytest.mark.parametrize("name", DEEP_READERS)
def test_a_million_brackets(name, tmp_path):
    content = b"[" * (100_000 if name.endswith("yaml") else 1_000_000)
    if name.endswith("safetensors"):
        content = len(content).to_bytes(8, "little") + content
    if name == "annotations.json":
        (tmp_path / "series").mkdir()
        (tmp_path / "series" / "one.json").write_bytes(content)
    (tmp_path / name).write_bytes(content + b"\n")
    with pytest.raises(JaxsciError):
        DEEP_READERS[name](tmp_path / name)


# What names in files do to a page and to a terminal

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&lt;\x1b[2J\n"


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict]] = []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def check_page(page: str) -> None:
    tags = Tags()
    tags.feed(page)
    for tag, attributes in tags.found:
        assert tag not in ("script", "iframe", "object", "embed", "link", "a", "form", "base")
        assert not any(name.startswith("on") for name in attributes)
        assert tag != "img" or attributes["src"].startswith("data:image/png;base64,")


def test_names_in_files_are_text_in_a_report(tmp_path):
    summary = Summary(
        HOSTILE, {HOSTILE: 1.0}, {HOSTILE: Reference(2.0, HOSTILE)}, {HOSTILE: 1.0}, (HOSTILE,), {HOSTILE: HOSTILE}
    )
    page = Report(HOSTILE, HOSTILE)
    page.table(HOSTILE, (HOSTILE,), [(HOSTILE,)], caption=HOSTILE)
    (tmp_path / "figure.png").write_bytes(b"png")
    page.figure(HOSTILE, tmp_path / "figure.png", HOSTILE)
    check_page(page.html(summary, config={HOSTILE: HOSTILE}, overrides=(HOSTILE,)))


def test_names_in_a_stream_are_text_in_its_report(tmp_path):
    name = "<script>alert(1)</script>"
    rows = "\n".join(f"{t},{t % 5}" for t in range(60))
    (tmp_path / "stream.csv").write_text(f"time,{name}\n{rows}\n")
    overrides = ["experiment=drift", "source=tail", f"path={tmp_path / 'stream.csv'}", "detector.capacity=32"]
    assert run.main([*overrides, f"hydra.run.dir={tmp_path / 'run'}"]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "&lt;script&gt;" in page
    check_page(page)


def test_what_a_file_says_commands_no_terminal():
    said = str(DataError(f"column {HOSTILE}"))
    assert said.isprintable() and "\n" not in said
    assert len(str(DataError("x" * 10**6))) < 2100
    assert catalogue.names()

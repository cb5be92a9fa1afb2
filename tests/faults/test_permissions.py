"""Places that may not be read or written, and places that are no files: one line for each, and no waiting."""

import mmap  # noqa: F401  (NumPy imports it when it first needs it, from where others may not read)
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import array_files
import pytest
import text_files
import victims

FORMATS = array_files.FORMATS | text_files.FORMATS
del FORMATS["CIFAR-10 pickle"]  # its loader takes bytes
NOBODY = 65534
OPTIONAL = {  # files whose absence is an answer
    "TCPD series",
    "TCPD scores",
    "TCPD locations",
    "QAPLIB index",
    "TSPLIB optima",
    "run log, continued",
    "active ledger",
    "metrics JSONL",
    "metrics CSV",
    "token file",
    "Flow-Bench run",
}


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's privileges, to which permissions are nothing."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was == 0:
            os.seteuid(was)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


@pytest.mark.parametrize("name", FORMATS)
def test_what_may_not_be_read_is_one_line(name, open_folder, cases, ending):
    form = FORMATS[name]
    path = open_folder / "in" / form.file
    path.parent.mkdir(parents=True)
    form.write(path)
    path.chmod(0)
    with as_nobody():
        assert ending(form.read, path) == "refused"
    path.chmod(0o644)
    path.parent.chmod(0)
    with as_nobody():
        assert ending(form.read, path) == "refused"
    path.parent.chmod(0o755)
    cases["no permission to read", "refused in one line"] += 2


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_file_is_one_line(name, tmp_path, cases, ending):
    form = FORMATS[name]
    path = tmp_path / form.file
    path.parent.mkdir(parents=True, exist_ok=True)
    form.write(path)
    path.unlink()
    expected = ("refused", "read") if name in OPTIONAL else ("refused",)
    kinds = {
        "absent": lambda: None,
        "a link to nowhere": lambda: path.symlink_to("nowhere"),
        "a link to itself": lambda: path.symlink_to(path.name),
        "a folder": lambda: path.mkdir(),
        "a pipe": lambda: os.mkfifo(path),
        "a socket": lambda: _listen(path),
    }
    for make in kinds.values():
        make()
        ended = ending(form.read, path, may_write=name in OPTIONAL)
        assert ended in expected
        cases["no file", "refused in one line" if ended == "refused" else ended] += 1
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)


def _listen(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def test_a_run_without_permission_to_write_leaves_all_as_it_was(open_folder, tmp_path, cases):
    overrides = victims.stream(open_folder / "stream.csv")
    directory = open_folder / "run"
    assert victims.call(*overrides, f"hydra.run.dir={directory}").code == 0
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    for path in (open_folder, directory, *directory.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for command in ([f"resume={directory}"], [*overrides, f"hydra.run.dir={open_folder / 'other'}"]):
        with as_nobody():
            outcome = victims.call(*command)
        assert "Permission denied" in victims.complaint(outcome)
        cases["no permission to write", "refused in one line"] += 1
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert not (open_folder / "other").exists()

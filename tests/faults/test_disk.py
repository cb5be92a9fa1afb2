"""Disks that are full, and files that may not grow: one line, exit code 2, what was whole stays so, and it goes on."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import victims
import yaml

from jaxsci.core.errors import JaxsciError
from jaxsci.core.files import write_atomic
from jaxsci.core.reading import read_npz

pytestmark = [
    pytest.mark.timeout(1800),
    # Orbax's writers, told of the full disk, may answer an event loop that is closed by then; nothing is lost by it.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SIZES = ("4k", "16k", "64k", "256k", "1m")
RUNS = ("racing", "language_model", "bayesnas", "stream")


class Disk:
    """A file system of its own, on memory."""

    def __init__(self, folder: Path):
        self.folder = folder

    def mount(self, options: str) -> bool:
        self.folder.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(self.folder)]
        return subprocess.run(command, capture_output=True).returncode == 0

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[Disk]:
    """A mounted disk of 4 KB. Skips where mounting is not permitted."""
    made = Disk(tmp_path / "disk")
    try:
        mounted = made.mount("size=4k")
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small tmpfs is not permitted here")
    yield made
    made.unmount()


def overrides_of(name: str, folder: Path) -> list[str]:
    return victims.stream(folder / "stream.csv") if name == "stream" else victims.VICTIMS[name]


def all_whole(directory: Path) -> None:
    """Whatever is there under its own name can be read to its end."""
    for path in directory.rglob("*"):
        if "checkpoints" not in path.parts or path.suffix == ".npz":
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".yaml":
                assert yaml.safe_load(path.read_text()) is not None
            elif path.suffix == ".npz":
                read_npz(path)
            elif path.suffix == ".html":
                assert path.read_text().rstrip().endswith("</html>")


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_fills_its_disk_goes_on_once_there_is_room(name, disk, tmp_path, cases):
    overrides = overrides_of(name, tmp_path)
    assert victims.call(*overrides, f"hydra.run.dir={tmp_path / 'alone'}").code == 0
    directory = disk.folder / "run"
    for size in SIZES:
        disk.remount(f"size={size}")
        outcome = victims.finish(overrides, directory)
        if outcome.code == 0:
            cases["disk full", "fitted"] += 1
            break
        assert os.strerror(errno.ENOSPC) in victims.complaint(outcome)
        cases["disk full", "refused in one line"] += 1
        if directory.exists():
            all_whole(directory)
            assert not victims.unfinished(directory)
    disk.remount("size=100m")
    outcome = victims.finish(overrides, directory)
    assert outcome.code == 0, outcome.err
    assert victims.results(directory) == victims.results(tmp_path / "alone")
    assert victims.steps_are_in_order(directory)
    cases["disk full", "resumed, nothing lost"] += 1


@pytest.mark.parametrize("name", RUNS)
def test_a_disk_that_became_read_only_is_one_line(name, disk, tmp_path, cases):
    disk.remount("size=100m")
    overrides, directory = overrides_of(name, tmp_path), disk.folder / "run"
    assert victims.call(*overrides, f"hydra.run.dir={directory}").code == 0
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    disk.remount("ro")
    for command in ([f"resume={directory}"], [*overrides, f"hydra.run.dir={disk.folder / 'other'}"]):
        assert os.strerror(errno.EROFS) in victims.complaint(victims.call(*command))
        cases["disk read-only", "refused in one line"] += 1
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    disk.remount("rw")


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from experiments import run
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(run.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("limit", [10, 3000])
def test_files_that_may_not_grow_are_one_line(limit, tmp_path, cases):
    """What a quota does where nothing can be mounted."""
    overrides, directory = overrides_of("stream", tmp_path), tmp_path / "run"
    command = [sys.executable, "-c", LIMITED, str(limit), *overrides, f"hydra.run.dir={directory}"]
    environment = os.environ | {"JAX_ENABLE_COMPILATION_CACHE": "false"}  # its files are large as well
    done = subprocess.run(command, cwd=victims.REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    cases["file limit", "refused in one line"] += 1
    outcome = victims.finish(overrides, directory)
    assert outcome.code == 0, outcome.err
    cases["file limit", "resumed, nothing lost"] += 1


def test_results_in_the_only_copy_survive_a_full_disk(disk, cases):
    """A file that is replaced is the old one or the new one, however little room there is."""
    path = disk.folder / "kept.txt"
    disk.remount("size=64k")
    write_atomic(path, "old" * 1000)
    for size in np.linspace(10_000, 200_000, 20).astype(int):
        try:
            write_atomic(path, "n" * size)
            cases["disk full", "fitted"] += 1
        except JaxsciError as error:
            assert os.strerror(errno.ENOSPC) in str(error)
            cases["disk full", "refused in one line"] += 1
        assert set(path.read_text()) in ({"n"}, {"o", "l", "d"})
        assert not victims.unfinished(disk.folder)

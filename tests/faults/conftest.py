"""What the faults have in common: the count of what was tried, told at the end of the session."""

import json
import os
import resource
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jaxsci.core.errors import JaxsciError

HERE = Path(__file__).parent
PATIENCE = 120  # seconds for one file on a busy machine; the slowest takes one on an idle one
ROOM = 4 << 30  # bytes a loader may take beyond what the process has


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def cases(record_property) -> Iterator[Counter]:
    """Counts (kind of fault, how it ended) of this test, for the table at the end."""
    counted: Counter = Counter()
    yield counted
    record_property("faults", json.dumps([[kind, ended, n] for (kind, ended), n in counted.items()]))


def pytest_terminal_summary(terminalreporter):
    """Every case by kind of fault and outcome."""
    counted: Counter = Counter()
    for report in (r for reports in terminalreporter.stats.values() for r in reports):
        if getattr(report, "when", None) == "teardown":
            for name, value in report.user_properties:
                if name == "faults":
                    counted.update({(kind, ended): n for kind, ended, n in json.loads(value)})
    if not counted:
        return
    terminalreporter.section("faults tried")
    endings = sorted({ended for _, ended in counted})
    kinds = sorted({kind for kind, _ in counted})
    width = max(map(len, kinds))
    rows = [("fault", "cases", *endings)]
    rows += [
        (kind, str(sum(counted[kind, e] for e in endings)), *(str(counted[kind, e] or "") for e in endings))
        for kind in kinds
    ]
    rows.append(("all", str(counted.total()), *(str(sum(counted[k, e] for k in kinds)) for e in endings)))
    for name, *numbers in rows:
        cells = (n.rjust(max(7, len(title))) for n, title in zip(numbers, rows[0][1:], strict=True))
        terminalreporter.write_line(f"{name.ljust(width)}  {'  '.join(cells)}")


class Hung(BaseException):
    """Not an `Exception`, which a loader might take for trouble with the file."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails what takes longer."""

    def late(number, frame):
        raise Hung(f"not back after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    """A file that makes its reader ask for much more than this machine should give gets a MemoryError."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def ending() -> Callable[..., str]:
    """How reading a file ended: `read`, or `refused` by one line and nothing else. Any other way fails."""

    def of(read: Callable[[Path], object], path: Path, *, may_write: bool = False) -> str:
        folder, before = path.parent, everything_in(path.parent)
        try:
            with within(PATIENCE):
                read(path)
        except JaxsciError as error:
            said = str(error)
            assert said.strip() and "\n" not in said and len(said) <= 2100, said
            return "refused"
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            came = f"{type(error).__name__}: {str(error)[:200]} ({last.filename}, line {last.lineno})"
            raise AssertionError(f"expected a value or a JaxsciError, got {came}") from None
        finally:
            assert may_write or everything_in(folder) == before
        return "read"

    return of


def everything_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))

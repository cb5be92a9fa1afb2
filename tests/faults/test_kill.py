"""Kill -9 and SIGTERM at moments nobody chose, again and again: the resumed run is the one never disturbed."""

import signal
from pathlib import Path

import pytest
import victims

pytestmark = pytest.mark.timeout(1800)  # several processes one after the other, on a machine that may be busy
MOMENTS = (1, 9)  # changes of the run directory; the later ones fall into the resumed run


@pytest.fixture(scope="module", params=[*victims.VICTIMS, "stream"])
def victim(request, tmp_path_factory) -> tuple[list[str], Path]:
    """A command line, and the directory of the same run left alone."""
    folder = tmp_path_factory.mktemp("run")
    overrides = victims.stream(folder / "stream.csv") if request.param == "stream" else victims.VICTIMS[request.param]
    outcome = victims.call(*overrides, f"hydra.run.dir={folder / 'alone'}")
    assert outcome.code == 0, outcome.err
    return overrides, folder / "alone"


def check_finished(overrides: list[str], directory: Path, alone: Path) -> None:
    outcome = victims.finish(overrides, directory)
    assert outcome.code == 0, outcome.err
    assert victims.results(directory) == victims.results(alone)
    assert victims.steps_are_in_order(directory) and not victims.unfinished(directory)


def test_killed_again_and_again_it_ends_as_if_left_alone(victim, tmp_path, cases):
    overrides, alone = victim
    directory = tmp_path / "run"
    dead = victims.killed(overrides, directory, MOMENTS)
    assert dead, "it always ended before it could be killed"
    check_finished(overrides, directory, alone)
    cases["kill -9", "resumed, nothing lost"] += dead


def test_terminated_it_says_how_to_go_on_and_does(victim, tmp_path, cases):
    overrides, alone = victim
    directory = tmp_path / "run"
    child = victims.started(overrides, directory)
    code = victims.signalled(child, directory, signal.SIGTERM, 3)
    said = (tmp_path / "said.txt").read_text().splitlines()
    assert code in (0, 130), said
    assert not any("Traceback" in line for line in said), said
    assert code == 0 or "resume=" in said[-1], said
    check_finished(overrides, directory, alone)
    cases["SIGTERM", "resumed, nothing lost" if code else "was done already"] += 1

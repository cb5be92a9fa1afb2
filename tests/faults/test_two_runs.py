"""Two runs on one directory: the second is refused in one line, and the first does not notice."""

import signal
import subprocess
import time
from pathlib import Path

import pytest
import victims

pytestmark = pytest.mark.timeout(1800)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + victims.PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_second_run_is_refused_and_the_first_goes_on(tmp_path, cases):
    overrides, directory = victims.stream(tmp_path / "stream.csv"), tmp_path / "run"
    first = victims.started([*overrides, "tail.follow=true", "tail.poll_seconds=0.05"], directory)
    try:
        wait_for(directory / "checkpoints")
        for command in ([f"resume={directory}"], [*overrides, f"hydra.run.dir={directory}"]):
            outcome = victims.call(*command)
            assert f"in use by a live run (pid {first.pid}" in victims.complaint(outcome)
            cases["two runs on one directory", "refused in one line"] += 1
        assert first.poll() is None
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=victims.PATIENCE) == 130
    finally:
        first.kill()
        first.wait()
    outcome = victims.call(f"resume={directory}", "tail.follow=false")
    assert outcome.code == 0, outcome.err
    assert victims.results(directory)["points"] == 400
    cases["two runs on one directory", "resumed, nothing lost"] += 1


def test_of_several_that_start_at_once_one_runs(tmp_path, cases):
    """Each either runs to its end or is refused; the directory is that of one whole run."""
    overrides, directory = victims.VICTIMS["racing"], tmp_path / "run"
    said = [tmp_path / f"said{n}.txt" for n in range(3)]
    children = []
    for place in said:
        with place.open("w") as file:
            command = [victims.sys.executable, "-m", "experiments.run", *overrides, f"hydra.run.dir={directory}"]
            children.append(subprocess.Popen(command, cwd=victims.REPOSITORY, stdout=subprocess.DEVNULL, stderr=file))
    codes = [child.wait(timeout=victims.PATIENCE) for child in children]
    assert 0 in codes and set(codes) <= {0, 2}
    for code, place in zip(codes, said, strict=True):
        if code == 2:
            assert "in use by a live run" in place.read_text().splitlines()[-1]
        cases["several runs at once", "refused in one line" if code else "ran"] += 1
    assert victims.call(*overrides, f"hydra.run.dir={tmp_path / 'alone'}").code == 0
    assert victims.results(directory) == victims.results(tmp_path / "alone")
    assert victims.steps_are_in_order(directory)

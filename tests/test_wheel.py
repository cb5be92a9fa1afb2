"""What `pip install` puts down is enough: experiments, configs and data, run from somewhere else."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from jaxsci.core.summary import read_summary

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, unpacked."""
    build = pytest.importorskip("hatchling.build", reason="hatchling, the build backend, is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        name = build.build_wheel(str(folder))
    with zipfile.ZipFile(folder / name) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def test_it_holds_every_config_and_all_data(installed):
    for folder, patterns in {"conf": ("*.yaml",), "jaxsci": ("*.npz", "*.gz", "*.txt", "*.css", "*.json")}.items():
        for pattern in patterns:
            for path in (ROOT / folder).rglob(pattern):
                assert (installed / path.relative_to(ROOT)).is_file(), path.relative_to(ROOT)


def test_it_names_the_command(installed):
    entry = next(installed.glob("*.dist-info/entry_points.txt")).read_text()
    assert "jaxsci-run = experiments.run:main" in entry


@pytest.mark.slow
def test_an_experiment_runs_from_it(installed, tmp_path):
    """With the unpacked wheel first on the path and no checkout around."""
    environment = os.environ | {"PYTHONPATH": str(installed), "JAX_PLATFORMS": "cpu"}
    program = "import sys, experiments.run; print(experiments.run.__file__); sys.exit(experiments.run.main())"
    done = subprocess.run(
        [sys.executable, "-c", program, "experiment=benchmarks/plan_truth", "hydra.run.dir=out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[0]).is_relative_to(installed)
    assert read_summary(tmp_path / "out" / "summary.json").metrics["mean_time_error"] < 0.0365

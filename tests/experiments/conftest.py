"""The command line called inside the test process, and one finished tiny run of each experiment that tests share."""

import fcntl
import io
import json
import os
from collections.abc import Callable
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from restored import settings_restored

from experiments import run
from jaxsci.emulators import fields

PACKAGED_FIELD = resources.files("jaxsci.emulators") / "data" / fields.PACKAGED

# What makes each shipped experiment small enough for a test: two steps of everything, few of anything.
# A new file in conf/experiment needs a line here.
WORKFLOW = ["detector.learning.epochs=1", "detector.encoder.width=8"]  # of the packaged runs

TINY = {
    "workflow_ssl": [*WORKFLOW, "seeds=1", "members=2", "ablation=false", "time_blocked=false"],
    "workflow_supervised": [*WORKFLOW, "seeds=1", "trees=0", "detector.members=2", "time_blocked=false"],
    "workflow_active": ["seeds=1", "requests=4", "others=[]", "learner.members=2", "learner.steps=20"],
    "workflow_transfer": ["seeds=1", "learner.members=2", "learner.steps=20"],
    "workflow_watch": WORKFLOW,
    "benchmarks/testbed": [
        "runs=3",
        "timed=2",
        "learner.members=2",
        "learner.steps=20",
        "calibration.runs=2",
        "calibration.starts=2",
        "calibration.sweeps=1",
        "calibration.candidates=2",
    ],
    "assimilation": [
        "networks=2",
        "modes=8",
        "stations=12",
        "harmonics=[1]",
        "max_iterations=3",
        "emulator.choose=linear",  # what validation chooses in the full version; two steps of training prove nothing
        "emulator.recurrent.steps=2",
        "emulator.recurrent.members=2",
        "emulator.recurrent.width=4",
        "emulator.recurrent.evaluate_every=1",
    ],
    "language_model": [
        "steps=2",
        "steps_per_dispatch=1",
        "optimizer.warmup_steps=0",
        "log_every=1",
        "evaluate_every=2",
        "validation_sequences=16",
        "batch=16",
        "model.layers=2",
        "model.width=16",
        "model.sequence=16",
        "sample.length=8",
    ],
    "benchmarks/pipeline_memory": ["model.layers=4", "model.width=16", "model.sequence=16", "microbatches=[4,8]"],
    "benchmarks/parallel_parity": [
        "devices=2",
        "batch=4",
        "steps=2",
        "uneven_layers=3",
        "model.layers=4",
        "model.width=16",
        "model.heads=2",
    ],
    "plan": [
        "compiler=cpu",
        "measure=true",
        "measured_steps=5",
        "model.layers=4",
        "model.width=16",
        "model.heads=2",
        "model.sequence=16",
        "model.vocabulary=256",
        "mesh.fsdp=2",
        "mesh.pipe=2",
        "mesh.tensor=2",
        "parallel.microbatches=4",
        "parallel.precision=float32",
    ],
    "twin": ["cycles=20", "seeds=2"],
    "benchmarks/dapper_table": [
        "seeds=2",
        "cycles=20",
        "cases=[l63_3dvar,l63_etkf]",
        "climate_steps=500",
        "speed.seeds=2",
        "speed.cycles=10",
    ],
    "plan_search": [
        "models=[gpt_22b]",
        "recipes.tensor=[2,4]",
        "recipes.pipe=[2,4]",
        "recipes.microbatch=[1]",
        "recipes.nodes=[128]",
        "recipes.batch=[10240]",
        "recipes.zero=[1]",
        "recipes.virtual=[1]",
        "recipes.schedule=[1f1b]",
        "study.microbatch=[4,8]",
    ],
    "benchmarks/assimilation": [
        "flow.cells=8",
        "flow.width=0.2",
        "flow.start=2",
        "flow.simulations=2",
        "modes=3",
        "window=2",
        "leads=3",
        "stations=5",
        "batch=2",
        "repeats=1",
    ],
    "benchmarks/diffraction": ["batch=3", "repeats=1", "atoms=500", "planes=1", "prior.n=16", "prior.span=14"],
    "diffraction": [
        "samples=96",
        "validation=24",
        "test=48",
        "prior.n=16",
        "prior.span=14",
        "training.width=4",
        "training.epochs=1",
        "training.batch=48",
        "training.optimizer.warmup_steps=0",
        "forest.trees=5",
    ],
    "phase_retrieval": [
        "starts=1",
        "refine_steps=2",
        "data.size=32",
        "retrieval.cycles=1",
        "retrieval.hio=3",
        "retrieval.er=2",
        "retrieval.final_er=2",
    ],
    "diffraction_inverse": [
        "visible=1",
        "hidden=1",
        "prior.n=12",
        "prior.span=12",
        "prior.radius=[3.0,3.4]",
        "prior.oversampling=1",
        "fit.screening=2",
        "fit.steps=2",
        "fit.starts=1",
        "fit.kept=2",
    ],
    "diffraction_continual": [
        "policies=[static,accuracy]",
        "rules=[replay,agem]",
        "seeds=1",
        "requests=6",
        "count=3",
        "validation=3",
        "test=3",
        "domain_samples=9",
        "width=2",
        "campaign.updates=1",
        "learner.updates=1",
        "campaign.batch=6",
        "learner.batch=6",
    ],
    "reduced_order": [
        "simulation={cells: 12, dt: 4e-3, every: 2, fields: 12}",
        "family.width=0.15",
        "runs=10",
        "validation_runs=2",
        "test_runs=2",
        "modes=6",
        "floor_modes=[2,6,12]",
        "horizon=1",
        "batch=4",
        "networks.window=3",
        "networks.width=4",
        "networks.embedding=8",
        "networks.direct.steps=2",
        "networks.perceptron.steps=2",
        "networks.autoregressive.steps=2",
        "projection.small_modes=2",
        "projection.rate_modes=8",
        "methods=[galerkin,lstm,na_lstm,na_blstm,equivariant]",
        "uncertainty.on=false",
    ],
    "benchmarks/reduced_order": [
        "simulation={cells: 12, dt: 4e-3, every: 2, fields: 5}",
        "family.width=0.15",
        "modes=4",
        "rate_modes=6",
        "batch=4",
        "steps_timed=2",
        "together=[2]",
        "basis_runs=3",
        "repeats=1",
        "networks.window=2",
        "networks.width=4",
        "networks.embedding=8",
    ],
    "racing": [
        "target.steps=100",
        "tuner=random",
        "budget=20",
        "ablation=0",
        "test_seeds=1",
    ],
    "benchmarks/racing_vs_peers": [
        "tuners=[ours,random]",
        "repetitions=2",
        "budget=300",
        "steps=100",
        "test_seeds=1",
    ],
    "benchmarks/racing_speed": [
        "cpu_devices=8",
        "candidates=4",
        "blocks=5",
        "steps=100",
        "pool_runs=2",
        "workers=1",
        "repeats=1",
    ],
    "benchmarks/plan_truth": [],
    "tour": [
        "only=[racing]",
        "stops.racing.experiment=benchmarks/plan_truth",
        "stops.racing.overrides=[]",
        "stops.racing.metric=mean_time_error",
        "stops.racing.against=null",
        "stops.racing.bar=0.0365",
        "stops.racing.figure=frontier",
    ],
    "stations": ["stations=[5,8]", "networks=2", "modes=6", "harmonics=[1]", "max_iterations=3", "leads=3"],
    "observing_system": ["stations=5", "networks=2", "modes=6", "harmonics=[1]", "max_iterations=3"],
    "sensor_campaign": [
        "seeds=2",
        "modes=6",
        "harmonics=[1]",
        "budget=6",
        "reference_stations=3",
        "data.validation_days=60",
        "data.test_days=60",
    ],
    "watched": [
        "innovations.seeds=4",
        "innovations.cycles=80",
        "innovations.burn_in=20",
        "innovations.change=40",
        "innovations.horizon=39",
        "innovations.window=20",
        "innovations.capacity=32",
        "innovations.false_per_1000=5",
    ],
    "cross_reanalysis": [
        f"data.path={PACKAGED_FIELD}",
        "observations.path=FIRST_DAYS",
        "calibration_days=100",
        "stations=[5]",
        "networks=2",
        "modes=6",
        "harmonics=[1]",
        "max_iterations=3",
    ],
    "sequence_emulator": [
        "networks=1",
        "modes=4",
        "stations=5",
        "harmonics=[1]",
        "max_iterations=2",
        "leads=3",
        "network.lags=2",
        "network.layers=1",
        "network.width=8",
        "network.heads=2",
        "network.batch=8",
        "network.steps=2",
        "network.steps_per_dispatch=1",
        "network.optimizer.warmup_steps=0",
    ],
    "posterior": ["sites=6", "windows=1", "steps=2", "samples=40", "warmup=100"],
    "benchmarks/lyapunov": [
        "cases.ks22={starts: 2, duration: 5, transient: 100, exponents: 6, dt: 0.25}",
        "cases.ks44={starts: 2, duration: 5, transient: 100, exponents: 2, dt: 0.25}",
        "cases.l63={starts: 2, duration: 5, transient: 5, exponents: 3, dt: 0.01}",
        "cases.l96={starts: 2, duration: 2, transient: 5, exponents: 2, dt: 0.05}",
    ],
    "benchmarks/stabilized_ode": ["trajectories=2", "times=20", "prepare=2", "batch=2", "rounds=1", "steps=1"],
    "stabilized_ode": [
        "variant=ours",
        "seeds=2",
        "data.trajectories=2",
        "data.times=30",
        "training.local=[{steps: 2, batch: 2, windows: 0}, {steps: 2, batch: 2, windows: 1}]",
        "models.ours.width=4",
        "attractor.forecast_starts=4",
        "attractor.forecast_time=5",
        "attractor.sample_starts=2",
        "attractor.sample_time=20",
        "attractor.exponents=2",
        "attractor.exponent_time=5",
        "attractor.horizon=40",
        "coefficients.draws=2",
        "coefficients.starts=2",
        "coefficients.steps=1",
        "coefficients.members=2",
    ],
    "drift": [
        "dates=['2017-08-10']",
        "labels=[16]",
        "horizon=60",
        "adaptation.regressor=ridge",
        "detector.capacity=32",
    ],
    "benchmarks/changepoints": [
        "grid.mean_run=[10000.0]",
        "grid.lag_precision=[10.0]",
        "grid.alpha=[2.0]",
        "grid.noise=[0.3]",
    ],
    "benchmarks/changepoint_speed": [
        "series=4",
        "steps=50",
        "capacity=16",
        "peer_series=1",
        "rounds=2",
        "stream_steps=100",
    ],
    "bayesnas": [
        "seeds=1",
        "space.width=6",
        "data.train=64",
        "data.architecture=32",
        "data.calibration=32",
        "search.steps=2",
        "search.batch_size=16",
        "ensemble.architectures=2",
        "ensemble.steps=3",
        "ensemble.batch_size=16",
        "ensemble.pool=2",
    ],
    "nas_oracle": ["seeds=2", "steps=2", "temperatures=[0.0]", "draws=20", "relaxations=[1.0]"],
    "benchmarks/bayesnas_speed": ["members=2", "steps=2", "rounds=5", "space.width=8", "torch=false"],
    "benchmarks/workflow_epoch": ["rounds=1", "detector.encoder.width=8"],
    "benchmarks/transformer_vs_torch": ["steps=1", "rounds=2", "torch_compile=false", "model.layers=1"],
}

# Experiments that need a peer which the tests do not install.
NEEDS = {
    "benchmarks/workflow_epoch": "torch",
    "benchmarks/transformer_vs_torch": "torch",
    "benchmarks/stabilized_ode": "torchdiffeq",
    "benchmarks/changepoint_speed": "bayesian_changepoint_detection",
}


class Outcome(NamedTuple):
    code: int
    out: list[str]
    err: list[str]


def call_main(*arguments: str) -> Outcome:
    """`python -m experiments.run ARGUMENTS` without the process around it."""
    out, err = io.StringIO(), io.StringIO()
    with settings_restored(), redirect_stdout(out), redirect_stderr(err):
        code = run.main(arguments)
    return Outcome(code, out.getvalue().splitlines(), err.getvalue().splitlines())


@pytest.fixture
def call(tmp_path, monkeypatch) -> Callable[..., Outcome]:
    """Calls the command line in an empty directory of its own."""
    monkeypatch.chdir(tmp_path)
    return call_main


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Path:
    """A directory that all the test processes of one session see."""
    own = tmp_path_factory.getbasetemp()
    path = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    path.mkdir(exist_ok=True)
    return path


@contextmanager
def alone(path: Path):
    """Whoever comes second waits until the first has left."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def tiny(shared) -> Callable[[str], list[str]]:
    """The overrides of an experiment's tiny version."""

    def overrides(name: str) -> list[str]:
        if name not in TINY:
            pytest.fail(f"no tiny version of experiment '{name}'; add its overrides to TINY in {Path(__file__).name}")
        if name in NEEDS:
            pytest.importorskip(NEEDS[name], reason=f"{name} compares with {NEEDS[name]}, which is not installed")
        first_days = shared / "first_days.npz"
        if any("FIRST_DAYS" in line for line in TINY[name]):
            with alone(shared / "first_days.lock"):
                if not first_days.exists():
                    write_first_days(first_days)
        return [f"experiment={name}", *(line.replace("FIRST_DAYS", str(first_days)) for line in TINY[name])]

    return overrides


def write_first_days(path: Path) -> None:
    """The first 300 days of the packaged field, with errors on them."""
    field = fields.load_field()
    errors = 10 * np.random.default_rng(0).normal(size=field.values[:300].shape)
    np.savez(path, lat=field.lat, lon=field.lon, time=field.time[:300], z=field.values[:300] + errors)


@pytest.fixture(scope="session")
def finished(shared, tiny) -> Callable[[str], tuple[Path, Outcome]]:
    """The directory and outcome of a tiny run of an experiment, made once by one of the test processes.

    Only look at it: copy it to change it.
    """

    def get(name: str) -> tuple[Path, Outcome]:
        overrides = tiny(name)
        place = shared / name.replace("/", "_")
        place.mkdir(exist_ok=True)
        directory, record = place / "a run", place / "outcome.json"
        with alone(place / "lock"):
            if not record.exists():
                outcome = call_main(*overrides, f"hydra.run.dir={directory}")
                record.write_text(json.dumps(outcome._asdict()), encoding="utf-8")
        return directory, Outcome(**json.loads(record.read_text(encoding="utf-8")))

    return get


@pytest.fixture
def field_file(tmp_path) -> Callable[..., str]:
    """Writes a small field as npz, with entries replaced (or left out, for `None`); returns its path."""

    def write(**changes: Any) -> str:
        days = np.arange("2000-01-01", "2000-12-01", dtype="datetime64[D]")
        rng = np.random.default_rng(0)
        content: dict[str, Any] = {
            "lat": np.array([50.0, 52.5, 55.0]),
            "lon": np.array([0.0, 2.5, 5.0, 7.5]),
            "time": days.astype("datetime64[h]"),
            "z": 5500 + 50 * rng.standard_normal((len(days), 3, 4)),
        }
        path = tmp_path / "field.npz"
        np.savez(path, **{name: value for name, value in (content | changes).items() if value is not None})
        return str(path)

    return write

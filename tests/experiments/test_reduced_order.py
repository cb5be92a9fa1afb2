"""The reduced-order experiment around its library: the NumPy peer, what is kept, what is refused, going on."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.benchmarks import numpy_shallow_water
from experiments.reduced_order_store import Doubt, Store
from jaxsci.core.errors import CheckpointError
from jaxsci.core.rundir import Run
from jaxsci.dynamics import ShallowWater, gaussian_bump


def test_the_numpy_peer_takes_the_same_steps():
    with jax.enable_x64(True):
        q = gaussian_bump(jnp.array([0.1, -0.2]), 12, width=0.15)
        ours, peer = q, np.asarray(q)
        for _ in range(3):
            ours = ShallowWater(1 / 12, 4e-3)(ours)
            peer = numpy_shallow_water.step(peer, 1 / 12, 4e-3, 9.8)
        np.testing.assert_allclose(peer, ours, atol=1e-13)


def test_records_come_back_whole_or_not_at_all(tmp_path):
    store = Store(Run(tmp_path / "a run", {}))
    assert store.load("some", Doubt) is None
    record = Doubt(*(np.asarray(v) for v in (0.5, 0.9, 1.1, 2.0)))
    store.save("some", record)
    assert store.load("some", Doubt) == record
    (tmp_path / "a run" / "checkpoints" / "some.npz").write_bytes(b"not a record")
    with pytest.raises(CheckpointError, match=r"some\.npz.*delete it"):
        store.load("some", Doubt)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["methods=[galerkn]"], "did you mean 'galerkin'"),
        (["modes=5000"], "modes: expected at most"),
        (["runs=15"], "runs: expected 2 or more besides"),
        (["ask=[[0.1]]"], "ask: expected values of x0, y0"),
        (["family=three_bumps"], "family: no 'three_bumps'"),
        (["simulation.dt=0.1", "runs=30", "seeds=1"], "Courant number"),
        (["family=two_bumps", "family.hill_heights=[0,1.5]"], "hill_heights"),
    ],
)
def test_bad_input_is_one_line(call, overrides, message, tmp_path):
    outcome = call("experiment=reduced_order", "simulation.cells=16", *overrides)
    assert outcome.code == 2
    assert message in outcome.err[-1] and outcome.err[-1].startswith("error: ")
    assert not (tmp_path / "outputs").exists()  # nothing is left behind


@pytest.mark.parametrize("overrides", [["model=na_blstm"], ["data=shallow_water"]])
def test_networks_of_flows_and_daily_fields_do_not_mix(call, overrides):
    outcome = call("experiment=assimilation", *overrides)
    assert outcome.code == 2 and "model=na_blstm go with data=shallow_water" in outcome.err[-1]


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_numbers(finished, call, tmp_path):
    directory, _ = finished("reduced_order")
    copy = tmp_path / "a copy"
    shutil.copytree(directory, copy)
    for name in ("seed0_na_lstm", "seed0_truth"):
        (copy / "checkpoints" / f"{name}.npz").unlink()
    before = json.loads((copy / "summary.json").read_text())["metrics"]
    outcome = call(f"resume={copy}", "ask=[[0.1,0.2]]")
    assert outcome.code == 0, outcome.err
    after = json.loads((copy / "summary.json").read_text())["metrics"]
    for name in (n for n in before if n.startswith(("mse", "floor", "climatology"))):
        assert after[name] == pytest.approx(before[name], rel=1e-5)  # the same programs on the same numbers


def test_a_flow_is_assimilated_through_a_network(call, tmp_path):
    outcome = call(
        "experiment=assimilation",
        "model=na_mlp",
        "data=shallow_water",
        "data.simulation={cells: 12, dt: 4e-3, every: 2, fields: 12}",
        "data.family.width=0.15",
        "data.runs=60",
        "data.starts=9",
        "data.observed=6",
        "modes=12",
        "model.steps=300",
        "networks=1",
        f"hydra.run.dir={tmp_path / 'flow'}",
    )
    assert outcome.code == 0, outcome.err
    metrics = json.loads((tmp_path / "flow" / "summary.json").read_text())["metrics"]
    assert metrics["rmse_analysis"] < 0.7 * metrics["rmse_climatology"]
    assert metrics["gradient_relative_error"] < 1e-5  # the bound for every model

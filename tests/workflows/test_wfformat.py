import json

import jax
import numpy as np
import pytest

from jaxsci.core.errors import DataError
from jaxsci.workflows.flowbench import load_workflow
from jaxsci.workflows.requests import request_for
from jaxsci.workflows.simulated import SimulatedTestbed
from jaxsci.workflows.wfformat import save_wfformat


def written(tmp_path, run=0):
    workflow = load_workflow()
    path = tmp_path / "run.json"
    save_wfformat(workflow, run, path)
    return workflow, path


def test_a_recorded_run_survives_the_way_out_and_in(tmp_path):
    workflow, path = written(tmp_path, run=7)
    back = load_workflow(path)
    assert back.nodes == workflow.nodes and back.transformation == workflow.transformation
    assert set(map(tuple, back.edges.tolist())) == set(map(tuple, workflow.edges.tolist()))
    for name in ("runtime", "stage_in_bytes", "stage_out_bytes", "kickstart_online_bytes_written"):
        ours, theirs = workflow.feature(name)[7], back.feature(name)[0]
        np.testing.assert_allclose(np.nan_to_num(theirs), np.nan_to_num(ours), rtol=1e-5)  # whole bytes, float32
    np.testing.assert_array_equal(back.on_worker()[0], workflow.on_worker()[7])
    starts = workflow.feature("execute_start")[7]
    np.testing.assert_allclose(np.diff(back.feature("execute_start")[0]), np.diff(starts), atol=0.01)


def test_any_anomaly_can_be_simulated_from_one_file(tmp_path):
    _, path = written(tmp_path)
    oracle = SimulatedTestbed(load_workflow(path), n_runs=2, classes=("normal", "hdd_5", "cpu_3"))
    assert [request.group for request in oracle.requests()] == ["normal", "hdd_5", "cpu_3"]
    answer = oracle.submit(request_for("eht_smili", "hdd_5", n_runs=2, n_workers=4), key=jax.random.key(0))
    assert answer.data.anomalous().any() and answer.data.classes[-1] == "hdd_5"


def test_a_file_of_a_specification_alone_runs_as_fast_as_its_graph_allows(tmp_path):
    tasks = [
        {"id": name, "name": name, "parents": parents} for name, parents in (("a", []), ("b", ["a"]), ("c", ["a"]))
    ]
    ran = [{"id": name, "runtimeInSeconds": seconds} for name, seconds in (("a", 3.0), ("b", 5.0), ("c", 1.0))]
    content = {"name": "w", "schemaVersion": "1.5", "workflow": {"specification": {"tasks": tasks}}}
    content["workflow"]["execution"] = {"tasks": ran}
    path = tmp_path / "w.json"
    path.write_text(json.dumps(content))
    workflow = load_workflow(path)
    np.testing.assert_array_equal(workflow.feature("ready")[0], [0.0, 3.0, 3.0])
    assert workflow.feature("execute_end").max() == 8.0


def _task(content, number=0):
    return content["workflow"]["specification"]["tasks"][number]


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda c: c.pop("workflow"), "workflow.specification"),
        (lambda c: c["workflow"]["specification"].update(tasks=[]), "at least one task"),
        (lambda c: _task(c).pop("id"), "every task and file with an id"),
        (lambda c: _task(c).update(id=_task(c, 1)["id"]), "distinct task ids"),
        (lambda c: _task(c).update(parents=["nobody"]), "'nobody', of the parents of"),
        (lambda c: _task(c).update(inputFiles=["nothing"]), "'nothing', of the inputFiles"),
        (lambda c: c["workflow"]["execution"]["tasks"][0].update(runtimeInSeconds=-1), "runtimeInSeconds of 0 or more"),
        (lambda c: c["workflow"]["execution"]["tasks"][0].update(executedAt="noon"), "ISO 8601"),
        (lambda c: _task(c, -1).update(children=[_task(c)["id"]]), "without cycles"),
    ],
)
def test_what_is_no_wfformat_is_named(tmp_path, spoil, message):
    _, path = written(tmp_path)
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        load_workflow(path)

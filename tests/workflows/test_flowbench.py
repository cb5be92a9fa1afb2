import json

import numpy as np
import pytest
from runs import GRAPH, write_folder, write_run

from jaxsci.core.errors import DataError
from jaxsci.workflows.flowbench import load_workflow
from jaxsci.workflows.workflow import depths


def test_the_packaged_workflow_is_the_published_one():
    workflow = load_workflow()
    counts = dict(zip(workflow.classes, np.bincount(workflow.run_class(), minlength=6), strict=True))
    assert counts == {"normal": 148, "cpu_2": 87, "cpu_3": 84, "cpu_4": 0, "hdd_5": 90, "hdd_10": 93}
    assert workflow.compute_jobs().sum() == 12 and len(workflow.nodes) == 16 and len(workflow.edges) == 26
    assert abs(workflow.anomalous().mean() - 0.194) < 5e-4  # printed to three digits
    x = {name: workflow.feature(name) for name in ("submit", "ready", "wms_delay")}
    np.testing.assert_allclose(x["submit"] - x["ready"], x["wms_delay"], atol=0.02)  # float32 of thousands of seconds


def test_rows_in_any_order_load_to_the_same(tmp_path):
    straight = load_workflow(write_folder(tmp_path / "a"))
    shuffled = load_workflow(write_folder(tmp_path / "b", order="dbca"))
    np.testing.assert_array_equal(straight.x, shuffled.x)
    assert straight.nodes == shuffled.nodes == tuple(GRAPH)


def test_an_epoch_shift_changes_nothing(tmp_path):
    early, late = load_workflow(write_folder(tmp_path / "a")), load_workflow(write_folder(tmp_path / "b", shift=5e5))
    np.testing.assert_allclose(early.x, late.x, atol=1e-4)  # decimal fractions of large epochs
    assert (late.start_epoch - early.start_epoch == 5e5).all()


def test_unknown_classes_and_the_word_none(tmp_path):
    workflow = load_workflow(write_folder(tmp_path / "a", anomaly=(("b", "loss_0.5"), ("c", "cpu_4"))))
    assert workflow.y is not None and workflow.classes[:6] == ("normal", "cpu_2", "cpu_3", "cpu_4", "hdd_5", "hdd_10")
    assert [workflow.classes[k] for k in workflow.y[0]] == ["normal", "loss_0.5", "cpu_4", "normal"]
    assert workflow.on_worker().tolist() == [[True, True, True, False]] * 4


def test_zero_is_a_missing_stamp_and_empty_columns_are_dropped(tmp_path):
    workflow = load_workflow(write_folder(tmp_path / "a"))
    assert "stage_in_start" not in workflow.features and "kickstart_online_utime" not in workflow.features
    assert np.isnan(workflow.feature("kickstart_online_utime")).all()


def test_depth_grows_along_every_edge_and_a_cycle_is_named(tmp_path):
    workflow = load_workflow()
    depth = depths(len(workflow.nodes), workflow.edges)
    assert (depth[workflow.edges[:, 1]] > depth[workflow.edges[:, 0]]).all()
    with pytest.raises(DataError, match="cycle"):
        load_workflow(write_folder(tmp_path / "a", graph=GRAPH | {"d": ["a"]}))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda f: write_run(f / "run1.csv", order="abc"), "missing 1, the first 'd'"),
        (lambda f: write_run(f / "run1.csv", drop=("runtime", "ready")), "ready, runtime missing"),
        (lambda f: (f / "run1.csv").write_text((f / "run1.csv").read_text()[:-30]), "still being written"),
        (lambda f: (f / "run1.csv").write_text(""), "missing|none; is it still"),
        (lambda f: (f / "diamond.dag.json").write_text(json.dumps({"a": ["x"]})), "'x', which is no job"),
        (lambda f: (f / "diamond.dag.json").write_text("[1]"), "JSON object"),
        (lambda f: (f / "diamond.dag.json").unlink(), "expected one graph"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, spoil, message):
    folder = write_folder(tmp_path / "a")
    spoil(folder)
    with pytest.raises(DataError, match=message):
        load_workflow(folder)


def test_a_file_that_is_no_archive_is_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"not an archive")
    with pytest.raises(DataError, match="x.npz"):
        load_workflow(tmp_path / "x.npz")
    with pytest.raises(DataError, match="nothing"):
        load_workflow(tmp_path / "absent")

import jax
import numpy as np
import pytest
from runs import write_folder, write_run

from jaxsci.active import Ledger, OracleError, Random, StoppingRule, run_campaign
from jaxsci.workflows.committee import CommitteeConfig
from jaxsci.workflows.external import ExternalTestbed
from jaxsci.workflows.flowbench import load_workflow
from jaxsci.workflows.flowbench_csv import load_graph
from jaxsci.workflows.learner import WorkerLearner
from jaxsci.workflows.replay import TraceReplay
from jaxsci.workflows.requests import ExperimentRequest, request_for
from jaxsci.workflows.simulated import SimulatedTestbed, job_model
from jaxsci.workflows.splits import split_by_run
from jaxsci.workflows.testbed import Anomaly, TestbedConfig, loss_factor, simulate
from jaxsci.workflows.watch import Folder

KEY = jax.random.key(0)
POOL = TestbedConfig(workers=6, noise=0.0)


@pytest.fixture(scope="module")
def workflow():
    return load_workflow()


@pytest.fixture(scope="module")
def model(workflow):
    return job_model(workflow, np.flatnonzero(workflow.run_class() == 0))


def run(model, anomaly=None, seed=0, config=POOL):
    return simulate(model, anomaly or Anomaly(), config, np.random.default_rng(seed))


def test_no_child_before_its_parents_and_no_work_lost(model):
    trace = run(model)
    parent, child = model.edges.T
    assert (trace.ready[child] >= trace.end[parent] + model.post[parent] - 1e-9).all()
    on = model.on_worker
    assert ((trace.computed - trace.staged_in)[on] >= trace.cpu_work[on] - 1e-6).all()  # rates are at most 1
    assert (trace.worker[on] >= 0).all() and (trace.worker[~on] == -1).all()


def test_the_same_seed_gives_the_same_run_and_no_core_lost_is_normal(model):
    first, second = run(model, seed=3), run(model, seed=3)
    np.testing.assert_array_equal(first.end, second.end)
    alone = TestbedConfig(workers=40, slots=1, noise=0.0)  # no two jobs meet, wherever they land
    idle = run(model, Anomaly("cpu", 0, 5), 3, alone).makespan
    assert idle == pytest.approx(run(model, None, 3, alone).makespan, rel=0.05)  # other draws, 5 s of root delay


def test_anomalies_lengthen_the_jobs_of_their_workers(model):
    usual = run(model)
    for anomaly in (Anomaly("cpu", 3.5, 6), Anomaly("hdd", 2, 6), Anomaly("loss", 5, 6)):
        assert run(model, anomaly).makespan > usual.makespan


def test_loss_slows_as_one_over_its_root():
    rate = np.array([1e6])
    assert loss_factor(0.5, rate) / loss_factor(2.0, rate) == pytest.approx(2.0)
    assert loss_factor(0.0, rate) == 1.0


def test_replay_gives_the_class_asked_for_once_and_accounts_for_it(workflow):
    pool, _ = split_by_run(workflow.runs, 0)
    oracle = TraceReplay(workflow, pool, n_runs=7)
    seen = set()
    for number in range(3):
        request = request_for(workflow.name, "hdd_5", n_runs=7)
        answer = oracle.submit(request, key=jax.random.fold_in(KEY, number))
        assert set(answer.data.run_class()) <= {workflow.classes.index("hdd_5")}
        assert not seen & set(answer.receipt["rows"]) and set(answer.receipt["rows"]) <= set(pool.tolist())
        seen |= set(answer.receipt["rows"])
    with pytest.raises(OracleError, match="cpu_4"):
        oracle.submit(request_for(workflow.name, "cpu_4", n_runs=1), key=KEY)


def test_a_simulated_answer_is_recalled_exactly(workflow):
    oracle = SimulatedTestbed(workflow, n_runs=2)
    request = request_for(workflow.name, "cpu_3", n_runs=2, n_workers=3)
    answer = oracle.submit(request, key=KEY)
    np.testing.assert_array_equal(oracle.recall(request, answer.receipt).x, answer.data.x)
    assert answer.data.anomalous().any() and answer.cost > 0


def test_a_campaign_on_recorded_runs(workflow, tmp_path):
    pool, test = split_by_run(workflow.runs, 0)
    learner = WorkerLearner(workflow.take(test), CommitteeConfig(members=2, steps=60))
    oracle = TraceReplay(workflow, pool, n_runs=10)
    start = [request_for(workflow.name, name, n_runs=10) for name in ("normal", "hdd_5", "cpu_3")]
    ledger = Ledger(ExperimentRequest, tmp_path / "ledger.jsonl")
    done = run_campaign(oracle, learner, Random(), StoppingRule(requests=4), ledger, key=KEY, start=start)
    assert done.ledger.course("auc")[1][-1] > 0.7  # 0.78 needs no labels at all
    assert Ledger(ExperimentRequest, tmp_path / "ledger.jsonl").entries == done.ledger.entries


def test_the_external_testbed_asks_in_a_file_waits_and_gives_up(tmp_path):
    graph = load_graph(write_folder(tmp_path / "graph", 0) / "diamond.dag.json")
    request = ExperimentRequest("diamond", "cpu", 2.0, 2, n_runs=1)
    folder = tmp_path / "out"

    def testbed_works(seconds):
        for results in folder.glob("diamond-*"):
            if results.is_dir():
                write_run(results / "run0.csv", anomaly=(("b", "cpu_2"),))

    oracle = ExternalTestbed(folder, graph, {request: 60.0}, timeout=10, poll=5, sleep=testbed_works)
    answer = oracle.submit(request, key=KEY)
    assert answer.data.anomalous().sum() == 1 and answer.cost > 0
    np.testing.assert_array_equal(oracle.recall(request, answer.receipt).x, answer.data.x)
    idle = ExternalTestbed(tmp_path / "idle", graph, {request: 60.0}, timeout=10, poll=5, sleep=lambda s: None)
    with pytest.raises(OracleError, match="within 10 s"):
        idle.submit(request, key=KEY)


def test_a_half_written_file_is_read_once_whole_and_a_broken_one_given_up(tmp_path):
    graph = load_graph(write_folder(tmp_path / "graph", 0) / "diamond.dag.json")
    folder = Folder(tmp_path)
    whole = write_run(tmp_path / "good.csv").read_text()
    (tmp_path / "good.csv").write_text(whole[:400])
    (tmp_path / "bad.csv").write_text("nonsense")
    assert folder.look(graph) == ([], [])
    (tmp_path / "good.csv").write_text(whole)
    runs, failed = folder.look(graph)
    assert [w.run for w in runs] == [("good.csv",)] and failed == []
    runs, failed = folder.look(graph)
    assert runs == [] and [name for name, _ in failed] == ["bad.csv"]
    assert folder.look(graph) == ([], [])

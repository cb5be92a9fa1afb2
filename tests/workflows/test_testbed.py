from dataclasses import replace

import jax
import numpy as np
import pytest
from runs import write_folder, write_run

from jaxsci.active import Ledger, OracleError, Random, StoppingRule, run_campaign
from jaxsci.workflows.committee import CommitteeConfig
from jaxsci.workflows.external import ExternalTestbed
from jaxsci.workflows.flowbench import load_workflow
from jaxsci.workflows.flowbench_csv import load_graph
from jaxsci.workflows.job_model import degraded_counts, job_model, pool_hosts, pool_of
from jaxsci.workflows.learner import WorkerLearner
from jaxsci.workflows.replay import TraceReplay
from jaxsci.workflows.requests import ExperimentRequest, request_for
from jaxsci.workflows.simulated import SimulatedTestbed
from jaxsci.workflows.simulation import simulate
from jaxsci.workflows.splits import split_by_run
from jaxsci.workflows.testbed import Anomaly, JobModel, TestbedConfig, loss_factor
from jaxsci.workflows.testbed_calibration import CalibrationConfig, calibrated, simulated_effects
from jaxsci.workflows.watch import Folder
from jaxsci.workflows.workflow import joined

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


def jobs(count, *, cpu=100.0, demand=1.0, stage_in=0.0, written=0.0):
    """`count` equal jobs without edges, ready at once."""
    of = np.ones(count)
    return JobModel(
        cpu=cpu * of,
        demand=demand * of,
        stage_in=stage_in * of,
        stage_out=0.0 * of,
        written=written * of,
        net=100.0 * of,
        wms=0.0 * of,
        queue=0.0 * of,
        post=0.0 * of,
        on_worker=np.ones(count, bool),
        edges=np.zeros((0, 2), int),
    )


ALONE = TestbedConfig(
    workers=1, machines=1, noise=0.0, root_delay=0.0, crowding=1.0, cache=300.0, small_files=0.0, entangled=1.0
)


def test_four_jobs_on_one_core_take_four_times_as_long_and_light_ones_do_not():
    heavy = run(jobs(4), Anomaly("cpu", 3, 1), config=ALONE)
    np.testing.assert_allclose(heavy.computed - heavy.staged_in, 400.0, rtol=1e-3)  # 0.01 MB staged in before
    light = run(jobs(4, demand=0.2), Anomaly("cpu", 3, 1), config=ALONE)
    np.testing.assert_allclose(light.computed - light.staged_in, 100.0)
    crowded = run(jobs(4), Anomaly("cpu", 3, 1), config=replace(ALONE, crowding=0.5))
    np.testing.assert_allclose(crowded.computed - crowded.staged_in, 200.0, rtol=1e-3)


def test_all_that_is_written_reaches_the_disk_at_its_rate_and_the_cache_hides_the_first_part():
    model, throttled = jobs(2, cpu=10.0, stage_in=500.0, written=250.0), Anomaly("hdd", 5, 1)
    trace = run(model, throttled, config=ALONE)
    assert trace.flushed.max() - trace.start.min() == pytest.approx(2 * 750 / 5, rel=0.01)  # 1500 MB at 5 MB/s
    # 200 MB/s arrive and 5 leave until 300 MB are dirty; the rest of the 1000 MB arrives at 5 MB/s.
    filling = 300 / 195
    expected = filling + (1000 - 200 * filling) / 5
    assert trace.staged_in.max() - trace.start.min() == pytest.approx(expected, rel=0.01)
    roomy = run(model, throttled, config=replace(ALONE, cache=1e5))
    assert roomy.staged_in.max() - roomy.start.min() == pytest.approx(5.0, rel=0.01)  # the network's 100 MB/s each
    assert roomy.flushed.max() - roomy.start.min() == pytest.approx(300.0, rel=0.01)


def test_a_journal_is_shared_on_a_machine_and_not_beyond():
    model, pool = jobs(4, cpu=10.0, stage_in=500.0), replace(ALONE, workers=4, machines=2, slots=1)
    trace = run(model, Anomaly("hdd", 5, 1), config=pool)
    bad = int(trace.degraded[0])
    waited = dict(zip(trace.worker.tolist(), (trace.flushed - trace.computed).tolist(), strict=True))
    beside = next(w for w in range(4) if w != bad and w % 2 == bad % 2)
    elsewhere = [w for w in range(4) if w % 2 != bad % 2]
    assert waited[beside] > 80.0  # most of 500 MB at 5 MB/s
    assert all(waited[w] == 0.0 for w in elsewhere)
    free = run(model, Anomaly("hdd", 5, 1), config=replace(pool, entangled=0.0))
    healthy = free.worker != free.degraded[0]
    assert (free.flushed[healthy] == free.computed[healthy]).all()


def test_pool_and_degraded_workers_are_those_of_the_runs(workflow):
    pool = pool_of(workflow)
    assert (pool.workers, pool.machines) == (16, 2)  # hosts with jobs in a tenth of the runs
    machines = [workflow.hosts[h].split("-container-")[0] for h in pool_hosts(workflow)]
    assert machines[:14] == [machines[0], machines[1]] * 7 and machines[0] != machines[1]  # 7 and 9 hosts
    counts = degraded_counts(workflow, 16)
    assert (counts["normal"] == 0).all() and (counts["hdd_5"] > 0).all() and counts["hdd_5"].max() <= 16


def test_calibration_recovers_the_constants_a_simulation_was_made_with(workflow):
    kept = np.flatnonzero(workflow.run_class() == 0)[:20]
    truth = replace(pool_of(workflow), cache=200.0, small_files=0.0, entangled=0.0, beside=0.0)
    oracle = SimulatedTestbed(workflow.take(kept), n_runs=12, config=truth)
    made = oracle.submit(request_for(workflow.name, "hdd_5", n_runs=12, n_workers=6), key=KEY).data
    known = joined([workflow.take(kept), made])
    start = replace(truth, cache=4000.0)
    found = calibrated(known, start, CalibrationConfig(runs=6, starts=8, sweeps=1, candidates=4), seed=1)
    real = simulated_effects(known, truth, ["hdd_5"], runs=6, seed=2)["hdd_5"]
    ours = simulated_effects(known, found, ["hdd_5"], runs=6, seed=2)["hdd_5"]
    before = simulated_effects(known, start, ["hdd_5"], runs=6, seed=2)["hdd_5"]
    assert before.anomalous["stage_in_delay"] < 2.0 < real.anomalous["stage_in_delay"]
    for name in ("runtime", "stage_in_delay"):  # 6 runs of 12 jobs: medians scatter by a tenth or two
        assert ours.anomalous[name] == pytest.approx(real.anomalous[name], rel=0.35)
    assert found.crowding == truth.crowding  # nothing was said about cores


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

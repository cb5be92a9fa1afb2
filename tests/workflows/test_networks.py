import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.checkpoint import Checkpoints
from jaxsci.workflows.batch import runs_of
from jaxsci.workflows.committee import LEAST_ROWS, CommitteeConfig, committee_probabilities, fit_committee
from jaxsci.workflows.encoder import Encoder, EncoderConfig, Layer, dropped, layer_norm, place
from jaxsci.workflows.features import TELEMETRY, fit_scaling
from jaxsci.workflows.flowbench import load_workflow
from jaxsci.workflows.graph import DenseMean, SharedMean, SparseMean, dag
from jaxsci.workflows.learning import LearningConfig
from jaxsci.workflows.pooling import groups, joined
from jaxsci.workflows.pseudo import Factors, PseudoConfig, degrade, nuisance, pseudo_anomalies
from jaxsci.workflows.selfsupervised import contrast
from jaxsci.workflows.supervised import SupervisedConfig, facts_of, fit_detectors, standardise
from jaxsci.workflows.worker_features import WIDTH

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def workflow():
    return load_workflow().take(np.arange(12))


@pytest.fixture(scope="module")
def runs(workflow):
    return runs_of(workflow)


def test_all_forms_of_the_means_agree(workflow):
    h = jax.random.normal(KEY, (16, 3, 5))
    shared = dag(16, workflow.edges, shared_means=16)
    dense, sparse = (dag(16, workflow.edges, shared_means=0, dense_nodes=most) for most in (16, 0))
    assert isinstance(shared.parents, SharedMean) and len(shared.parents.weights) < 16
    assert isinstance(dense.parents, DenseMean) and isinstance(sparse.parents, SparseMean)
    child = int(workflow.edges[0, 1])
    parents = workflow.edges[workflow.edges[:, 1] == child, 0]
    above, below = jax.random.normal(KEY, (2, 5, 4))
    for graph in (shared, dense, sparse):
        np.testing.assert_allclose(graph.parents(h)[child], h[parents].mean(axis=0), atol=1e-6)  # float32
        np.testing.assert_allclose(graph.children(h), dense.children(h), atol=1e-6)
        own = dense.parents(h) @ above + dense.children(h) @ below
        np.testing.assert_allclose(graph(h, above, below), own, atol=1e-5)


def test_stages_share_their_means():
    """Two stages of many jobs, all to all: a single mean each way, whatever their number."""
    edges = np.array([(i, 50 + j) for i in range(50) for j in range(40)])
    graph = dag(90, edges)
    assert isinstance(graph.parents, SharedMean) and len(graph.parents.weights) == 1
    assert np.asarray(graph.parents.member[:50]).sum() == 0  # the first stage has no parents


def test_a_layer_mixes_the_means_of_all_its_sources(runs, workflow):
    """As it is written: all sources side by side, times one matrix."""
    layer, around = Layer(EncoderConfig(width=8), key=KEY), place(dag(16, workflow.edges), runs)
    h = jax.random.normal(KEY, (16, len(runs), 8))
    z = layer_norm(layer.norm, h)
    means = [around.dag.parents(z), around.dag.children(z)]
    means += [kind.spread(kind.average(z)) for kind in (around.worker, around.machine)]
    sources = jnp.concatenate([z, jnp.broadcast_to(z.mean(axis=0), z.shape), *means], axis=-1)
    mixed = sources @ layer.mix.reshape(-1, 8) + layer.bias
    np.testing.assert_allclose(layer(h, around), h + jax.nn.gelu(mixed) @ layer.out, atol=1e-5)


def test_dropout_keeps_the_mean_and_loses_its_share():
    kept = dropped(jnp.ones((400, 400)), 0.1, key=KEY)
    assert float(kept.mean()) == pytest.approx(1.0, abs=0.005)
    assert float((kept == 0).mean()) == pytest.approx(26 / 256, abs=0.003)


def test_group_means_are_means():
    index = jnp.array([[0, 1, 0, 2], [1, 1, 1, 0]])
    h = jax.random.normal(KEY, (4, 2, 3))
    partition = groups(index, 8)
    pooled = partition.spread(partition.average(h))
    np.testing.assert_allclose(pooled[0, 0], (h[0, 0] + h[2, 0]) / 2, atol=1e-6)
    np.testing.assert_allclose(pooled[1, 1], h[:3, 1].mean(axis=0), atol=1e-6)
    both = joined([partition, groups(jnp.zeros_like(index), 8)])
    np.testing.assert_allclose(both.spread(both.average(h)), pooled + h.mean(axis=0), atol=1e-6)


def test_the_encoder_sees_neither_host_numbers_nor_what_is_under_the_mask(runs, workflow):
    encoder = Encoder(EncoderConfig(width=8), 16, 20, key=KEY)
    graph = dag(16, workflow.edges)
    c = jax.random.normal(KEY, runs.columns.shape)
    plain = encoder(c, runs, place(graph, runs))
    renamed = eqx.tree_at(lambda r: r.worker, runs, runs.workers - 1 - runs.worker)
    np.testing.assert_allclose(encoder(c, renamed, place(graph, renamed)), plain, atol=1e-5)
    masked = jnp.where(runs.observed, c, 99.0)
    np.testing.assert_allclose(encoder(masked, runs, place(graph, runs)), plain, atol=1e-6)


def test_scaling_on_the_device_is_that_of_the_host(runs):
    columns = np.asarray(runs.columns)
    scaling = fit_scaling(columns, np.arange(8))
    np.testing.assert_allclose(standardise(runs.columns, facts_of(scaling)), scaling.apply(columns), atol=2e-3)


def test_degraded_rows_are_the_labelled_ones_and_whole_workers(runs):
    changed, kind = pseudo_anomalies(runs.columns, runs, PseudoConfig(rate=0.9), key=KEY)
    altered = np.asarray((changed != runs.columns).any(axis=-1))
    assert (altered <= (np.asarray(kind) > 0)).all() and altered.any()
    for worker, kinds in zip(np.asarray(runs.worker), np.asarray(kind), strict=True):
        for w in np.unique(worker):
            assert len(np.unique(kinds[worker == w])) == 1


def test_what_is_nobodys_fault_slows_whole_machines_and_as_much_as_declared(runs):
    ones = jnp.ones_like(runs.columns)  # staging in takes 1 s, so that its delay is the factor
    config, keys = PseudoConfig(shared=0.6), jax.random.split(KEY, 1000)
    stage = jax.vmap(lambda key: nuisance(ones, runs, config, key=key))(keys)[..., TELEMETRY.index("stage_in_delay")]
    slower = np.log(np.asarray(stage))
    for run, machine in enumerate(np.asarray(runs.machine)):
        for m in np.unique(machine):
            np.testing.assert_allclose(slower[:, run, machine == m].std(axis=1), 0.0, atol=1e-5)
    # Half-normal run and machine, each with a standard deviation that is uniform below 0.6.
    spread, per_run = 0.6 / 2, slower.mean(axis=2)
    assert per_run.mean() == pytest.approx(spread * 2 * np.sqrt(2 / np.pi), rel=0.03)
    assert (per_run < 0.1).mean() > 0.1  # some runs are calm


def test_factors_of_one_change_nothing_and_runtime_contains_staging(runs):
    ones = jnp.ones(runs.worker.shape)
    np.testing.assert_allclose(degrade(runs.columns, Factors(ones, ones, ones)), runs.columns, rtol=1e-6)
    slow = degrade(runs.columns, Factors(3 * ones, ones, ones))
    gained = slow[..., 2] - runs.columns[..., 2]
    staging = (slow[..., 4] + slow[..., 5]) - (runs.columns[..., 4] + runs.columns[..., 5])
    np.testing.assert_allclose(gained, staging, rtol=1e-3, atol=1e-2)  # float32 differences of hundreds of seconds


def test_contrast_pulls_and_pushes_both_views():
    def loss(z):
        return contrast(jnp.linalg.norm(z[0] - z[1]), jnp.ones(()), 2.0)

    gradient = jax.grad(loss)(jnp.array([[0.0, 0.0], [1.0, 0.0]]))
    np.testing.assert_allclose(gradient, [[2.0, 0.0], [-2.0, 0.0]])  # descent moves them apart
    assert contrast(jnp.array(3.0), jnp.array(1.0), 2.0) == 0.0
    assert contrast(jnp.array(3.0), jnp.array(0.0), 2.0) == 9.0


def test_a_stopped_training_goes_on_to_the_same_network(workflow, runs, tmp_path):
    config = SupervisedConfig(
        encoder=EncoderConfig(width=4, layers=1), learning=LearningConfig(epochs=3, batch=4), members=2
    )
    facts = facts_of(fit_scaling(np.asarray(runs.columns), np.arange(8)))
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), facts)
    rows = jnp.tile(jnp.arange(8), (2, 1))

    def fit(after_epoch, checkpoints=None):
        graph = dag(16, workflow.edges)
        y = workflow.labels()
        return fit_detectors(
            runs, y, 6, graph, both, rows, config, key=KEY, after_epoch=after_epoch, checkpoints=checkpoints
        )

    whole = fit(lambda epoch, losses: False)
    with Checkpoints(tmp_path / "training") as checkpoints:
        fit(lambda epoch, losses: epoch == 1, checkpoints)
        seen = []
        continued = fit(lambda epoch, losses: bool(seen.append(epoch)), checkpoints)
    assert seen == [2]
    for ours, theirs in zip(jax.tree.leaves(whole), jax.tree.leaves(continued), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_committee_gives_every_worker_the_same_weight_however_the_table_is_padded():
    count = LEAST_ROWS + 76  # padded to twice as many as fit
    x, y = np.zeros((count, WIDTH), np.float32), np.arange(count) >= count // 2
    config = CommitteeConfig(members=8, width=4, steps=200)
    committee = fit_committee(x, y.astype(int), np.arange(count), 2, config, key=KEY)
    p = committee_probabilities(committee, x)[..., 1].mean()
    assert abs(p - 0.5) < 0.02  # eight bootstraps of 1100 coins: 0.005; the first rows twice would give 0.46

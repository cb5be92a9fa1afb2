"""Baselines, networks, replay by seed, and the measures of a stream."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.active import Balanced, Ledger, Prospect, Situation, StoppingRule, run_campaign
from jaxsci.core.checkpoint import Checkpoints
from jaxsci.diffraction import continual, generator, learning
from jaxsci.diffraction.adversary import Adversary, hardened, within
from jaxsci.diffraction.classifier import Classifier, network_input
from jaxsci.diffraction.continual import LearnerConfig, StreamResult, make_rule, stream_scores
from jaxsci.diffraction.forest import ForestConfig, fit_forest, predict_forest
from jaxsci.diffraction.generator import Prior
from jaxsci.diffraction.on_demand import AccuracyDriven, PatternRequest, ReplayLearner, Simulator
from jaxsci.diffraction.scalars import seven_scalars

TINY = Prior(n=8, span=8.0, radius=(2.0, 2.4))
SETTINGS = LearnerConfig(updates=2, batch=6)


@pytest.fixture(scope="module")
def simulator() -> Simulator:
    return Simulator({"base": TINY}, count=4, classes=3, key=jax.random.key(0))


def blobs(samples: int, seed: int):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, samples)
    centres = np.random.default_rng(99).normal(size=(3, 5))
    return centres[labels] + 0.9 * rng.normal(size=(samples, 5)), labels


def test_forest_is_as_good_as_scikit_learns():
    ensemble = pytest.importorskip("sklearn.ensemble", reason="compares with scikit-learn, which is not installed")
    (x, y), (x_test, y_test) = blobs(600, 0), blobs(600, 1)
    ours = predict_forest(fit_forest(x, y, 3, ForestConfig(trees=60), seed=0), x_test)
    np.testing.assert_allclose(ours.sum(axis=1), 1.0)
    theirs = ensemble.RandomForestClassifier(60, random_state=0).fit(x, y).predict_proba(x_test)
    gap = (ours.argmax(1) == y_test).mean() - (theirs.argmax(1) == y_test).mean()
    assert abs(gap) < 0.03  # two standard errors of a difference of 600 paired answers


def test_scalars_of_a_gaussian():
    grid = np.stack(np.meshgrid(*[np.arange(21.0)] * 3, indexing="ij"), -1) - 10
    counts = 1e4 * np.exp(-0.5 * (grid**2 / np.array([1.0, 4.0, 6.25])).sum(-1))
    found = np.asarray(seven_scalars(jnp.asarray(counts, jnp.float32)))
    np.testing.assert_allclose(np.exp(found[1:4]), (1.0, 4.0, 6.25), rtol=0.01)  # the grid cuts the widest tail
    assert found[4] == 1 and found[6] < 0.01


@pytest.mark.parametrize("kind", ["slab", "volume", "slice"])
def test_networks_of_every_kind_answer(kind):
    network = Classifier(8, 3, kind=kind, width=2, key=jax.random.key(0))
    logits = network(network_input(jnp.ones((8, 8, 8))), jnp.zeros(4))
    assert logits.shape == (3,) and np.isfinite(logits).all()


def test_patterns_depend_on_their_number_alone():
    key = jax.random.key(3)
    few = learning.make_patterns([TINY], 5, classes=3, key=key)
    many = learning.make_patterns([TINY], 60, classes=3, key=key)
    for one, other in zip(few, many, strict=True):
        np.testing.assert_array_equal(one, other[:5])


def test_replay_by_seed(simulator):
    request = simulator.requests()[1]
    answer = simulator.submit(request, key=jax.random.key(5))
    again = simulator.recall(request, json.loads(json.dumps(answer.receipt)))
    for one, other in zip(answer.data, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (answer.data.kind == 1).all() and answer.cost > 0


def test_accuracy_driven_asks_for_what_is_lacking():
    requests = [PatternRequest("base", kind, 4) for kind in ("none", "edge", "screw")]
    prospects = [Prospect(None, loss=lack) for lack in (0.0, 0.1, 0.3)]
    situation = Situation(requests, prospects, [1.0] * 3, {})
    strategy = AccuracyDriven(exploration=0.12)
    chosen = [int(np.argmax(strategy.utilities(situation, key=jax.random.key(i)))) for i in range(600)]
    shares = np.bincount(chosen, minlength=3) / 600
    np.testing.assert_allclose(shares, (0.04, 0.26, 0.70), atol=0.06)  # three standard errors of 600 draws


def test_a_campaign_keeps_its_books(simulator, tmp_path):
    network = Classifier(8, 3, width=2, key=jax.random.key(0))
    frozen = {r.group: simulator.draw(r, jax.random.key(9)) for r in simulator.requests()}
    test = continual.join(list(frozen.values()))
    learner = ReplayLearner(network, make_rule(network, "fine_tune", SETTINGS), frozen, test, SETTINGS)
    ledger = Ledger(PatternRequest, tmp_path / "ledger.jsonl")
    run_campaign(simulator, learner, Balanced(), StoppingRule(requests=3), ledger, key=jax.random.key(1))
    assert sorted(ledger.counts()) == ["base/edge", "base/none", "base/screw"]
    assert all(0 <= entry.scores["accuracy"] <= 1 for entry in ledger.answered)
    assert ledger.cost() == pytest.approx(3 * simulator.cost(simulator.requests()[0]))


def test_an_adversary_raises_the_loss_and_stays_within_the_prior(simulator):
    """Harder for the network it plays against than the same keys as drawn, and recalled from the receipt alone."""
    network = Classifier(8, 3, width=2, key=jax.random.key(0))
    adversary = Adversary(simulator, lambda: network, steps=3, share=1.0)
    request = simulator.requests()[1]
    answer = adversary.submit(request, key=jax.random.key(5))
    receipt = json.loads(json.dumps(answer.receipt))
    again = Adversary(simulator, lambda: Classifier(8, 3, width=2, key=jax.random.key(1)), share=1.0)
    for one, other in zip(answer.data, again.recall(request, receipt), strict=True):
        np.testing.assert_array_equal(one, other)
    plain = simulator.recall(request, receipt)
    loss = [-jax.nn.log_softmax(continual.logits_of(network, p))[:, 1].mean() for p in (plain, answer.data)]
    assert float(loss[1]) > float(loss[0])
    assert answer.cost > simulator.cost(request)

    keys, kinds = simulator.lanes(request, receipt["draw"])
    scene, label = generator.draw(TINY, kinds[0], key=jax.random.split(keys[0])[0])
    moved = hardened(scene, label, network, TINY, steps=3, rate=0.2)
    for one, other in zip(moved, within(TINY, moved), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert float(jnp.max(jnp.abs(moved.core - scene.line.core))) > 0.01


def test_a_campaign_goes_on_in_its_middle(simulator, tmp_path):
    """Stopped between two checkpoints and continued: the same requests and scores as without a stop."""
    network = Classifier(8, 3, width=2, key=jax.random.key(0))
    frozen = {r.group: simulator.draw(r, jax.random.key(9)) for r in simulator.requests()}
    test = continual.join(list(frozen.values()))
    rule = make_rule(network, "fine_tune", SETTINGS)

    def campaign(requests: int, ledger: Ledger, **options):
        learner = ReplayLearner(network, rule, frozen, test, SETTINGS)
        stop = StoppingRule(requests=requests)
        run_campaign(simulator, learner, AccuracyDriven(0.1), stop, ledger, key=jax.random.key(1), **options)
        return [(entry.request, entry.receipt, entry.scores) for entry in ledger.answered]

    whole = campaign(5, Ledger(PatternRequest))
    with Checkpoints(tmp_path / "models", keep=1) as saved:
        options = {"checkpoints": saved, "save_every": 2}
        campaign(3, Ledger(PatternRequest, tmp_path / "ledger.jsonl"), **options)
        resumed = campaign(5, Ledger(PatternRequest, tmp_path / "ledger.jsonl"), **options)
    assert resumed == whole


def test_the_average_network_answers(simulator):
    """The running mean of weights: equal to them at decay 0, and behind them otherwise."""
    network = Classifier(8, 3, width=2, key=jax.random.key(0))
    frozen = {r.group: simulator.draw(r, jax.random.key(9)) for r in simulator.requests()}
    test = continual.join(list(frozen.values()))
    apart = {}
    for decay in (0.0, 0.9):
        config = LearnerConfig(updates=8, batch=6, average=decay)
        learner = ReplayLearner(network, make_rule(network, "fine_tune", config), frozen, test, config)
        model = learner.fit(learner.initial(key=jax.random.key(0)), list(frozen.values()), key=jax.random.key(1))
        gaps = jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b)), model.params, model.average)
        apart[decay] = max(float(gap) for gap in jax.tree.leaves(gaps))
    assert apart[0.0] == 0.0 and apart[0.9] > 0.0


def test_scores_of_a_known_stream():
    accuracy = np.array([[0.9, 0.5, 0.4], [0.8, 0.9, 0.6], [0.7, 0.8, 1.0]])
    scores = stream_scores(StreamResult(accuracy, np.array([0.3, 0.3, 0.3])))
    assert scores.final_accuracy == pytest.approx(2.5 / 3)
    assert scores.backward_transfer == pytest.approx((-0.2 - 0.1) / 2)
    assert scores.forward_transfer == pytest.approx((0.2 + 0.3) / 2)
    assert scores.forgetting == pytest.approx((0.2 + 0.1) / 2)


def batches(seed: int):
    rng = np.random.default_rng(seed)
    inputs = rng.normal(size=(6, 8, 8, 8)).astype(np.float16)
    return inputs, np.zeros((6, 4), np.float32), rng.integers(0, 3, 6)


def test_rules_without_memory_are_fine_tuning():
    """At weight zero, and with no Fisher information yet, every rule makes the same first step."""
    import equinox as eqx

    network = Classifier(8, 3, width=2, key=jax.random.key(0))
    params = eqx.filter(network, eqx.is_inexact_array)
    zero = jax.tree.map(jnp.zeros_like, params)
    steps = {}
    for name in continual.RULES:
        rule = make_rule(network, name, SETTINGS)
        state = rule.optimizer.init(params)
        steps[name], _ = rule.apply(params, state, batches(0), batches(1), jnp.zeros((6, 3)), 0.0, params, zero)
    for name, found in steps.items():
        for one, other in zip(jax.tree.leaves(steps["fine_tune"]), jax.tree.leaves(found), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6, err_msg=name)


def test_a_heavy_penalty_holds_the_weights():
    import equinox as eqx

    network = Classifier(8, 3, width=2, key=jax.random.key(0))
    params = eqx.filter(network, eqx.is_inexact_array)
    ones = jax.tree.map(jnp.ones_like, params)
    moved = {}
    for weight in (0.0, 1e4):
        rule = make_rule(network, "ewc", LearnerConfig(updates=2, batch=6, ewc_weight=weight))
        now, state = params, rule.optimizer.init(params)
        for step in range(20):
            now, state = rule.apply(now, state, batches(step), batches(1), jnp.zeros((6, 3)), 1.0, params, ones)
        distance = jax.tree.map(lambda a, b: jnp.sum(jnp.square(a - b)), now, params)
        moved[weight] = float(sum(jax.tree.leaves(distance)))
    assert moved[1e4] < 0.3 * moved[0.0]

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.workflows.baselines import rms_log_z, worker_mean, z_worker_scores
from jaxsci.workflows.calibration import fit_temperature, log_odds_of_anomaly, tempered
from jaxsci.workflows.density import fit_density
from jaxsci.workflows.features import fit_scaling, standardised, telemetry
from jaxsci.workflows.flowbench import load_workflow
from jaxsci.workflows.metrics import average_precision, per_class_auc, recall_at_k, roc_auc, within_run_auc
from jaxsci.workflows.splits import split_by_run, split_by_time

RNG = np.random.default_rng(0)


def test_auc_is_the_chance_of_the_right_order():
    scores, truth = RNG.integers(0, 20, 200).astype(float), RNG.random(200) < 0.3
    above = scores[truth][:, None] - scores[~truth][None]
    assert roc_auc(scores, truth) == pytest.approx(np.mean((above > 0) + 0.5 * (above == 0)))
    assert roc_auc(np.exp(scores / 5), truth) == pytest.approx(roc_auc(scores, truth))  # order alone counts
    assert average_precision(truth.astype(float) + RNG.random(200) / 2, truth) == 1.0
    assert recall_at_k(-truth.astype(float), truth) == 0.0 or truth.sum() > (~truth).sum()


def test_hard_labels_are_warned_about():
    with pytest.warns(UserWarning, match="two values"):
        roc_auc((RNG.random(50) < 0.5).astype(float), np.arange(50) < 20)


def test_within_run_auc_is_blind_to_what_runs_share():
    truth = RNG.random((30, 10)) < 0.4
    scores = truth + RNG.random((30, 10))
    assert within_run_auc(scores + 100 * RNG.random((30, 1)), truth) == pytest.approx(within_run_auc(scores, truth))


def test_scaling_knows_training_rows_only_and_survives_a_third_of_outliers():
    columns, _ = telemetry(load_workflow())
    train, test = split_by_run(len(columns), 0)
    spoiled = columns.copy()
    spoiled[test] = 1e9
    np.testing.assert_array_equal(fit_scaling(columns, train).centre, fit_scaling(spoiled, train).centre)
    x = RNG.normal(5.0, 0.1, (300, 1, 1))
    x[:99] = 1e6
    assert abs(np.expm1(fit_scaling(x, np.arange(300)).centre).item() - 5.0) < 0.15  # the 0.75 quantile of normal


def test_the_baseline_is_the_measured_one():
    workflow = load_workflow()
    areas = []
    for seed in range(5):
        train, test = split_by_run(workflow.runs, seed)
        scores = z_worker_scores(workflow, train)[test]
        areas.append(roc_auc(scores.ravel(), workflow.anomalous()[test].ravel()))
    assert np.mean(areas) == pytest.approx(0.781, abs=0.02)  # mean of 20 seeds; its standard deviation is 0.015


def test_worker_mean_ignores_the_names_of_hosts():
    host, scores = RNG.integers(0, 4, (6, 12)), RNG.random((6, 12))
    names = RNG.permuted(np.tile(np.arange(4), (6, 1)), axis=1)
    renamed = np.take_along_axis(names, host, axis=1)
    np.testing.assert_allclose(worker_mean(scores, host), worker_mean(scores, renamed))
    np.testing.assert_allclose(worker_mean(scores, host).sum(), scores.sum())


def test_splits_part_runs():
    train, test = split_by_run(351, 3)
    assert len(train) == 245 and not set(train) & set(test)
    start = RNG.random(40)
    early, late = split_by_time(start)
    assert start[early].max() < start[late].min()


def test_standardised_features_are_bounded():
    c, observed = standardised(load_workflow(), np.arange(300))
    assert np.abs(c).max() <= 20 and c.shape == observed.shape
    assert (rms_log_z(c) >= 0).all()


def test_density_of_a_gaussian_is_its_mahalanobis_distance():
    z = RNG.normal(size=(1, 4000, 3)) @ np.array([[2.0, 0.3, 0], [0, 1, 0], [0, 0, 0.5]])
    density = fit_density(z, np.ones((1, 4000)), np.zeros(1, int))
    d = np.asarray(density.distance(jnp.asarray(z, jnp.float32)))
    assert np.mean(d**2) == pytest.approx(1.0, abs=0.15)  # up to the ridge
    shifted = np.asarray(density.distance(jnp.asarray(z + np.array([0, 0, 5.0]), jnp.float32)))
    assert (shifted.mean() > 4 * d.mean()).all()


def test_temperature_finds_the_overconfidence_it_was_given():
    logits = RNG.normal(size=(20000, 3))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    y = np.array([RNG.choice(3, p=row) for row in p])
    assert fit_temperature(tempered(p, 1 / 2.5), y) == pytest.approx(2.5, rel=0.1)  # 20,000 draws


def test_per_class_auc_uses_normal_runs_and_its_own():
    y = np.array([[0, 1], [0, 0], [2, 0]])
    scores = np.array([[0.1, 0.9], [0.2, 0.3], [0.0, 0.5]])
    assert per_class_auc(scores, y, ("normal", "cpu_2", "hdd_5")) == {"cpu_2": 1.0, "hdd_5": 0.0}


def test_log_odds_are_finite_and_ordered_where_a_probability_rounds_to_one():
    p = np.array([[1.0, 1e-9, 0.0], [1.0, 1e-12, 0.0], [0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], np.float32)
    found = log_odds_of_anomaly(p)
    assert np.isfinite(found).all() and found[1] < found[0] < found[2] < found[3]
    np.testing.assert_allclose(found[[0, 2]], [np.log(1e-9), 0.0], atol=1e-6)

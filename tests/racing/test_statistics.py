"""Decisions of the tests: those of irace on its reference matrices, and the cases with ties of irace 3.5."""

import json
import os
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from jaxsci.racing.bayesian import probability_best
from jaxsci.racing.budget import Allowance
from jaxsci.racing.statistics import Test, decide, final_ranks, friedman

TESTS = {"friedman": "friedman", "t_none": "t", "t_bonferroni": "t-bonferroni", "t_holm": "t-holm"}
A = [[1, 1, 3, 2], [2, 1, 4, 2], [1, 2, 2, 2], [0, 1, 3, 1], [2, 2, 5, 3], [1, 1, 2, 3]]
B = [[3, 3], [2, 1], [4, 2], [1, 1], [5, 3], [2, 3], [6, 4], [4, 2]]


def reference() -> dict:
    folder = os.environ.get("JAXSCI_DATA")
    path = Path(folder or ".") / "optimisation" / "irace_reference_tests.json"
    if not folder or not path.exists():
        pytest.skip("set JAXSCI_DATA to the folder that holds optimisation/irace_reference_tests.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("name", TESTS)
def test_decisions_and_p_values_are_those_of_irace(name):
    for case in reference()["tests"]:
        verdict, expected = decide(np.array(case["m"]), cast(Test, TESTS[name])), case[name]
        assert verdict.alive.tolist() == expected["alive"]
        assert verdict.p == pytest.approx(expected["p"], abs=1e-9)  # the file has ten digits
        if "ranks" in expected:
            assert verdict.ranks.tolist() == expected["ranks"]


def test_numbers_of_candidates_are_those_of_irace():
    for case in reference()["nbConfigurations"]:
        numbers = Allowance(4, mu=case["mu"], each_test=case["eachTest"])
        assert numbers.candidates(case["currentBudget"], case["iteration"]) == case["nonElitist"]
        elitist = numbers.candidates(case["currentBudget"], case["iteration"], elites=3, old=8)
        assert elitist == case["elitist_3e_8old_1new"]


def test_numbers_of_candidates_without_the_file():
    """The sheet's own: budget 100, iterations 1 to 6."""
    numbers = Allowance(4)
    assert [numbers.candidates(100, i) for i in range(1, 7)] == [16, 14, 12, 11, 10, 10]
    assert [numbers.candidates(100, i, elites=3, old=8) for i in range(1, 7)] == [13, 13, 13, 13, 12, 12]
    assert [Allowance(d).least for d in (4, 10, 11)] == [180, 300, 300]


@pytest.mark.parametrize(
    ("costs", "test", "alive", "p"),
    [
        (A, "friedman", [1, 1, 0, 0], 0.004765557021267),
        (A, "t", [1, 1, 0, 0], 0.0),
        (A, "t-bonferroni", [1, 1, 0, 0], 0.0),
        (A, "t-holm", [1, 1, 0, 0], 0.0),
        (B, "friedman", [1, 1], 0.06598737219615),
        (B, "t", [0, 1], 0.04986723),
        (B, "t-bonferroni", [1, 1], 0.09973446),
        (B, "t-holm", [1, 1], 0.09973446),
        ([[1, 2], [1, 1], [2, 3]], "friedman", [1, 0], 0.0),
        ([[1, 2], [1, 1], [2, 3]], "t-holm", [1, 0], 0.0),
        ([[1, 1], [2, 2], [3, 3]], "friedman", [1, 0], 0.0),
        ([[1, 1], [2, 2], [3, 3]], "t", [1, 1], 1.0),
        ([[1] * 3] * 5, "t", [1, 1, 1], 1.0),
    ],
)
def test_ties_are_decided_as_irace_does(costs, test, alive, p):
    verdict = decide(np.array(costs, float), test)
    assert verdict.alive.tolist() == [bool(a) for a in alive]
    assert verdict.p == pytest.approx(p, abs=1e-8)  # the sheet prints eight digits and more


def test_all_ranks_equal_drops_nobody():
    verdict = decide(np.ones((5, 3)))
    assert np.isnan(verdict.p) and verdict.alive.all()


def test_two_forms_of_friedmans_statistic_agree():
    """The form with tie sums, computed here, against the form with squared ranks in the code."""
    from scipy.stats import chi2, rankdata

    costs = np.random.default_rng(0).integers(0, 4, (9, 6)).astype(float)
    ranks = rankdata(costs, axis=1)
    k, n = costs.shape
    ties = sum(float(c**3 - c) for row in costs for c in np.unique(row, return_counts=True)[1])
    t = 12 * np.sum((ranks.sum(0) - k * (n + 1) / 2) ** 2) / (k * n * (n + 1) - ties / (n - 1))
    assert friedman(costs, 0.05).p == pytest.approx(chi2.sf(t, n - 1), rel=1e-10)  # equal but for rounding


def test_ranks_ignore_the_scale_of_instances_and_means_do_not():
    rng = np.random.default_rng(1)
    costs = rng.normal(0, 1, (12, 5)) + np.array([0, 1, 1, 1, 2.0])
    scaled = costs * 10.0 ** np.arange(12)[:, None]
    assert (decide(costs).alive == decide(scaled).alive).all()
    assert decide(costs, "t").p != pytest.approx(decide(scaled, "t").p)


def test_an_outlier_moves_the_t_test_alone():
    rng = np.random.default_rng(2)
    costs = rng.normal(0, 0.5, (10, 4)) + np.array([0, 3, 3, 3.0])
    costs[0, 1:] = costs[0, 0] - 0.1  # nobody is worse everywhere, which would need no test
    spoilt = costs.copy()
    spoilt[np.argmax(costs[:, 1]), 1] = 1e6
    assert (decide(costs).alive == decide(spoilt).alive).all()
    assert decide(costs, "t").alive.tolist() != decide(spoilt, "t").alive.tolist()


def test_more_blocks_rank_first():
    costs = np.array([[1.0, 5.0, np.nan], [1.0, 5.0, 0.0]])
    assert final_ranks(costs, "friedman").tolist() == [1.0, 2.0, 3.0]


def test_false_eliminations_of_equal_configurations():
    """One test at level 0.05 on equal configurations drops somebody in few of 200 cases."""
    rng = np.random.default_rng(3)
    dropped = sum(not decide(rng.normal(0, 1, (10, 5))).alive.all() for _ in range(200))
    assert dropped <= 24  # 0.05 x 200 = 10 expected; 24 is 4.5 standard deviations above


def test_probability_of_the_best_is_calibrated():
    """Means drawn from the model's own prior: P(best) given to the winner is right as often as it says."""
    rng = np.random.default_rng(4)
    said, right = [], []
    for _ in range(300):
        means = rng.normal(0, 0.5, 4)
        best = probability_best(means + rng.normal(0, 1, (8, 4)), draws=500)
        said.append(best.max())
        right.append(np.argmax(best) == np.argmin(means))
    assert abs(np.mean(said) - np.mean(right)) < 0.09  # 3 standard errors of 300 yes-no draws

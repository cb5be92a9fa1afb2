"""Scores of reduced-order models, by hand."""

import numpy as np
import pytest

from jaxsci.emulators.rom_scores import score, squared_errors, student_interval


def test_scores_are_the_means_they_say():
    errors = np.arange(40.0).reshape(2, 20)
    found = score(errors, np.full((2, 20), 2.0), np.zeros((2, 20)))
    assert found.mse == 19.5 and found.above_floor == 17.5 and found.diverged == 0
    assert found.early == np.mean([0, 1, 20, 21]) and found.late == np.mean([*range(10, 20), *range(30, 40)])
    assert found.after_window == np.mean([*range(2, 20), *range(22, 40)]) and found.worst == 29.5


def test_a_run_that_is_not_finite_counts_as_the_mean_field_from_there_on():
    errors = np.ones((2, 10))
    errors[1, 6:] = np.nan, np.inf, np.nan, np.inf
    found = score(errors, np.zeros((2, 10)), np.full((2, 10), 5.0))
    assert found.diverged == 0.5 and found.mse == pytest.approx((16 + 4 * 5) / 20)


def test_squared_errors_average_over_the_grid():
    truth = np.zeros((2, 3, 4, 4), np.float32)
    predicted = truth.copy()
    predicted[1, 2, 0, 0] = 4.0
    found = squared_errors(predicted, truth)
    assert found.shape == (2, 3) and found[1, 2] == 1.0 and found.sum() == 1.0


def test_student_interval_of_textbook_values():
    mean, half = student_interval(np.array([1.0, 2.0, 3.0, 4.0, 5.0]))
    # t of 4 degrees of freedom at 97.5 % is 2.776; the standard error is sqrt(2.5 / 5).
    assert mean == 3.0 and half == pytest.approx(2.776 * np.sqrt(0.5), rel=1e-3)
    assert np.isnan(student_interval(np.array([1.0]))[1])

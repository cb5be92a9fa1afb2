"""Estimated covariances converge to the true ones, and bad input is one line."""

import numpy as np
import pytest

from jaxsci.assimilation import covariance_root
from jaxsci.assimilation.covariance_estimates import climatological, diagonal, ensemble, forecast_differences, hybrid
from jaxsci.core.errors import JaxsciError

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
N, TIMES = 4, 20000
FACTOR = RNG.normal(size=(N, N))
B = FACTOR @ FACTOR.T + 0.2 * np.eye(N)
# Standard error of the entries of a sample covariance: at most sqrt(2 / count) times the largest variance.
SAMPLING = 4 * np.sqrt(2 / TIMES) * B.max()


def draws(count: int = TIMES):
    return RNG.normal(size=(count, N)) @ np.linalg.cholesky(B).T


def test_climatological_is_the_scaled_covariance_of_states():
    np.testing.assert_allclose(climatological(3.0 + draws(), 0.5), 0.5 * B, atol=SAMPLING)


def test_forecast_differences_of_independent_errors_give_back_their_covariance():
    truth = 10 * RNG.normal(size=(TIMES, N))
    found = forecast_differences(truth + draws(), truth + draws())
    np.testing.assert_allclose(found, B, atol=SAMPLING)


def test_ensemble_by_hand():
    members = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 3.0]])
    np.testing.assert_allclose(ensemble(members), [[1.0, 0.0], [0.0, 3.0]], atol=1e-15)


def test_a_small_ensemble_has_a_root_of_its_rank():
    covariance = ensemble(draws(3))
    root = np.asarray(covariance_root(covariance))
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-12 * covariance.max() * N)
    assert np.linalg.matrix_rank(covariance) == 2


def test_hybrid_mixes_and_restores_the_rank():
    small = ensemble(draws(3))
    np.testing.assert_allclose(hybrid(B, small, 0.25), 0.75 * B + 0.25 * small, rtol=1e-14)
    assert np.linalg.matrix_rank(hybrid(B, small, 0.9)) == N
    np.testing.assert_array_equal(hybrid(B, small, 0.0), B)


def test_diagonal_keeps_the_variances_alone():
    np.testing.assert_array_equal(diagonal(B), np.diag(np.diag(B)))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: climatological(draws(1)), "states: expected two or more flat states, got shape (1, 4)"),
        (lambda: climatological(draws(9), 0.0), "scale: expected a value above 0, got 0.0"),
        (lambda: climatological(np.ones((5, N))), "covariance: expected positive semi-definite"),
        (lambda: ensemble(np.full((3, N), np.nan)), "covariance: expected finite entries"),
        (lambda: forecast_differences(draws(5), draws(6)), "forecasts: expected pairs for the same times"),
        (lambda: hybrid(B, B, 1.5), "weight: expected a value between 0 and 1, got 1.5"),
        (lambda: hybrid(B, -B, 0.9), "covariance: expected positive semi-definite, the smallest eigenvalue is -"),
        (lambda: hybrid(B, B[:2, :2], 0.5), "hybrid: expected covariances of one size"),
        (lambda: diagonal(np.diag([1.0, -2.0])), "covariance: expected positive semi-definite"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(JaxsciError) as caught:
        call()
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)

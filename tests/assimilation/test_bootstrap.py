"""Bootstrap intervals: as wide as theory says, sharp for pairs, wide where days hang together."""

import numpy as np

from jaxsci.assimilation.bootstrap import interval, resampled_rmse


def test_independent_days_give_the_normal_interval():
    squares = np.random.default_rng(0).chisquare(4, size=2000)
    drawn = resampled_rmse({"a": squares}, block=1)["a"]
    found = interval(float(np.sqrt(squares.mean())), drawn)
    # RMSE = sqrt(mean): its standard error is that of the mean over twice the root. 2000 draws know it to 2 %.
    error = squares.std() / np.sqrt(len(squares)) / (2 * found.value)
    np.testing.assert_allclose(drawn.std(), error, rtol=0.08)
    np.testing.assert_allclose([found.high - found.value, found.value - found.low], 1.96 * error, rtol=0.15)


def test_blocks_widen_the_interval_of_correlated_days():
    """Means over runs of ten equal days have a tenth of the independent days, so sqrt(10) of the error."""
    squares = np.repeat(np.random.default_rng(1).chisquare(4, size=400), 10)
    one, ten = (resampled_rmse({"a": squares}, block=block)["a"].std() for block in (1, 40))
    np.testing.assert_allclose(ten / one, np.sqrt(10), rtol=0.2)


def test_pairs_share_their_days():
    squares = np.random.default_rng(2).chisquare(2, size=300)
    drawn = resampled_rmse({"a": squares, "b": squares + 1.0, "c": squares})
    np.testing.assert_array_equal(drawn["a"], drawn["c"])
    assert np.all(drawn["b"] > drawn["a"])
    assert (drawn["b"] - drawn["a"]).std() < 0.3 * drawn["a"].std()


def test_fewer_days_than_a_block():
    drawn = resampled_rmse({"a": np.array([1.0, 4.0, 4.0])}, block=10)
    np.testing.assert_allclose(drawn["a"], np.sqrt(3.0))  # a whole circle each time

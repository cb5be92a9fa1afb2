"""Reducing a field: nothing that is fitted knows the test span, and the parts add up to the field."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.core.errors import ConfigError, DataError
from jaxsci.emulators import fit_linear, reduce_field, split_by_time
from jaxsci.emulators.baselines import damping_factors
from jaxsci.emulators.fields import Field
from jaxsci.emulators.skill import one_day_error

pytestmark = pytest.mark.usefixtures("x64")


def everything_fitted(field):
    split = split_by_time(len(field.time))
    reduced = reduce_field(field, split, modes=6, harmonics=(1, 2))
    train, validation = reduced.coefficients[split.train], reduced.coefficients[split.validation]
    linear = fit_linear(train, validation, lags=2, leads=3, ridges=(1e-4, 1e-1))
    return {
        "climatology": reduced.climatology.coefficients,
        "modes": reduced.pod.modes,
        "variance": reduced.pod.variance,
        "truncated": reduced.pod.truncated,
        "captured": reduced.pod.captured,
        "linear": linear.maps,
        "one_day_error": one_day_error(linear, reduced),
        "damping": damping_factors(reduced.anomalies[split.train], reduced.weights, 3),
    }


def disturbed(field, span):
    values = field.values.copy()
    values[span] = 5000 + 300 * np.random.default_rng(9).normal(size=values[span].shape)
    return Field(field.name, values, field.lat, field.lon, field.time)


def test_no_fitted_array_changes_when_the_test_span_does(make_field):
    field = make_field(400)
    split = split_by_time(400)
    before, after = everything_fitted(field), everything_fitted(disturbed(field, split.test))
    for name in before:
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)
    # The test can fail: one day earlier belongs to the validation span and is felt.
    earlier = everything_fitted(disturbed(field, slice(split.test.start - 1, None)))
    assert not np.array_equal(before["one_day_error"], earlier["one_day_error"])


def test_the_training_span_alone_makes_climatology_and_modes(make_field):
    field = make_field(400)
    split = split_by_time(400)
    reduced = reduce_field(field, split, modes=6, harmonics=(1,))
    other = reduce_field(disturbed(field, slice(split.train.stop, None)), split, modes=6, harmonics=(1,))
    np.testing.assert_array_equal(reduced.climatology.coefficients, other.climatology.coefficients)
    np.testing.assert_array_equal(reduced.pod.modes, other.pod.modes)


def test_climatology_plus_modes_plus_rest_is_the_field(make_field):
    field = make_field(200)
    split = split_by_time(200)
    reduced = reduce_field(field, split, modes=20, harmonics=(1,))  # 20 points: every mode
    again = reduced.climatology(field.time) + np.asarray(reduced.pod.decode(jnp.asarray(reduced.coefficients)))
    np.testing.assert_allclose(again, field.flat, rtol=1e-12)  # rounding of values near 5500
    np.testing.assert_allclose(reduced.anomalies[split.train].mean(0), 0, atol=1e-9)  # the fit has a constant term
    np.testing.assert_array_equal(reduced.weights, field.area_weights)


def companion_of(field, scale=0.1):
    """Another variable that follows the first, a day late, in other units."""
    values = 270 + scale * np.roll(field.values - 5500, 1, axis=0)
    return Field("t", values, field.lat, field.lon, field.time)


def test_companions_share_the_modes_and_the_first_field_is_decoded(make_field):
    field = make_field(300)
    split = split_by_time(300)
    companion = companion_of(field)
    reduced = reduce_field(
        field, split, modes=40, harmonics=(1,), companions=[companion]
    )  # every mode of 2 x 20 points
    assert reduced.stacked.shape == (300, 40) and reduced.anomalies.shape == (300, 20)
    # Scaled to the variance of the first: the factor between the units comes out, but for one day at the edge.
    np.testing.assert_allclose(reduced.scales, [10.0], rtol=0.02)
    coefficients = jnp.asarray(reduced.coefficients)
    np.testing.assert_allclose(reduced.pod.decode(coefficients), reduced.anomalies, atol=1e-8)
    np.testing.assert_allclose(reduced.joint.decode(coefficients), reduced.stacked, atol=1e-8)
    alone = reduce_field(field, split, modes=5, harmonics=(1,))
    assert alone.scales == () and alone.joint.modes.shape == alone.pod.modes.shape


def test_a_companion_must_lie_on_the_same_grid_and_days(make_field):
    field, split = make_field(300), split_by_time(300)
    other = companion_of(field)
    shifted = Field("t", other.values, other.lat, other.lon + 1, other.time)
    late = Field("t", other.values, other.lat, other.lon, other.time + np.timedelta64(24, "h"))
    for wrong, says in ((shifted, "its lon differs"), (late, "on the days 2001-01-01")):
        with pytest.raises(DataError, match=says):
            reduce_field(field, split, modes=5, harmonics=(1,), companions=[wrong])


def test_more_modes_than_points(make_field):
    with pytest.raises(ConfigError, match="modes: expected 1 to 20"):
        reduce_field(make_field(200), split_by_time(200), modes=21, harmonics=(1,))

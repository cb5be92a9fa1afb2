"""Forecasts without a model: which day each comes from, and that damping is least squares."""

import numpy as np

from jaxsci.emulators.baselines import damped_persistence, damping_factors, persistence

RNG = np.random.default_rng(0)


def test_persistence_at_lead_l_is_the_field_exactly_l_days_before_the_target():
    days, leads = 30, 5
    anomalies = np.tile(np.arange(days, dtype=float)[:, None], (1, 4))  # every field holds its own day
    forecasts = persistence(anomalies, leads)
    assert forecasts.shape == (leads, days, 4)
    for lead in range(1, leads + 1):
        made_for = anomalies[lead:]
        np.testing.assert_array_equal(made_for - forecasts[lead - 1, : days - lead], lead)


def test_damping_recovers_the_autocorrelation_of_a_geometric_signal():
    decaying = 0.8 ** np.arange(40)[:, None] * RNG.normal(size=6)
    # x(t + L) = 0.8^L x(t) at every point: the factors are exact, whatever the weights.
    found = damping_factors(decaying, RNG.uniform(0.5, 2, size=6), 4)
    np.testing.assert_allclose(found, 0.8 ** np.arange(1, 5), rtol=1e-13)


def test_no_other_factor_has_a_smaller_weighted_error():
    anomalies, weights = RNG.normal(size=(50, 6)).cumsum(0), RNG.uniform(0.5, 2, size=6)
    factors = damping_factors(anomalies, weights, 3)
    forecasts = damped_persistence(anomalies, factors)
    for lead in range(1, 4):
        now, later = anomalies[:-lead], anomalies[lead:]
        np.testing.assert_array_equal(forecasts[lead - 1, :-lead], factors[lead - 1] * now)
        error = forecasts[lead - 1, :-lead] - later
        # The normal equation: the error is orthogonal to the forecast. Rounding of 300 products of order 100.
        np.testing.assert_allclose(np.sum(weights * error * now), 0, atol=1e-9)

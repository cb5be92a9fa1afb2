"""The seasonal cycle: exact on harmonics, fitted on its own days alone, chosen on the validation days."""

import numpy as np
import pytest

from jaxsci.emulators.climatology import HarmonicClimatology, select_climatology

TIME = np.datetime64("2000-03-05T12") + np.timedelta64(24, "h") * np.arange(900)
RNG = np.random.default_rng(0)


def harmonic_signal(time, harmonics, coefficients):
    """Written apart from the code under test: days since the year began, in units of 365.25 days."""
    start = time.astype("datetime64[Y]").astype("datetime64[h]")
    phase = 2 * np.pi * (time - start).astype(float) / 24 / 365.25
    terms = [np.ones(len(time))]
    terms += [np.cos(k * phase) for k in range(1, harmonics + 1)]
    terms += [np.sin(k * phase) for k in range(1, harmonics + 1)]
    return np.stack(terms, 1) @ coefficients


@pytest.mark.parametrize("harmonics", [0, 1, 3])
def test_recovers_a_harmonic_signal_and_continues_it(harmonics):
    coefficients = 100 * RNG.normal(size=(2 * harmonics + 1, 6))
    signal = harmonic_signal(TIME, harmonics, coefficients)
    fit = HarmonicClimatology.fit(TIME[:500], signal[:500], harmonics)
    # Least squares on a well-conditioned basis, values of a few hundred: rounding.
    np.testing.assert_allclose(fit.coefficients, coefficients, atol=1e-10)
    np.testing.assert_allclose(fit(TIME[500:]), signal[500:], atol=1e-10)
    assert fit.harmonics == harmonics


def test_no_harmonics_is_the_mean():
    values = RNG.normal(size=(900, 4))
    fit = HarmonicClimatology.fit(TIME, values, 0)
    np.testing.assert_allclose(fit(TIME[:1])[0], values.mean(0), atol=1e-14)


def test_residual_is_orthogonal_to_every_term():
    values = RNG.normal(size=(900, 3))
    residual = values - HarmonicClimatology.fit(TIME, values, 2)(TIME)
    for term in harmonic_signal(TIME, 2, np.eye(5)).T:
        np.testing.assert_allclose(term @ residual, 0, atol=1e-11)  # sums of 900 values of order one


def test_selection_takes_the_number_of_harmonics_the_signal_has():
    coefficients = 100 * RNG.normal(size=(5, 8))
    values = harmonic_signal(TIME, 2, coefficients) + RNG.normal(size=(900, 8))
    chosen = select_climatology(TIME[:800], values[:800], np.ones(8), (0, 1, 2))
    assert chosen.harmonics == 2
    # The same with noise alone: harmonics fit nothing that lasts, the mean is best on left-out days.
    noise = RNG.normal(size=(900, 30))
    assert select_climatology(TIME, noise, np.ones(30), (0, 3, 6)).harmonics == 0

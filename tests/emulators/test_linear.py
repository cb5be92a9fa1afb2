"""Direct linear forecasts: a known vector autoregression is recovered; ridge regression in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.emulators import LinearEmulator, fit_linear
from jaxsci.emulators.delay import training_pairs

pytestmark = pytest.mark.usefixtures("x64")

# x(t + 1) = A1 x(t) + A2 x(t - 1) + noise: a damped rotation with memory
A1 = np.array([[0.9, -0.4, 0.0], [0.4, 0.9, 0.1], [0.0, 0.0, 0.6]])
A2 = np.array([[-0.3, 0.0, 0.1], [0.0, -0.3, 0.0], [0.05, 0.0, 0.2]])


def simulate(days, noise, seed=0):
    rng = np.random.default_rng(seed)
    x = [rng.normal(size=3), rng.normal(size=3)]
    for _ in range(days - 2):
        x.append(A1 @ x[-1] + A2 @ x[-2] + noise * rng.normal(size=3))
    return np.array(x)


def direct_maps(leads):
    """Exact maps of the noise-free system from (x(t), x(t - 1)) to every lead, inputs as rows."""
    companion = np.block([[A1, A2], [np.eye(3), np.zeros((3, 3))]])
    return np.stack([np.linalg.matrix_power(companion, lead)[:3].T for lead in range(1, leads + 1)])


def test_recovers_a_noise_free_system_exactly():
    days = simulate(40, 0.0)
    found = fit_linear(days, days, lags=2, leads=3, ridges=(0.0,))
    # Normal equations of six decaying inputs: condition number about 1e5, squared rounding.
    np.testing.assert_allclose(found.maps, direct_maps(3), atol=1e-8)


def test_recovers_a_noisy_system_within_sampling_error():
    train, validation = simulate(20_000, 1.0, 1), simulate(2000, 1.0, 2)
    found = fit_linear(train, validation, lags=2, leads=2, ridges=(0.0, 1e-3))
    # A coefficient's standard error is about 1 / sqrt(20000 x variance of its input) <= 0.007; lead 2 a little more.
    np.testing.assert_allclose(found.maps, direct_maps(2), atol=5 * 0.009)


def test_forecast_is_the_sum_over_lags_and_a_step_map():
    emulator = LinearEmulator(jnp.asarray(direct_maps(3)), lags=2, leads=3)
    now, before = np.array([1.0, -2.0, 3.0]), np.array([0.5, 0.0, -1.0])
    state = jnp.asarray(np.stack([now, before]))
    first = A1 @ now + A2 @ before
    np.testing.assert_allclose(emulator.forecast(state)[0], first, rtol=1e-13)
    np.testing.assert_allclose(emulator.forecast(state)[1], A1 @ first + A2 @ now, rtol=1e-13)
    # The maps of a linear system agree with each other: stepping twice is the direct forecast of lead two.
    np.testing.assert_allclose(emulator(emulator(state))[0], emulator.forecast(state)[1], rtol=1e-13)


def test_ridge_is_the_penalised_least_squares_solution_and_chosen_lead_by_lead():
    train, validation = simulate(30, 1.0, 3), simulate(300, 1.0, 4)
    ridges = (0.0, 0.1, 10.0)
    chosen = fit_linear(train, validation, lags=2, leads=2, ridges=ridges).maps
    states, targets = training_pairs(train, 2, 2)
    checks, truths = training_pairs(validation, 2, 2)
    inputs = states.reshape(len(states), -1)
    unit = np.mean(np.square(inputs))
    for lead in range(2):
        fits, errors = [], []
        for ridge in ridges:
            # The penalty as extra rows of an ordinary least-squares problem.
            penalty = np.sqrt(ridge * unit * len(inputs)) * np.eye(6)
            rows = np.concatenate([inputs, penalty])
            right = np.concatenate([targets[:, lead], np.zeros((6, 3))])
            fits.append(np.linalg.lstsq(rows, right, rcond=None)[0])
            errors.append(np.mean(np.square(checks.reshape(len(checks), -1) @ fits[-1] - truths[:, lead])))
        np.testing.assert_allclose(chosen[lead], fits[int(np.argmin(errors))], rtol=1e-9, atol=1e-12)


def test_gradient_with_respect_to_the_state_is_the_map():
    emulator = LinearEmulator(jnp.asarray(direct_maps(2)), lags=2, leads=2)
    jacobian = jax.jacobian(emulator.forecast)(jnp.ones((2, 3)))
    np.testing.assert_allclose(jacobian[1].reshape(3, 6), direct_maps(2)[1].T, rtol=1e-14)

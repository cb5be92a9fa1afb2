"""A reference written apart from the library, the Kalman smoother in NumPy, and a world to observe."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import solve_discrete_lyapunov

from jaxsci.emulators import LinearEmulator, Pod


class Smoothed(NamedTuple):
    mean: np.ndarray
    """(times, n)"""
    covariance: np.ndarray
    """(times, n, n)"""
    predicted_mean: np.ndarray
    """One step past the last time, (n,)."""
    predicted_covariance: np.ndarray


def kalman_smoother(transition, error, operator, noise, mean, covariance, values) -> Smoothed:
    """Rauch-Tung-Striebel smoother of `x' = F x + q`, `y = H x + r`, from a prior at the first observed time."""
    means, covariances, priors = [], [], []
    for y in values:
        priors.append((mean, covariance))
        present = np.isfinite(y)
        h, r = operator[present], noise[np.ix_(present, present)]
        gain = covariance @ h.T @ np.linalg.inv(h @ covariance @ h.T + r)
        mean = mean + gain @ (y[present] - h @ mean)
        covariance = covariance - gain @ h @ covariance
        means.append(mean)
        covariances.append(covariance)
        mean, covariance = transition @ mean, transition @ covariance @ transition.T + error
    smooth_mean, smooth_covariance = means[-1], covariances[-1]
    out = [(smooth_mean, smooth_covariance)]
    for k in range(len(values) - 2, -1, -1):
        prior_mean, prior_covariance = priors[k + 1]
        gain = covariances[k] @ transition.T @ np.linalg.inv(prior_covariance)
        smooth_mean = means[k] + gain @ (smooth_mean - prior_mean)
        smooth_covariance = covariances[k] + gain @ (smooth_covariance - prior_covariance) @ gain.T
        out.append((smooth_mean, smooth_covariance))
    out.reverse()
    return Smoothed(np.stack([m for m, _ in out]), np.stack([c for _, c in out]), mean, covariance)


@pytest.fixture(scope="session")
def smoother():
    return kalman_smoother


class Weather(NamedTuple):
    """A world whose statistics are all known: a two-lag autoregression of modes, and white unresolved scales."""

    emulator: LinearEmulator
    pod: Pod
    error: np.ndarray
    """Covariance of what the emulator cannot know of tomorrow, (modes, modes)."""
    coefficients: np.ndarray
    """(days, modes)"""
    anomalies: np.ndarray
    """(days, points)"""


@pytest.fixture
def make_weather(x64):
    """Draws `days` of weather of three modes on eight points, in float64."""

    def make(days: int, seed: int = 0, leads: int = 3) -> Weather:
        rng = np.random.default_rng(seed)
        modes, points, spin_up = 3, 8, 50
        turn = np.linalg.qr(np.random.default_rng(1).normal(size=(modes, modes)))[0]
        now, before = 0.75 * np.eye(modes) + 0.2 * (turn - turn.T), -0.3 * np.eye(modes)
        companion = np.block([[now, before], [np.eye(modes), np.zeros((modes, modes))]])
        assert np.abs(np.linalg.eigvals(companion)).max() < 1
        error = np.diag([4.0, 2.0, 1.0])
        x = [np.zeros(modes), np.zeros(modes)]
        for _ in range(days + spin_up - 2):
            x.append(now @ x[-1] + before @ x[-2] + rng.normal(size=modes) * np.sqrt(np.diag(error)))
        coefficients = np.array(x[spin_up:])
        basis = np.linalg.qr(np.random.default_rng(2).normal(size=(points, points)))[0]
        small = 0.2 * basis[:, modes:]
        stationary = solve_discrete_lyapunov(companion, np.pad(error, (0, modes)))[:modes, :modes]
        pod = Pod(
            modes=jnp.asarray(basis[:, :modes]),
            weights=jnp.ones(points),
            variance=jnp.asarray(np.diag(stationary)),
            truncated=jnp.asarray(small),
            captured=1.0,
        )
        powers = [np.linalg.matrix_power(companion, lead)[:modes].T for lead in range(1, leads + 1)]
        emulator = LinearEmulator(jnp.asarray(np.stack(powers)), 2, leads)
        unresolved = rng.normal(size=(days, points - modes)) @ small.T
        return Weather(emulator, pod, error, coefficients, coefficients @ basis[:, :modes].T + unresolved)

    return make

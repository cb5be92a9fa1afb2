"""One gain for all windows: the Gauss-Newton analysis where the model is linear, and honest where it is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background, Window, assimilate, observe
from jaxsci.assimilation.cycling import cycle
from jaxsci.assimilation.fixed_gain import fixed_gain
from jaxsci.dynamics import Lorenz96

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
N, TIMES, STATIONS, WINDOWS = 5, 3, 2, 4
MAP = 0.9 * np.linalg.qr(RNG.normal(size=(N, N)))[0]
ROOT = np.eye(N) + 0.2 * RNG.normal(size=(N, N))
VALUES = RNG.normal(size=(WINDOWS, TIMES, STATIONS))
VALUES[:, :, 1] = np.nan


def observed(values):
    return observe(jnp.asarray(values), lambda x: x[jnp.array([0, 3])], 0.3 * jnp.eye(STATIONS), missing=True)


def window(model, mean, values):
    return Window(model, Background(mean, jnp.asarray(ROOT)), observed(values))


def linear(x):
    return MAP @ x


def test_it_is_gauss_newton_for_a_linear_model_at_any_background():
    gain = fixed_gain(window(linear, jnp.zeros(N), VALUES[0]))
    other = window(linear, jnp.asarray(RNG.normal(size=N)), VALUES[1])
    ours, theirs = jax.jit(lambda: (assimilate(other, gain), assimilate(other)))()
    np.testing.assert_allclose(ours.control, theirs.control, atol=1e-10)
    assert ours.stats.gradient_norm < 1e-10 and int(ours.code) == 0
    np.testing.assert_allclose(ours.stats.initial_cost, other.cost(other.origin), rtol=1e-12)


def test_a_cycle_of_windows_is_the_same():
    gain = fixed_gain(window(linear, jnp.zeros(N), VALUES[0]))
    run = lambda method: cycle(  # noqa: E731
        linear, jnp.asarray(ROOT), jnp.ones(N), observed(VALUES), diagnose=lambda _, s: s.value[-1], method=method
    )
    np.testing.assert_allclose(jax.jit(lambda: run(gain))(), jax.jit(lambda: run(None))(), atol=1e-9)


def test_a_nonlinear_model_shows_in_the_gradient():
    model, mean = Lorenz96(), jnp.asarray(3 * RNG.normal(size=N))
    gain = fixed_gain(window(model, mean, VALUES[0]))
    assert assimilate(window(model, mean + 1.0, VALUES[1]), gain).stats.gradient_norm > 1e-3

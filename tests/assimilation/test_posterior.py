"""Laplace, an ensemble of data assimilations and NUTS: one Gaussian where it is exact, comparable where it is not."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import (
    Background,
    GaussNewton,
    LinearOperator,
    Window,
    assimilate,
    covariance_root,
    observe,
    posterior_root,
)
from jaxsci.assimilation.derivative_check import gradient_relative_error
from jaxsci.assimilation.posterior import Perturbed, assimilate_ensemble, laplace, nuts
from jaxsci.core.errors import ConfigError

pytestmark = pytest.mark.usefixtures("x64")

solve = eqx.filter_jit(assimilate)
root_of = eqx.filter_jit(posterior_root)

RNG = np.random.default_rng(0)
N, STATIONS, TIMES = 3, 2, 3
F, H, FACTOR = 0.6 * RNG.normal(size=(N, N)), RNG.normal(size=(STATIONS, N)), RNG.normal(size=(N, N))
B, R = FACTOR @ FACTOR.T + 0.3 * np.eye(N), np.array([[1.0, 0.4], [0.4, 0.8]])
VALUES = RNG.normal(size=(TIMES, STATIONS))
SAMPLES = 2000


def linear_window() -> Window:
    matrix = jnp.asarray(F)
    observations = observe(jnp.asarray(VALUES), LinearOperator(jnp.asarray(H)), jnp.asarray(R))
    return Window(lambda x: matrix @ x, Background(jnp.ones(N), covariance_root(B)), observations)


def squared_window() -> Window:
    """One number, seen through its square: with a background near zero the posterior has two humps."""
    observations = observe(jnp.full((1, 1), 4.0), lambda x: x**2, jnp.full((1, 1), 1.0))
    return Window(lambda x: x, Background(jnp.full(1, 1.0), jnp.eye(1)), observations)


def exact(window) -> np.ndarray:
    jacobian = np.asarray(jax.jit(jax.jacfwd(window.departures))(window.origin))
    return np.linalg.inv(np.eye(N) + jacobian.T @ jacobian)


def draw(kind: str, window: Window, control: jax.Array):
    """Samples, and how many independent ones they are worth."""
    key = jax.random.key(0)
    if kind == "laplace":
        return np.asarray(eqx.filter_jit(laplace)(window, control, samples=SAMPLES, key=key)), SAMPLES
    if kind == "ensemble":
        run = eqx.filter_jit(lambda w: assimilate_ensemble(w, members=SAMPLES, key=key).control)
        return np.asarray(run(window)), SAMPLES
    chain = nuts(window, control, samples=SAMPLES, key=key)
    assert chain.divergences == 0
    return np.asarray(chain.samples), float(jnp.min(chain.effective))


@pytest.mark.parametrize("kind", ["laplace", "ensemble", "nuts"])
def test_linear_gaussian_posteriors_are_the_exact_one(kind):
    window = linear_window()
    solution = solve(window, GaussNewton(tolerance=1e-10))
    samples, worth = draw(kind, window, solution.control)
    covariance = exact(window)
    root = root_of(window, solution.control)
    np.testing.assert_allclose(root @ root.T, covariance, atol=1e-12)
    assert worth > SAMPLES / 3
    # Four standard errors: of a mean, sqrt(P_ii / worth); of a covariance, at most sqrt(2 / worth) max(P).
    np.testing.assert_allclose(samples.mean(0), solution.control, atol=4 * np.sqrt(covariance.max() / worth))
    np.testing.assert_allclose(np.cov(samples.T), covariance, atol=4 * np.sqrt(2 / worth) * covariance.max())


def test_a_member_solves_the_normal_equations_of_its_own_data():
    """Displaced by `noise`, the minimum of a linear problem moves by `-(A'A)^{-1} A' noise`."""
    window = linear_window()
    noise = jnp.asarray(RNG.normal(size=N + TIMES * STATIONS))
    jacobian = jax.jit(jax.jacfwd(window.residual))(window.origin)
    moved = solve(Perturbed(window, noise), GaussNewton(tolerance=1e-10)).control
    expected = solve(window, GaussNewton(tolerance=1e-10)).control - np.linalg.solve(
        jacobian.T @ jacobian, jacobian.T @ noise
    )
    np.testing.assert_allclose(moved, expected, atol=1e-10)
    problem = Perturbed(window, noise)
    error = jax.jit(lambda: gradient_relative_error(problem.cost, jnp.ones(N), key=jax.random.key(0)))()
    assert error < 1e-9  # central differences of a quadratic: rounding over the step of 1e-4


def test_nuts_finds_what_the_gaussian_misses():
    """Moments by quadrature: NUTS has them within sampling error, Laplace's variance is off by more than that."""
    window = squared_window()
    grid = np.linspace(-6, 6, 20001)[:, None]
    density = np.exp(-np.asarray(jax.vmap(window.cost)(jnp.asarray(grid))))
    density /= density.sum()
    control = solve(window, GaussNewton(50, 1e-10)).control
    samples = np.asarray(nuts(window, control, samples=SAMPLES, key=jax.random.key(1)).samples)[:, 0]
    near = grid[:, 0] > -1.0  # the hump of x near 2; the other, at x = -2, holds 2 % of the mass
    mean = (grid[near, 0] * density[near]).sum() / density[near].sum()
    variance = ((grid[near, 0] - mean) ** 2 * density[near]).sum() / density[near].sum()
    kept = samples[samples > -1.0]
    # Autocorrelated draws, worth at least a quarter of their number.
    worth = len(kept) / 4
    np.testing.assert_allclose(kept.mean(), mean, atol=4 * np.sqrt(variance / worth))
    np.testing.assert_allclose(kept.var(), variance, rtol=8 * np.sqrt(2 / worth))  # twice: heavier tails than normal
    assert abs(float(control[0]) - mean) > 4 * np.sqrt(variance / worth)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda w, k: nuts(w, w.origin, samples=0, key=k), "samples: expected one or more, got 0"),
        (lambda w, k: nuts(w, w.origin, samples=5, warmup=0, key=k), "warmup: expected one or more, got 0"),
        (lambda w, k: assimilate_ensemble(w, members=0, key=k), "members: expected one or more, got 0"),
    ],
)
def test_bad_input_is_one_line(call, message):
    with pytest.raises(ConfigError, match=f"^{message}") as caught:
        call(linear_window(), jax.random.key(0))
    assert "\n" not in str(caught.value)

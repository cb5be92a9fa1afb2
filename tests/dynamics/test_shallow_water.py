"""Shallow water: exact solutions, exact symmetries, what is conserved, and derivatives that are right."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import Array
from scipy.optimize import brentq

from jaxsci.assimilation.derivative_check import taylor_remainders
from jaxsci.core.errors import ConfigError, DataError
from jaxsci.core.rollout import rollout
from jaxsci.dynamics import ShallowWater, gaussian_bump

pytestmark = pytest.mark.usefixtures("x64")
G = 9.8


def last(model: ShallowWater, steps: int, q):
    return jax.jit(lambda q: jax.lax.fori_loop(0, steps, lambda _, p: model(p), q))(q)


def simple_wave(x: np.ndarray, t: float) -> np.ndarray:
    """(h, hu) of a wave running right, `u = 2 (c - c0)`: each depth moves at `3 c - 2 c0`, until it breaks."""
    depth = lambda y: 1 + 0.02 * np.sin(2 * np.pi * y)  # noqa: E731
    foot = x.copy()
    for _ in range(60):  # a contraction for times well before breaking
        foot = x - t * (3 * np.sqrt(G * depth(foot)) - 2 * np.sqrt(G))
    h = depth(foot)
    return np.stack([h, h * 2 * (np.sqrt(G * h) - np.sqrt(G))])


def wave_averages(n: int, t: float) -> np.ndarray:
    nodes, weights = np.polynomial.legendre.leggauss(5)
    points = (np.arange(n)[:, None] + 0.5 + nodes / 2) / n
    return (simple_wave(points, t) * weights / 2).sum(-1)


@pytest.mark.parametrize("axis", [1, 2])
def test_order_of_a_smooth_wave_against_its_exact_solution(axis):
    duration, errors, sizes = 0.1, [], (16, 32, 64)
    for n in sizes:
        steps = int(np.ceil(12 * (n / 16) ** (5 / 3)))  # the error in time falls as that in space
        h, hu = (np.repeat(a[:, None], 4, 1) for a in wave_averages(n, 0.0))
        q = jnp.asarray(np.stack([h, hu, 0 * h]))
        if axis == 2:
            q = jnp.stack([q[0].T, q[2].T, q[1].T])
        end = last(ShallowWater(1 / n, duration / steps, G), steps, q)[0]
        errors.append(np.abs(np.asarray(end if axis == 1 else end.T)[:, 0] - wave_averages(n, duration)[0]).mean())
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders.min() > 4.5, (errors, orders)


def test_dam_break_against_the_exact_riemann_solution():
    n, duration, high, low = 400, 0.03, 2.0, 1.0
    x = (np.arange(n) + 0.5) / n - 0.5
    h = np.where(np.abs(x) < 0.25, high, low)  # two dams; the right one is looked at
    model = ShallowWater(1 / n, 2e-4, G)
    q = jnp.asarray(np.repeat(np.stack([h, 0 * h, 0 * h])[..., None], 4, 2))
    found = np.asarray(last(model, 150, q)[:, :, 0])

    # Rarefaction to the left, shock to the right: the velocity behind both is the same (Stoker 1957, section 10.8).
    behind = lambda m: (m - low) * np.sqrt(G * (m + low) / (2 * m * low))  # noqa: E731
    excess = lambda m: 2 * (np.sqrt(G * high) - np.sqrt(G * m)) - behind(m)  # noqa: E731
    middle = float(brentq(excess, low, high))  # pyright: ignore[reportArgumentType]
    shock = behind(middle) * middle / (middle - low)
    speed = (x - 0.25) / duration
    fan = (2 * np.sqrt(G * high) - speed) ** 2 / (9 * G)
    exact = np.where(speed < shock, np.clip(fan, middle, high), low)
    right = x > 0
    # A shock is spread over two or three of the 200 cells and half its jump is missed in each; so are the kinks.
    assert np.abs(found[0] - exact)[right].mean() < 3 * (middle - low) / 2 / 200
    flat = right & (speed < 0.9 * shock) & (speed > behind(middle) - 0.8 * np.sqrt(G * middle))
    np.testing.assert_allclose(found[0, flat], middle, rtol=2e-3)  # what the start at the dam leaves behind
    np.testing.assert_allclose(found[1, flat] / found[0, flat], behind(middle), rtol=6e-3)
    steepest = np.argmin(np.diff(found[0])[right[1:]]) + np.argmax(right)
    assert abs(x[steepest] - (0.25 + shock * duration)) < 3 / n
    assert found[0].max() < high + 1e-3 and found[0].min() > low - 1e-3  # no oscillations


def test_published_bump_is_symmetric_conserved_and_in_the_published_range():
    q = gaussian_bump(jnp.zeros(2), 64)
    model = ShallowWater()
    model.check(q)
    end = last(model, 500, q)
    h = end[0]
    np.testing.assert_array_equal(h, h.T)
    np.testing.assert_array_equal(h, h[::-1])
    np.testing.assert_array_equal(end[1], end[2].T)
    np.testing.assert_array_equal(end[1], -end[1][::-1])
    assert abs(h.sum() / q[0].sum() - 1) < 1e-12
    assert np.abs(end[1:].sum((1, 2))).max() < 1e-12
    np.testing.assert_allclose([h.min(), h.max()], [0.9033, 1.0729], atol=1e-4)  # the digits published


def test_step_commutes_with_translation():
    model, q = ShallowWater(1 / 32, 2e-3), gaussian_bump(jnp.array([0.1, -0.2]), 32, width=0.1)
    moved = last(model, 20, jnp.roll(q, (8, -5), (1, 2)))
    # The same operations in every cell; compiled loops may round their last few cells otherwise.
    np.testing.assert_allclose(moved, jnp.roll(last(model, 20, q), (8, -5), (1, 2)), rtol=0, atol=1e-13)


def test_water_at_rest_stays():
    rest = jnp.zeros((3, 8, 8)).at[0].set(1.7)
    np.testing.assert_allclose(ShallowWater(1 / 8, 5e-3)(rest), rest, atol=1e-15)  # one unit in the last place


def smooth_state():
    return gaussian_bump(jnp.array([0.1, -0.2]), 12, width=0.15).at[1].add(0.3)


def forward(q):
    return rollout(ShallowWater(1 / 12, 4e-3), 8, checkpoint=True)(q)[-1]


def test_adjoint_is_the_transpose_of_the_tangent():
    q = smooth_state()
    v, w = jax.random.normal(jax.random.key(0), (2, *q.shape))
    _, tangent = jax.jit(lambda v: jax.jvp(forward, (q,), (v,)))(v)
    adjoint = jax.jit(lambda w: jax.vjp(forward, q)[1](w)[0])(w)
    np.testing.assert_allclose(jnp.vdot(tangent, w), jnp.vdot(v, adjoint), rtol=1e-10)  # the bound for every model


def test_taylor_remainder_is_of_second_order():
    q = smooth_state()
    direction = jax.random.normal(jax.random.key(1), (q.size,)) / 10
    cost = lambda v: jnp.sum(jnp.square(forward(v.reshape(q.shape))))  # noqa: E731
    steps = jnp.array([1e-3, 1e-4, 1e-5])
    remainders = jax.jit(lambda v: taylor_remainders(cost, v, direction, steps))(q.ravel())
    # The largest of two wave speeds has kinks, which a step may cross: there the slope is a little off two.
    np.testing.assert_allclose(np.log10(remainders[:-1] / remainders[1:]), 2.0, atol=0.2)


def test_gradient_at_rest_is_finite():
    rest = jnp.zeros((3, 6, 6)).at[0].set(1.0)
    model = ShallowWater(1 / 6, 5e-3)
    gradient = jax.grad(lambda q: jnp.sum(model(q)[0] * jnp.arange(6.0)[:, None]))(rest)
    assert jnp.isfinite(gradient).all() and jnp.abs(gradient).max() > 0


@pytest.mark.parametrize("weights", ["js", "z"])
def test_gradient_in_single_precision_is_that_in_double(weights: Literal["js", "z"]):
    """Most of the plane is flat: the weights of the reconstruction are then products of very small numbers."""

    def gradient(dtype: Any) -> Array:
        model = ShallowWater(1 / 32, 2e-3, weights=weights)
        start = gaussian_bump(jnp.array([0.1, -0.2], dtype), 32, width=0.08).astype(dtype)
        return jax.jit(jax.grad(lambda q: jnp.sum(jnp.square(model(model(q))[1:]))))(start)

    exact = np.asarray(gradient(jnp.float64))
    np.testing.assert_allclose(gradient(jnp.float32), exact, atol=1e-3 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q: q.at[0, 2, 3].set(-0.1), "depth above 0"),
        (lambda q: q.at[1, 0, 0].set(jnp.nan), "finite"),
        (lambda q: q.at[1].set(100.0), "Courant"),
        (lambda q: q[:2], r"\(3, nx, ny\)"),
    ],
)
def test_bad_states_are_named(change, message):
    with pytest.raises(DataError, match=message):
        ShallowWater(1 / 12, 4e-3).check(change(smooth_state()))


def test_a_negative_step_is_refused():
    with pytest.raises(ConfigError, match="dt"):
        ShallowWater(dt=-1e-3)

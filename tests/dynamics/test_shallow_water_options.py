"""Options of the shallow water solver: the hll flux, WENO-Z, the difference form, an uneven bottom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import brentq

from jaxsci.core.errors import DataError
from jaxsci.dynamics import ShallowWater, gaussian_bump
from jaxsci.dynamics.weno import weno5_js, weno5_z

pytestmark = pytest.mark.usefixtures("x64")
G = 9.8


def last(model: ShallowWater, steps: int, q):
    return jax.jit(lambda q: jax.lax.fori_loop(0, steps, lambda _, p: model(p), q))(q)


def diagonal_wave(n: int, t: float) -> np.ndarray:
    """Point values of a simple wave along the diagonal: each depth moves at `3 c - 2 c0` in the direction (1, 1)."""
    x = (np.arange(n) + 0.5) / n
    along = (x[:, None] + x[None, :]) / np.sqrt(2)
    depth = lambda s: 1 + 0.02 * np.sin(2 * np.pi * np.sqrt(2) * s)  # noqa: E731
    foot = along.copy()
    for _ in range(60):  # a contraction for times well before breaking
        foot = along - t * (3 * np.sqrt(G * depth(foot)) - 2 * np.sqrt(G))
    h = depth(foot)
    momentum = h * 2 * (np.sqrt(G * h) - np.sqrt(G)) / np.sqrt(2)
    return np.stack([h, momentum, momentum])


@pytest.mark.parametrize(("form", "least", "most"), [("difference", 4.5, 6.0), ("volume", 1.8, 4.5)])
def test_order_in_two_dimensions(form, least, most):
    duration, errors = 0.05, []
    for n in (16, 32):
        steps = int(np.ceil(8 * (n / 16) ** (5 / 3)))  # the error in time falls as that in space
        model = ShallowWater(1 / n, duration / steps, G, form=form, weights="z")
        end = last(model, steps, jnp.asarray(diagonal_wave(n, 0.0)))
        errors.append(np.abs(np.asarray(end[0]) - diagonal_wave(n, duration)[0]).mean())
    order = np.log2(errors[0] / errors[1])
    # Face means against face states are second order; at these sizes the fifth-order part still shows.
    assert least < order < most, (errors, order)


def test_both_weightings_are_exact_for_what_each_stencil_is():
    cells = np.arange(-2, 3)
    averages = [3 * c**2 + 1 / 4 - 2 * c + 0.5 for c in cells]  # cell means of 3 x^2 - 2 x + 1/2 (unit cells)
    for value in (weno5_js, weno5_z):
        np.testing.assert_allclose(value(*map(jnp.asarray, averages)), 3 / 4 - 1 + 0.5, rtol=1e-12)


def test_dam_break_by_hll_against_the_exact_riemann_solution():
    n, duration, high, low = 400, 0.03, 2.0, 1.0
    x = (np.arange(n) + 0.5) / n - 0.5
    h = np.where(np.abs(x) < 0.25, high, low)
    model = ShallowWater(1 / n, 2e-4, G, flux="hll")
    found = np.asarray(last(model, 150, jnp.asarray(np.repeat(np.stack([h, 0 * h, 0 * h])[..., None], 3, 2)))[0, :, 0])
    behind = lambda m: (m - low) * np.sqrt(G * (m + low) / (2 * m * low))  # noqa: E731
    excess = lambda m: 2 * (np.sqrt(G * high) - np.sqrt(G * m)) - behind(m)  # noqa: E731
    middle = float(brentq(excess, low, high))  # pyright: ignore[reportArgumentType]
    shock = behind(middle) * middle / (middle - low)
    speed = (x - 0.25) / duration
    exact = np.where(speed < shock, np.clip((2 * np.sqrt(G * high) - speed) ** 2 / (9 * G), middle, high), low)
    right = x > 0
    # As for the other flux: a shock is spread over two or three of 200 cells, half its jump missed in each.
    assert np.abs(found - exact)[right].mean() < 3 * (middle - low) / 2 / 200
    assert found.max() < high + 1e-3 and found.min() > low - 1e-3


def test_hll_keeps_symmetry_and_mass():
    q = gaussian_bump(jnp.zeros(2), 16, width=0.1)
    end = last(ShallowWater(1 / 16, 4e-3, flux="hll"), 20, q)
    np.testing.assert_array_equal(end[0], end[0].T)
    np.testing.assert_allclose(end[0], end[0][::-1], rtol=0, atol=1e-13)  # `a - b` and `b - a` in other places
    assert abs(end[0].sum() / q[0].sum() - 1) < 1e-13


def hill(n: int):
    return 0.4 * (gaussian_bump(jnp.array([0.1, -0.2]), n, width=0.12)[0] - 1)


@pytest.mark.parametrize("flux", ["rusanov", "hll"])
def test_lake_at_rest_over_a_hill(flux):
    bottom = hill(16)
    rest = jnp.zeros((3, 16, 16)).at[0].set(1.0 - bottom)
    end = last(ShallowWater(1 / 16, 4e-3, flux=flux, bottom=bottom), 50, rest)
    np.testing.assert_allclose(end, rest, atol=1e-13)  # rounding of pressures of about five, 50 times


def test_a_flat_bottom_of_any_height_changes_nothing_but_rounding():
    q = gaussian_bump(jnp.zeros(2), 16, width=0.1)
    plain = last(ShallowWater(1 / 16, 4e-3), 20, q)
    raised = last(ShallowWater(1 / 16, 4e-3, bottom=jnp.full((16, 16), 0.3)), 20, q)
    np.testing.assert_allclose(raised, plain, atol=1e-12)


@pytest.mark.slow
def test_mass_is_conserved_over_a_hill_and_the_scheme_converges():
    ends = {}
    for n in (12, 24, 48):
        model = ShallowWater(1 / n, 0.1 / n, G, bottom=hill(n))
        q = gaussian_bump(jnp.zeros(2), n, width=0.15, amplitude=0.1).at[0].add(-hill(n))
        ends[n] = last(model, n // 2, q)
        assert abs(ends[n][0].sum() / q[0].sum() - 1) < 1e-13
    coarse = lambda h: h.reshape(h.shape[0] // 2, 2, -1, 2).mean((1, 3))  # noqa: E731
    change = [float(jnp.abs(coarse(ends[2 * n][0]) - ends[n][0]).mean()) for n in (12, 24)]
    assert change[0] / change[1] > 3.5  # second order: four, less what coarse grids miss


def test_impossible_combinations_are_refused():
    with pytest.raises(DataError, match="form"):
        ShallowWater(form="difference", flux="hll")

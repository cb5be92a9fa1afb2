"""Bilinear interpolation is exact for bilinear fields, on any orientation of the grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background, Window, observe
from jaxsci.assimilation.derivative_check import taylor_remainders
from jaxsci.assimilation.grid_operator import bilinear
from jaxsci.core.errors import DataError

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
LATITUDE, LONGITUDE = np.arange(60.0, 48.0, -1.5), np.arange(-20.0, -5.0, 1.5)
STATIONS = np.stack([RNG.uniform(49.5, 60.0, 20), RNG.uniform(-20.0, -6.5, 20)], axis=1)


def plane(latitude, longitude):
    """Linear in each coordinate, with the cross term that bilinear interpolation still has exactly."""
    return 3.0 + 0.5 * latitude - 2.0 * longitude + 0.1 * latitude * longitude


@pytest.mark.parametrize("flip", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
def test_exact_for_bilinear_fields(flip):
    latitude, longitude = LATITUDE[:: flip[0]], LONGITUDE[:: flip[1]]
    field = plane(*np.meshgrid(latitude, longitude, indexing="ij"))
    operator = bilinear(latitude, longitude, STATIONS)
    expected = plane(STATIONS[:, 0], STATIONS[:, 1])
    np.testing.assert_allclose(operator(jnp.asarray(field)), expected, rtol=1e-12)  # rounding of values near 200
    np.testing.assert_array_equal(operator(jnp.asarray(field.ravel())), operator(jnp.asarray(field)))


def test_grid_points_are_read_off():
    """Corners of the grid included: nothing is read from beyond the edge."""
    field = jnp.asarray(RNG.normal(size=(len(LATITUDE), len(LONGITUDE))))
    rows, columns = np.array([0, 0, -1, -1, 3]), np.array([0, -1, 0, -1, 4])
    operator = bilinear(LATITUDE, LONGITUDE, np.stack([LATITUDE[rows], LONGITUDE[columns]], axis=1))
    np.testing.assert_allclose(operator(field), field[rows, columns], rtol=1e-14)


def test_weights_are_shares_of_one():
    weights = np.asarray(bilinear(LATITUDE, LONGITUDE, STATIONS).weights)
    assert (weights >= 0).all()
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-14)


def test_error_falls_with_the_square_of_the_spacing():
    def error(count):
        latitude, longitude = np.linspace(48, 60, count), np.linspace(-20, -5, count)
        field = np.sin(latitude / 3)[:, None] * np.cos(longitude / 4)
        exact = np.sin(STATIONS[:, 0] / 3) * np.cos(STATIONS[:, 1] / 4)
        return np.abs(bilinear(latitude, longitude, STATIONS)(jnp.asarray(field)) - exact).max()

    # A maximum over few stations: the order scatters with where in its cell each one lies.
    assert np.log2(error(41) / error(161)) / 2 == pytest.approx(2.0, abs=0.3)


def test_a_nonlinear_operator_has_the_right_gradient():
    """Wind speed from two components between grid points, of fields made from few modes."""
    operator = bilinear(LATITUDE, LONGITUDE, STATIONS)
    size, modes = len(LATITUDE) * len(LONGITUDE), 6
    basis = jnp.asarray(RNG.normal(size=(2, size, modes)))
    rows = jax.vmap(jax.vmap(operator, 1, 1))(basis)  # (2, stations, modes): the operator on each mode

    def speed(x):
        return jnp.sqrt(jnp.sum((rows @ x) ** 2, axis=0) + 1.0)

    direct = jnp.sqrt(sum(operator(basis[i] @ jnp.ones(modes)) ** 2 for i in range(2)) + 1.0)
    np.testing.assert_allclose(speed(jnp.ones(modes)), direct, rtol=1e-12)
    observations = observe(jnp.full((2, 20), 3.0), speed, jnp.eye(20))
    window = Window(lambda x: 0.9 * x, Background(jnp.ones(modes), jnp.eye(modes)), observations)
    direction = jnp.ones(modes) / np.sqrt(modes)
    remainders = jax.jit(lambda v: taylor_remainders(window.cost, v, direction, jnp.logspace(-2, -6, 5)))(
        0.1 * jnp.arange(modes)
    )
    # 2 up to the third-order term at steps of 1e-2, and up to rounding, 1e-13 of costs near 100, at 1e-6.
    np.testing.assert_allclose(-np.diff(np.log10(remainders)), 2.0, atol=0.15)


@pytest.mark.parametrize(
    "latitude, stations, message",
    [
        (LATITUDE, [[55.0, 3.0]], "stations: expected longitude from -20 to -6.5, got 3 at station 0"),
        (LATITUDE, [[50.0, -8.0], [70.0, -8.0]], "stations: expected latitude from 49.5 to 60, got 70 at station 1"),
        (LATITUDE, [[np.nan, -8.0]], "stations: expected latitude from 49.5 to 60, got nan at station 0"),
        (LATITUDE[[0, 2, 1]], [[59.0, -8.0]], "latitude: expected two or more values that only rise or only fall"),
    ],
)
def test_bad_input_is_one_line(latitude, stations, message):
    with pytest.raises(DataError, match=f"^{message}") as caught:
        bilinear(latitude, LONGITUDE, np.asarray(stations))
    assert "\n" not in str(caught.value)

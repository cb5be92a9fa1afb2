"""Exponential integrators: order on stiff, dispersive and dense problems, exactness, gradients through everything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.dynamics.etdrk import Order, dense_tableau, diagonal_tableau, etdrk_step
from jaxsci.dynamics.periodic import derivative_symbol, two_thirds, wavenumbers

pytestmark = pytest.mark.usefixtures("x64")
LENGTH, POINTS = 2 * np.pi, 128


def dispersive_error(steps: int, reference: jax.Array, real_only: bool = False) -> float:
    return float(jnp.abs(dispersive(steps, real_only) - reference).max())


def dispersive(steps: int, real_only: bool = False) -> jax.Array:
    """u_t = -u u_x - 0.05 u_xxx + 0.05 u_xx to time 1, from sin x + cos(2x)/2: a complex symbol."""
    k = wavenumbers(POINTS, LENGTH)
    tableau = diagonal_tableau(0.05j * k**3 - 0.05 * k**2, 1.0 / steps)
    if real_only:
        tableau = jax.tree.map(lambda w: w if np.allclose(np.abs(w[0]), 1) else np.real(w) + 0j, tableau)
    slope = jnp.asarray(-0.5 * derivative_symbol(POINTS, LENGTH) * two_thirds(POINTS))
    step = etdrk_step(tableau, lambda v: slope * jnp.fft.rfft(jnp.fft.irfft(v, POINTS) ** 2))
    x = LENGTH * jnp.arange(POINTS) / POINTS
    v = jnp.fft.rfft(jnp.sin(x) + 0.5 * jnp.cos(2 * x))
    return jnp.fft.irfft(jax.jit(lambda v: jax.lax.fori_loop(0, steps, lambda _, w: step(w), v))(v), POINTS)


def test_complex_symbols_keep_the_fourth_order():
    reference = dispersive(4096)
    errors = [dispersive_error(n, reference) for n in (16, 32, 64, 128, 256)]
    # Measured for the same problem elsewhere: 2.7e-4 3.0e-5 2.5e-6 1.7e-7 1.0e-8, given to two digits.
    np.testing.assert_allclose(errors, [2.7e-4, 3.0e-5, 2.5e-6, 1.7e-7, 1.0e-8], rtol=0.05)
    assert errors[2] / errors[3] > 12 and errors[3] / errors[4] > 12


def test_the_real_parts_of_the_weights_would_not():
    reference = dispersive(4096)
    errors = [dispersive_error(n, reference, real_only=True) for n in (64, 128, 256)]
    np.testing.assert_allclose(errors, [4.5e-2, 2.4e-2, 1.3e-2], rtol=0.05)  # first order, as measured elsewhere


def dense_problem() -> tuple[jax.Array, jax.Array]:
    matrix = jnp.array([[-2.0, 1.5, 0.0], [-1.5, -0.5, 0.4], [0.2, 0.0, -5.0]])
    return matrix, jnp.array([1.0, -0.5, 0.3])


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["diagonal", "dense"])
def test_order(order, kind):
    matrix, start = dense_problem()
    if kind == "diagonal":
        matrix = jnp.array([-2.0, 0.0, -5.0])
    build = diagonal_tableau if kind == "diagonal" else dense_tableau
    nonlinear = lambda v: jnp.stack([v[1] * v[2], jnp.sin(v[0]), v[0] * v[1]])  # noqa: E731

    def run(steps: int, of_order: Order) -> jax.Array:
        step = etdrk_step(build(matrix, 1.0 / steps, of_order), nonlinear)
        return jax.jit(lambda v: jax.lax.fori_loop(0, steps, lambda _, w: step(w), v))(start)

    reference = run(2000, 4)
    errors = np.array([jnp.linalg.norm(run(n, order) - reference) for n in (40, 80)])
    np.testing.assert_allclose(np.log2(errors[0] / errors[1]), order, atol=0.35)  # the next term of the error


def test_without_a_nonlinear_term_any_step_is_exact():
    matrix, start = dense_problem()
    step = etdrk_step(dense_tableau(matrix, 3.0), lambda v: jnp.zeros_like(v))
    np.testing.assert_allclose(step(start), jax.scipy.linalg.expm(3.0 * matrix) @ start, rtol=1e-12)


def test_a_constant_forcing_is_exact_and_zero_symbols_are_runge_kutta():
    z = jnp.array([-3.0, 0.0])
    force = jnp.array([2.0, 1.0])
    end = etdrk_step(diagonal_tableau(z, 0.7), lambda v: force)(jnp.array([1.0, 1.0]))
    np.testing.assert_allclose(end, [np.exp(-2.1) + 2 / 3 * (1 - np.exp(-2.1)), 1.7], rtol=1e-14)
    from jaxsci.dynamics import runge_kutta_4

    f = lambda v: jnp.stack([v[1], -jnp.sin(v[0])])  # noqa: E731
    u = jnp.array([1.0, 0.2])
    classical = runge_kutta_4(f, 0.3)(u)
    np.testing.assert_allclose(etdrk_step(diagonal_tableau(jnp.zeros(2), 0.3), f)(u), classical, rtol=1e-14)


def test_gradients_with_respect_to_symbol_and_step_equal_differences():
    start = jnp.array([1.0, -0.5, 0.3])

    def end(symbol: jax.Array, dt: jax.Array) -> jax.Array:
        step = etdrk_step(diagonal_tableau(symbol, dt), lambda v: jnp.roll(v, 1) ** 2)
        return jnp.sum(jax.lax.fori_loop(0, 5, lambda _, v: step(v), start) ** 3)

    symbol, dt, direction = jnp.array([-4.0, 0.0, -100.0]), jnp.asarray(0.1), jnp.array([1.0, -2.0, 3.0])
    _, along = jax.jvp(end, (symbol, dt), (direction, jnp.asarray(0.3)))
    h = 1e-5
    difference = (end(symbol + h * direction, dt + h * 0.3) - end(symbol - h * direction, dt - h * 0.3)) / (2 * h)
    np.testing.assert_allclose(along, difference, rtol=1e-7)  # h^2 and rounding over h
    assert np.isfinite(jax.jit(jax.jacrev(end))(symbol, dt)).all()

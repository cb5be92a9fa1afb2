"""The checks themselves: they pass right gradients and catch wrong ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation.derivative_check import gradient_relative_error, taylor_remainders

pytestmark = pytest.mark.usefixtures("x64")

POINT = np.linspace(-1, 1, 5)


# Compiled whole, with the cost a constant of the program
relative_error = jax.jit(gradient_relative_error, static_argnums=0)
remainders_of = jax.jit(taylor_remainders, static_argnums=0)


def quartic(x):
    return jnp.sum(x**4) + jnp.prod(1 + x / 3)


@jax.custom_vjp
def forgetful(x):
    """The quartic with one component missing from its gradient."""
    return quartic(x)


forgetful.defvjp(lambda x: (quartic(x), x), lambda x, g: (g * jax.grad(quartic)(x).at[0].set(0.0),))


def test_central_differences_agree_with_a_right_gradient():
    # Truncation h^2 f''' / f' = 1e-8 x 10; rounding 1e-16 / h = 1e-12.
    assert relative_error(quartic, jnp.asarray(POINT), key=jax.random.key(0)) < 1e-6


def test_central_differences_catch_a_missing_component():
    assert relative_error(forgetful, jnp.asarray(POINT), key=jax.random.key(0)) > 0.1


def test_error_is_relative():
    scaled = lambda x: 1e6 * quartic(x)  # noqa: E731
    found, expected = (relative_error(f, jnp.asarray(POINT), key=jax.random.key(1)) for f in (scaled, quartic))
    np.testing.assert_allclose(found, expected, rtol=1e-2)  # equal up to the rounding of the differences


def test_remainder_is_the_second_derivative():
    direction = jnp.array([1.0, 0.0, 0.0, 0.0, 0.0])
    steps = jnp.array([1e-2, 1e-3, 1e-4])
    remainders = remainders_of(quartic, jnp.asarray(POINT), direction, steps)
    curvature = direction @ jax.hessian(quartic)(POINT) @ direction
    # The next term is h / 3 x f''' / f'' = h x 4 / 3 relative; rounding 1e-16 / h^2 = 1e-8.
    np.testing.assert_allclose(remainders, curvature / 2 * steps**2, rtol=2e-2)
    np.testing.assert_allclose(remainders[2], curvature / 2 * 1e-8, rtol=2e-4)


def test_remainder_of_a_wrong_derivative_is_of_first_order():
    @jax.custom_jvp
    def wrong(x):
        return quartic(x)

    wrong.defjvp(lambda p, t: (quartic(p[0]), 0.9 * jax.jvp(quartic, p, t)[1]))
    steps = jnp.array([1e-2, 1e-3, 1e-4, 1e-5])
    orders = -np.diff(np.log10(remainders_of(wrong, jnp.asarray(POINT), jnp.ones(5), steps)))
    np.testing.assert_allclose(orders[1:], 1.0, atol=0.1)

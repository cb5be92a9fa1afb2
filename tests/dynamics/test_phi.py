"""Phi functions: their series and recurrence, values far out, derivatives everywhere, and the dense case."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import expm

from jaxsci.dynamics.phi import phi_functions, phi_of_matrix

POINTS = [0.0, -1e-8, -1.0, -3.99, -4.01, 2.0, -1e3, 1e3j, 1 + 2j, 4j, -30 + 40j]


def exact(z: complex, k: int) -> complex:
    """The k-th function as the mean over a circle of radius one around z of the definition, in double precision.

    Where z is within 2 of the origin the series instead: the circle would come too near to zero.
    """
    if abs(z) < 2:
        return sum(z**j / math.factorial(j + k) for j in range(40))
    w = z + np.exp(2j * np.pi * (np.arange(64) + 0.5) / 64)
    value = np.exp(w)
    for j in range(k):
        value = (value - 1 / math.factorial(j)) / w
    return value.mean()


@pytest.mark.parametrize("z", POINTS)
@pytest.mark.parametrize("k", range(5))
def test_values_in_double(z, k, x64):
    host = phi_functions(np.asarray(z), 4)[k]
    np.testing.assert_allclose(host, exact(z, k), rtol=2e-13, atol=0)  # a few hundred units of rounding
    np.testing.assert_allclose(phi_functions(jnp.asarray(z), 4)[k], host, rtol=1e-12, atol=0)


@pytest.mark.parametrize("z", POINTS)
def test_values_in_single(z):
    kind = np.complex64 if isinstance(z, complex) else np.float32
    found = phi_functions(jnp.asarray(z, kind), 4)
    for k in range(5):  # the naive formula is wrong by 28 % on such symbols
        np.testing.assert_allclose(found[k], exact(complex(np.asarray(z, kind)), k), rtol=2e-5)


@pytest.mark.parametrize("z", [0.0, -1e-8, -1.0, -3.99, -4.01, -1e3])
@pytest.mark.parametrize("k", range(4))
def test_first_and_second_derivatives(z, k, x64):
    """Against the integral form `phi_k = int_0^1 e^((1-s)z) s^(k-1)/(k-1)! ds`, differentiated under the integral."""
    f = lambda x: phi_functions(x, 4)[k]  # noqa: E731
    s, w = np.polynomial.legendre.leggauss(400)
    s, w = (s + 1) / 2, w / 2
    for order, derivative in enumerate((jax.grad(f), jax.grad(jax.grad(f))), start=1):
        if k == 0:
            expected = np.exp(z)
        else:
            expected = np.sum(w * np.exp((1 - s) * z) * (1 - s) ** order * s ** (k - 1)) / math.factorial(k - 1)
        # The second differentiates the first's quotient, which loses a digit or two where the forms meet.
        np.testing.assert_allclose(derivative(jnp.asarray(z)), expected, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("z", [0.0, -1.0, -1e3])
def test_derivatives_in_single_are_finite_and_right(z):
    slopes = [jax.grad(lambda x, k=k: phi_functions(x, 3)[k])(jnp.float32(z)) for k in range(4)]
    with jax.enable_x64(True):
        exact = [jax.grad(lambda x, k=k: phi_functions(x, 3)[k])(jnp.float64(z)) for k in range(4)]
    np.testing.assert_allclose(slopes, exact, rtol=2e-5, atol=1e-30)  # single precision through one quotient


def test_complex_derivative_is_that_of_the_holomorphic_function(x64):
    z, h = 1e3j + 0.5, 1e-4
    f = lambda x: phi_functions(x, 3)[3]  # noqa: E731
    found = jax.grad(f, holomorphic=True)(jnp.asarray(z))
    np.testing.assert_allclose(
        found, (f(jnp.asarray(z + h)) - f(jnp.asarray(z - h))) / (2 * h), rtol=1e-5
    )  # h^2, rounding/h


def test_the_matrix_functions_are_those_of_its_eigenvalues(x64):
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    z = np.array([-20.0, -1.0, 0.0, 0.3, 2.0])
    found = phi_of_matrix(jnp.asarray(basis * z @ basis.T), 3)
    for k, values in enumerate(phi_functions(z, 3)):
        np.testing.assert_allclose(found[k], basis * values @ basis.T, atol=1e-13)  # rounding of expm
    np.testing.assert_allclose(found[0], expm(basis * z @ basis.T), atol=1e-13)

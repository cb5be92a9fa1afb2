"""Square roots of covariances, what is refused as one, and the control transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.assimilation import Background, covariance_root
from jaxsci.assimilation.background import symmetric_root, tangent_matrix
from jaxsci.core.errors import DataError
from jaxsci.dynamics import Lorenz63

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
FACTOR = RNG.normal(size=(6, 6))
# Rounding of an eigendecomposition of a matrix with entries of order ten.
ROUNDING = 1e-12


@pytest.mark.parametrize("rank", [6, 2])
def test_root_is_symmetric_and_squares_to_the_covariance(rank):
    covariance = FACTOR[:, :rank] @ FACTOR[:, :rank].T
    root = covariance_root(covariance)
    np.testing.assert_allclose(root @ root, covariance, atol=ROUNDING)
    np.testing.assert_allclose(root, root.T, atol=ROUNDING)
    # sqrt of the null eigenvalues, 1e-16 after rounding, is 1e-8
    assert np.linalg.eigvalsh(root).min() > -1e-7
    np.testing.assert_allclose(jax.jit(symmetric_root)(jnp.asarray(covariance)), root, atol=1e-7)


def test_root_of_a_diagonal_is_that_of_its_entries():
    np.testing.assert_allclose(covariance_root(np.diag([4.0, 9.0, 0.0])), np.diag([2.0, 3.0, 0.0]), atol=ROUNDING)


@pytest.mark.parametrize(
    ("covariance", "said"),
    [
        (np.ones((2, 3)), "expected a square matrix, got shape (2, 3)"),
        (np.ones(3), "expected a square matrix, got shape (3,)"),
        (np.array([[1.0, np.nan], [np.nan, 1.0]]), "expected finite entries"),
        (np.array([[1.0, np.inf], [np.inf, 1.0]]), "expected finite entries"),
        (np.array([[1.0, 0.5], [0.4, 1.0]]), "expected a symmetric matrix, it differs from its transpose by 0.1"),
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "the smallest eigenvalue is -1"),
        (np.zeros((2, 2)), "expected positive semi-definite"),
        (-np.eye(2), "expected positive semi-definite"),
    ],
)
def test_what_is_no_covariance(covariance, said):
    with pytest.raises(DataError) as caught:
        covariance_root(covariance)
    assert str(caught.value).startswith("covariance: ") and said in str(caught.value)


def test_symmetric_root_takes_what_rounding_made_negative():
    covariance = FACTOR[:, :2] @ FACTOR[:, :2].T
    root = symmetric_root(jnp.asarray(covariance - 1e-13 * np.eye(6)))
    assert np.isfinite(root).all()
    np.testing.assert_allclose(root @ root, covariance, atol=ROUNDING)


def test_controls_move_a_pytree_by_the_root():
    mean = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0], [4.0]])}
    root = jnp.asarray(RNG.normal(size=(4, 3)))
    background = Background(mean, root)
    assert background.controls == 3
    moved = background(jnp.array([1.0, 0.0, -2.0]))
    shift = np.asarray(root[:, 0] - 2 * root[:, 2])
    np.testing.assert_allclose(moved["a"], np.array([1, 2]) + shift[:2], atol=ROUNDING)
    np.testing.assert_allclose(moved["b"], np.array([[3], [4]]) + shift[2:, None], atol=ROUNDING)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, background(jnp.zeros(3)), mean))


def test_states_drawn_through_the_root_have_its_covariance():
    background = Background(jnp.zeros(6), covariance_root(FACTOR @ FACTOR.T))
    draws = jax.vmap(background)(jax.random.normal(jax.random.key(0), (200_000, 6)))
    # Standard error of a covariance from 200 000 draws: sqrt(2 / 200 000) = 0.3 % of the variances.
    size = np.abs(FACTOR @ FACTOR.T).max()
    np.testing.assert_allclose(np.cov(draws.T), FACTOR @ FACTOR.T, atol=5 * 0.0032 * size)


def test_tangent_matrix_is_the_jacobian_of_the_step():
    model, at = jax.jit(Lorenz63()), jnp.array([1.0, -2.0, 20.0])
    h = 1e-6
    columns = [(model(at + h * e) - model(at - h * e)) / (2 * h) for e in jnp.eye(3)]
    # Central differences: truncation h^2, rounding 1e-16 x 20 / h.
    np.testing.assert_allclose(tangent_matrix(model, at), np.stack(columns, 1), atol=1e-8)
    # Delay states are flattened newest day first.
    matrix = jnp.asarray(RNG.normal(size=(2, 2)))
    shift = lambda z: jnp.stack([matrix @ z[0], z[0]])  # noqa: E731
    expected = np.block([[np.asarray(matrix), np.zeros((2, 2))], [np.eye(2), np.zeros((2, 2))]])
    np.testing.assert_allclose(tangent_matrix(shift, jnp.ones((2, 2))), expected, atol=ROUNDING)

"""Conjugate gradients for the inner systems of Gauss-Newton: symmetric, positive definite, known by their products."""

from collections.abc import Callable

import jax
import lineax
from jaxtyping import Array, Float


def conjugate_gradient(
    product: Callable[[Array], Array], right: Float[Array, " n"], *, tolerance: float, max_steps: int
) -> Float[Array, " n"]:
    """`x` with `product(x) = right`, as far as `max_steps` lead: a truncated solution still is a descent direction.

    `tolerance` is of the residual relative to `right`. Pure, jittable. Source: Hestenes and Stiefel 1952, J. Res. Natl.
    Bur. Stand. 49, 409-436; computed by lineax.
    """
    operator = lineax.FunctionLinearOperator(
        product, jax.ShapeDtypeStruct(right.shape, right.dtype), lineax.positive_semidefinite_tag
    )
    solver = lineax.CG(rtol=tolerance, atol=tolerance**2, max_steps=max_steps)
    return lineax.linear_solve(operator, right, solver, throw=False).value

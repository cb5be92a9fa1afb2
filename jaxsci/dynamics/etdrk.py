"""Exponential Runge-Kutta steps (ETDRK1 to 4): the linear term exactly, the rest explicitly.

For `dv/dt = L v + N(v)` with L diagonal (the Fourier symbol, complex where there is advection or dispersion) or dense.
Gradients with respect to L, the step and the state are exact.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.dynamics.phi import phi_functions, phi_of_matrix

Order = Literal[1, 2, 3, 4]


class Row(NamedTuple):
    """One stage, or the end of the step: `propagator v + sum_j weights[j] N(stage j)`; `None` is a weight of zero."""

    propagator: Any
    weights: tuple[Any, ...]


class Tableau(NamedTuple):
    """The rows of a method for one operator and one step length; stage 0 is the state itself."""

    rows: tuple[Row, ...]

    def astype(self, dtype: Any) -> "Tableau":
        """Weights in the real precision `dtype`, complex ones in the complex one beside it."""
        beside = jnp.result_type(dtype, jnp.complex64)
        return jax.tree.map(lambda w: jnp.asarray(w, beside if jnp.iscomplexobj(w) else dtype), self)


def diagonal_tableau(symbol: Any, dt: Any, order: Order = 4) -> Tableau:
    """Weights for a diagonal operator, given by its diagonal `symbol`, real or complex.

    Where `symbol` and `dt` are numpy or plain numbers the weights are computed on the host in double precision,
    whatever the precision of the state; otherwise they may be traced and differentiated with respect to both.

    Source: Cox and Matthews 2002, J. Comput. Phys. 176, 430-455, equations 4, 22, 23-25 and 26-29.
    """
    z = symbol * dt
    one, half = phi_functions(z, 3), phi_functions(z / 2, 1)
    return _tableau(one, half, dt, order, lambda a, b: a * b)


def dense_tableau(matrix: Float[Array, "d d"], dt: Any, order: Order = 4) -> Tableau:
    """The same for a dense matrix (Lorenz systems, latent models)."""
    one, half = phi_of_matrix(matrix * dt, 3), phi_of_matrix(matrix * dt / 2, 1)
    return _tableau(one, half, dt, order, lambda a, b: a @ b)


def etdrk_step(tableau: Tableau, nonlinear: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """The step map `v -> v(t + dt)` in the space where the operator of `tableau` acts."""

    def step(v: Array) -> Array:
        slopes = [nonlinear(v)]
        for row in tableau.rows[:-1]:
            slopes.append(nonlinear(_combine(row, v, slopes)))
        return _combine(tableau.rows[-1], v, slopes)

    return step


def _combine(row: Row, v: Array, slopes: list[Array]) -> Array:
    total = _apply(row.propagator, v)
    for weight, slope in zip(row.weights, slopes, strict=True):
        if weight is not None:
            total = total + _apply(weight, slope)
    return total


def _apply(operator: Any, v: Array) -> Array:
    return operator @ v if operator.ndim > v.ndim else operator * v


def _tableau(one: tuple, half: tuple, dt: Any, order: Order, product: Callable) -> Tableau:
    e, phi1, phi2, phi3 = one
    if order == 1:
        return Tableau((Row(e, (dt * phi1,)),))
    if order == 2:
        return Tableau((Row(e, (dt * phi1,)), Row(e, (dt * (phi1 - phi2), dt * phi2))))
    # The weights of Simpson's rule at z = 0: 1/6, 4/6, 1/6.
    first, middle, last = dt * (phi1 - 3 * phi2 + 4 * phi3), dt * (4 * phi2 - 8 * phi3), dt * (4 * phi3 - phi2)
    root, slope = half[0], dt / 2 * half[1]
    if order == 3:
        return Tableau(
            (Row(root, (slope,)), Row(e, (-dt * phi1, 2 * dt * phi1)), Row(e, (first, middle, last))),
        )
    return Tableau(
        (
            Row(root, (slope,)),
            Row(root, (None, slope)),
            Row(e, (product(root, slope) - slope, None, 2 * slope)),
            Row(e, (first, middle / 2, middle / 2, last)),
        )
    )

"""The phi functions of exponential integrators, without cancellation and differentiable everywhere, zero included."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import expm
from jaxtyping import Array, Float, Inexact

SMALL = 4.0  # below this modulus the series is used, above it the recurrence, which then loses no digits
TERMS = 30  # of the series: 4^30 / 34! is 4e-21


def phi_functions(z: Any, count: int) -> tuple[Any, ...]:
    """`phi_0 .. phi_count` of every element of `z`, real or complex: `phi_0 = e^z`, `phi_k = (phi_(k-1) - 1/(k-1)!)/z`.

    A numpy array is evaluated on the host in its own precision, double as a rule, whatever JAX's mode is; a JAX array
    may be traced and differentiated. Derivatives of any order are exact and finite, also at `z = 0`.

    Source: Cox and Matthews 2002, J. Comput. Phys. 176, 430-455, doi 10.1006/jcph.2002.6995; derivatives from the
    defining series, `phi_k' = phi_k - k phi_(k+1) = (phi_(k-1) - k phi_k) / z`.
    """
    if isinstance(z, np.ndarray | np.generic):
        return _values(np.asarray(z), count, np)
    return _phi_functions(jnp.asarray(z), count)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _phi_functions(z: Inexact[Array, "*shape"], count: int) -> tuple[Array, ...]:
    return _values(z, count, jnp)


@_phi_functions.defjvp
def _(count: int, primals: tuple, tangents: tuple) -> tuple[tuple, tuple]:
    (z,), (dz,) = primals, tangents
    values = _phi_functions(z, count + 1)
    small = jnp.abs(z) < SMALL
    divisor = jnp.where(small, 1, z)
    slopes = [values[0]]
    for k in range(1, count + 1):
        # Near zero the first form divides by nothing; far from it the second subtracts nothing of its own size.
        slopes.append(jnp.where(small, values[k] - k * values[k + 1], (values[k - 1] - k * values[k]) / divisor))
    return values[: count + 1], tuple(slope * dz for slope in slopes)


def _values(z: Any, count: int, xp: Any) -> tuple[Any, ...]:
    small = xp.abs(z) < SMALL
    near, far = xp.where(small, z, 0), xp.where(small, SMALL, z)
    series = xp.full_like(z, 1 / math.factorial(TERMS + count))
    for term in range(TERMS - 1, -1, -1):
        series = near * series + 1 / math.factorial(term + count)
    from_series = [series]
    for k in range(count - 1, -1, -1):
        from_series.append(near * from_series[-1] + 1 / math.factorial(k))
    exponential = xp.exp(z)
    values, above = [exponential], exponential
    for k in range(1, count + 1):
        above = (above - 1 / math.factorial(k - 1)) / far
        values.append(xp.where(small, from_series[count - k], above))
    return tuple(values)


def phi_of_matrix(matrix: Float[Array, "d d"], count: int) -> tuple[Float[Array, "d d"], ...]:
    """`phi_0 .. phi_count` of a dense matrix, from one exponential of a block matrix `count + 1` times as large.

    The first block row of `expm([[Z, I, 0], [0, 0, I], [0, 0, 0]])` is `phi_0(Z), phi_1(Z), phi_2(Z)`. Gradients are
    those of `expm`. Good for `d` up to about 64.
    Source: Al-Mohy and Higham 2011, SIAM J. Sci. Comput. 33, 488-511, theorem 2.1.
    """
    d = matrix.shape[0]
    blocks = jnp.kron(jnp.eye(count + 1, k=1, dtype=matrix.dtype), jnp.eye(d, dtype=matrix.dtype))
    whole = expm(blocks.at[:d, :d].set(matrix))
    return tuple(whole[:d, k * d : (k + 1) * d] for k in range(count + 1))

"""Fifth-order weighted essentially non-oscillatory (WENO) reconstruction from five cells."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

Reconstruction = Callable[[Array, Array, Array, Array, Array], Array]


def weno5_js(a: Array, b: Array, c: Array, d: Array, e: Array) -> Array:
    """The value at the right face of the middle one of five cells, from their averages.

    Jiang and Shu 1996, J. Comput. Phys. 126, 202-228, equations 2.14-2.17; their epsilon, 1e-6, is absolute: it suits
    values of order one.
    """
    # The weights 0.1 / e0^2, 0.6 / e1^2, 0.3 / e2^2, multiplied through by (e0 e1 e2)^2: one division instead of four.
    # With e a hundred times theirs, the square of the weights' sum, by which its derivative divides, is above 1e-38,
    # the least of single precision, where all is flat.
    e0, e1, e2 = (1e-4 + 1e2 * smooth for smooth in _smoothness(a, b, c, d, e))
    w0, w1, w2 = jnp.square(e1 * e2), 6 * jnp.square(e0 * e2), 3 * jnp.square(e0 * e1)
    return _combine(w0, w1, w2, a, b, c, d, e)


def weno5_z(a: Array, b: Array, c: Array, d: Array, e: Array) -> Array:
    """As `weno5_js`, with weights that stay near the optimal ones at smooth extrema.

    Borges, Carmona, Costa and Don 2008, J. Comput. Phys. 227, 3191-3211, equations 25-28 with power 2.
    """
    smooth = _smoothness(a, b, c, d, e)
    over_all = jnp.abs(smooth[0] - smooth[2])
    w0, w1, w2 = (share * (1 + jnp.square(over_all / (1e-12 + s))) for share, s in zip((1, 6, 3), smooth, strict=True))
    return _combine(w0, w1, w2, a, b, c, d, e)


def _smoothness(a: Array, b: Array, c: Array, d: Array, e: Array) -> tuple[Array, Array, Array]:
    smooth_0 = 13 / 12 * jnp.square(a - 2 * b + c) + 1 / 4 * jnp.square(a - 4 * b + 3 * c)
    smooth_1 = 13 / 12 * jnp.square(b - 2 * c + d) + 1 / 4 * jnp.square(b - d)
    smooth_2 = 13 / 12 * jnp.square(c - 2 * d + e) + 1 / 4 * jnp.square(3 * c - 4 * d + e)
    return smooth_0, smooth_1, smooth_2


def _combine(w0: Array, w1: Array, w2: Array, a: Array, b: Array, c: Array, d: Array, e: Array) -> Array:
    value = w0 * (2 * a - 7 * b + 11 * c) + w1 * (-b + 5 * c + 2 * d) + w2 * (2 * c + 5 * d - e)
    return value / (6 * (w0 + w1 + w2))

"""The Kuramoto-Sivashinsky equation on a torus, as a step map."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsci.core.config import positive
from jaxsci.dynamics.etdrk import diagonal_tableau, etdrk_step
from jaxsci.dynamics.periodic import derivative_symbol, two_thirds, wavenumbers


class KuramotoSivashinsky2D(eqx.Module):
    """`u_t = -|grad u|^2 / 2 - laplacian u - bilaplacian u`, less the mean of its right-hand side, stepped by ETDRK4.

    The form for the height of a front: along one axis, the derivative of a solution solves the one-dimensional
    equation in `KuramotoSivashinsky`. Squares are dealiased by the two-thirds rule, and the mean stays where it was.

    Good values: `length=(22, 22), dt=0.05` with 64 x 64 points.
    Source: Kalogirou, Keaveny and Papageorgiou 2015, Proc. R. Soc. A 471, 20140932, equation 1.1.
    """

    length: tuple[float, float] = eqx.field(static=True, default=(22.0, 22.0))
    dt: float = eqx.field(static=True, default=0.05)

    def __check_init__(self) -> None:
        positive(self, "dt")

    def __call__(self, u: Float[Array, "nx ny"]) -> Float[Array, "nx ny"]:
        nx, ny = u.shape
        kx, dx = (_both_signs(f(nx, self.length[0]), nx) for f in (wavenumbers, derivative_symbol))
        ky, dy = wavenumbers(ny, self.length[1]), derivative_symbol(ny, self.length[1])
        square = kx[:, None] ** 2 + ky**2
        kept = _both_signs(two_thirds(nx), nx).astype(bool)[:, None] & two_thirds(ny)
        kept[0, 0] = False
        tableau = diagonal_tableau(square - square**2, self.dt).astype(u.dtype)
        complex_type = jnp.result_type(u.dtype, jnp.complex64)
        slopes = [jnp.asarray(d, complex_type) for d in (dx[:, None] + 0 * dy, 0 * dx[:, None] + dy)]

        def steepness(v: Complex[Array, "nx frequencies"]) -> Complex[Array, "nx frequencies"]:
            squares = sum(jnp.square(jnp.fft.irfft2(slope * v, (nx, ny))) for slope in slopes)
            return jnp.where(kept, -0.5 * jnp.fft.rfft2(squares), 0)

        return jnp.fft.irfft2(etdrk_step(tableau, steepness)(jnp.fft.rfft2(u)), (nx, ny))


def _both_signs(half: np.ndarray, points: int) -> np.ndarray:
    """From the frequencies of `rfft` to those of `fft`: the conjugates in reverse."""
    return np.concatenate([half, np.conj(half[1 : (points + 1) // 2][::-1])])

"""The Kuramoto-Sivashinsky equation as a step map: spectral in space, exponential Runge-Kutta in time."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsci.core.config import positive


class KuramotoSivashinsky(eqx.Module):
    """`u_t = -u u_x - u_xx - u_xxxx` on a circle of `length`, stepped by ETDRK4.

    The linear part is solved exactly, `lambda = k^2 - k^4`; the coefficients of the rest are means over a circle
    around each `dt lambda`, free of cancellation. Products are not dealiased: 128 points at the length below resolve
    the spectrum to rounding. The mean of u is conserved.

    Good values: `length=32 pi, dt=0.5` with 128 points.
    Source: Kassam and Trefethen 2005, SIAM J. Sci. Comput. 26, 1214-1233, equations 2.2-2.6 and section 4.
    """

    length: float = eqx.field(static=True, default=32 * np.pi)
    dt: float = eqx.field(static=True, default=0.5)

    def __check_init__(self) -> None:
        positive(self, "length", "dt")

    def wavenumbers(self, points: int) -> Float[np.ndarray, " frequencies"]:
        return 2 * np.pi / self.length * np.arange(points // 2 + 1)

    def growth(self, points: int) -> Float[np.ndarray, " frequencies"]:
        """Linear growth rates `k^2 - k^4` of the Fourier modes."""
        k = self.wavenumbers(points)
        return k**2 - k**4

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        n = len(u)
        derivative = -0.5j * self.wavenumbers(n)
        if n % 2 == 0:
            derivative[-1] = 0  # the shortest wave has no derivative on the grid
        whole, half, slope, first, middle, last = _coefficients(self.dt * self.growth(n), self.dt, u.dtype)
        derivative = jnp.asarray(derivative, jnp.result_type(u.dtype, jnp.complex64))

        def advection(v: Complex[Array, " frequencies"]) -> Complex[Array, " frequencies"]:
            return derivative * jnp.fft.rfft(jnp.square(jnp.fft.irfft(v, n)))

        v = jnp.fft.rfft(u)
        at_start = advection(v)
        a = half * v + slope * at_start
        at_a = advection(a)
        b = half * v + slope * at_a
        at_b = advection(b)
        c = half * a + slope * (2 * at_b - at_start)
        end = whole * v + first * at_start + middle * (at_a + at_b) + last * advection(c)
        return jnp.fft.irfft(end, n)


def _coefficients(z: Float[np.ndarray, " frequencies"], dt: float, dtype: jnp.dtype) -> list[Array]:
    """`e^z, e^(z/2)` and the weights of ETDRK4 for real `z`, in double precision whatever the state's."""
    circle = np.exp(1j * np.pi * (np.arange(32) + 0.5) / 32)  # upper half: the lower one gives the conjugates
    w = z[:, None] + circle
    mean = lambda values: dt * values.mean(1).real  # noqa: E731
    weights = (
        np.exp(z),
        np.exp(z / 2),
        mean((np.exp(w / 2) - 1) / w),
        mean((-4 - w + np.exp(w) * (4 - 3 * w + w**2)) / w**3),
        mean(2 * (2 + w + np.exp(w) * (w - 2)) / w**3),
        mean((-4 - 3 * w - w**2 + np.exp(w) * (4 - w)) / w**3),
    )
    return [jnp.asarray(weight, dtype) for weight in weights]

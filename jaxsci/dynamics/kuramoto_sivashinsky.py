"""The Kuramoto-Sivashinsky equation as a step map: spectral in space, exponential Runge-Kutta in time."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from jaxsci.core.config import positive
from jaxsci.dynamics.etdrk import diagonal_tableau, etdrk_step
from jaxsci.dynamics.periodic import derivative_symbol, two_thirds, wavenumbers


class KuramotoSivashinsky(eqx.Module):
    """`u_t = -u u_x - u_xx - u_xxxx` on a circle of `length`, stepped by ETDRK4.

    The linear part is solved exactly, `lambda = k^2 - k^4`. Products are not dealiased unless asked for: 128 points at
    the length below resolve the spectrum to rounding. The mean of u is conserved.

    Good values: `length=32 pi, dt=0.5` with 128 points; `length=22, dt=0.1` with 64.
    Source: Kassam and Trefethen 2005, SIAM J. Sci. Comput. 26, 1214-1233, equations 2.2-2.6 and section 4.
    """

    length: float = eqx.field(static=True, default=32 * np.pi)
    dt: float = eqx.field(static=True, default=0.5)
    dealias: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        positive(self, "length", "dt")

    def growth(self, points: int) -> Float[np.ndarray, " frequencies"]:
        """Linear growth rates `k^2 - k^4` of the Fourier modes."""
        k = wavenumbers(points, self.length)
        return k**2 - k**4

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        n = len(u)
        tableau = diagonal_tableau(self.growth(n), self.dt).astype(u.dtype)
        slope = -0.5 * derivative_symbol(n, self.length) * (two_thirds(n) if self.dealias else 1.0)
        slope = jnp.asarray(slope, jnp.result_type(u.dtype, jnp.complex64))

        def advection(v: Complex[Array, " frequencies"]) -> Complex[Array, " frequencies"]:
            return slope * jnp.fft.rfft(jnp.square(jnp.fft.irfft(v, n)))

        return jnp.fft.irfft(etdrk_step(tableau, advection)(jnp.fft.rfft(u)), n)


def long_waves(key: PRNGKeyArray, points: int, modes: int = 5) -> Float[Array, " points"]:
    """A random smooth start of zero mean: `sum_m a_m cos(2 pi m x / length + theta_m)`, a_m ~ N(0, 1), m to `modes`."""
    amplitudes, phases = jax.random.split(key)
    a = jax.random.normal(amplitudes, (modes, 1))
    theta = jax.random.uniform(phases, (modes, 1), maxval=2 * jnp.pi)
    angle = 2 * jnp.pi * jnp.arange(1, modes + 1)[:, None] * jnp.arange(points) / points
    return jnp.sum(a * jnp.cos(angle + theta), axis=0)

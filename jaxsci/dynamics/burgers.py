"""The viscous Burgers equation as a step map, with random starts and the place of its strongest shock."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from jaxsci.core.config import positive
from jaxsci.dynamics.etdrk import diagonal_tableau, etdrk_step
from jaxsci.dynamics.periodic import derivative, derivative_symbol, two_thirds, wavenumbers


class Burgers(eqx.Module):
    """`u_t = -u u_x + viscosity u_xx` on a circle of `length`, stepped by ETDRK4, squares dealiased.

    The mean of u is conserved. The step is limited by advection: `max|u| k_max dt` below about 2.

    Good values: `length=1, viscosity=1e-3, dt=1e-3` with 512 points.
    Source: Burgers 1948, Adv. Appl. Mech. 1, 171-199.
    """

    length: float = eqx.field(static=True, default=1.0)
    viscosity: float = eqx.field(static=True, default=1e-3)
    dt: float = eqx.field(static=True, default=1e-3)

    def __check_init__(self) -> None:
        positive(self, "length", "viscosity", "dt")

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        n = len(u)
        tableau = diagonal_tableau(-self.viscosity * wavenumbers(n, self.length) ** 2, self.dt).astype(u.dtype)
        slope = jnp.asarray(
            -0.5 * derivative_symbol(n, self.length) * two_thirds(n), jnp.result_type(u.dtype, jnp.complex64)
        )

        def advection(v: Complex[Array, " frequencies"]) -> Complex[Array, " frequencies"]:
            return slope * jnp.fft.rfft(jnp.square(jnp.fft.irfft(v, n)))

        return jnp.fft.irfft(etdrk_step(tableau, advection)(jnp.fft.rfft(u)), n)


def random_phases(key: PRNGKeyArray, points: int, peak: float = 5.0, energy: float = 0.25) -> Float[Array, " points"]:
    """A field with spectrum `E(n) ~ n^4 exp(-(n / peak)^2)`, uniform phases and mean energy `<u^2>/2 = energy`."""
    n = jnp.arange(points // 2 + 1)
    spectrum = n**4 * jnp.exp(-jnp.square(n / peak))
    spectrum = jnp.where(n < points / 3, spectrum, 0.0)
    phases = jax.random.uniform(key, n.shape, maxval=2 * jnp.pi)
    u = jnp.fft.irfft(jnp.sqrt(spectrum) * jnp.exp(1j * phases), points)
    return u * jnp.sqrt(2 * energy / jnp.mean(jnp.square(u)))


def shock(u: Float[Array, "*batch n"], length: float) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    """Position and steepness `max(-u_x)` of the steepest descent, to within a grid spacing."""
    slope = derivative(u, length)
    n = u.shape[-1]
    return jnp.argmin(slope, axis=-1) * (length / n), -jnp.min(slope, axis=-1)

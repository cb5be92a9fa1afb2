"""Reduced models by projection on eigenvectors of the learned linear term, which on a circle are Fourier modes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from jaxsci.core.config import require
from jaxsci.dynamics.etdrk import diagonal_tableau, etdrk_step
from jaxsci.emulators.stabilized_ode.model import StabilizedOde, StepMap


class SpectralRom(eqx.Module):
    """Galerkin projection of a model on the Fourier modes `modes`; its state is their real and imaginary parts.

    A convolution is circulant, so its eigenvectors are these modes whatever its weights; only which of them to keep
    depends on the learned symbol.
    """

    model: StabilizedOde
    modes: tuple[int, ...] = eqx.field(static=True)
    points: int = eqx.field(static=True)

    def __check_init__(self) -> None:
        allowed = range(1, (self.points + 1) // 2)
        require(
            len(self.modes) > 0 and set(self.modes) <= set(allowed), "modes", f"some of 1 to {allowed[-1]}", self.modes
        )

    @property
    def dimension(self) -> int:
        """Real numbers in a reduced state."""
        return 2 * len(self.modes)

    def encode(self, u: Float[Array, " n"]) -> Float[Array, " d"]:
        """The reduced state of a field."""
        v = jnp.fft.rfft(u)[jnp.asarray(self.modes)] / self.points
        return jnp.concatenate([v.real, v.imag])

    def decode(self, z: Float[Array, " d"]) -> Float[Array, " n"]:
        """The field of a reduced state."""
        return jnp.fft.irfft(self._spectrum(self._complex(z)), self.points)

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.step_map(z)(z)

    def step_map(self, like: Float[Array, " d"]) -> StepMap:
        """`z -> z(t + dt)`, exact in the linear term."""
        model, kept = self.model, jnp.asarray(self.modes)
        symbol = model.linear.symbol(self.points, model.length)[kept]
        tableau = diagonal_tableau(symbol, model.dt / model.substeps).astype(like.dtype)

        def nonlinear(v: Complex[Array, " modes"]) -> Complex[Array, " modes"]:
            return model.nonlinear_modes(jnp.fft.irfft(self._spectrum(v), self.points))[kept]

        step = etdrk_step(tableau, nonlinear)

        def advance(z: Float[Array, " d"]) -> Float[Array, " d"]:
            v, _ = jax.lax.scan(lambda v, _: (step(v), None), self._complex(z), None, length=model.substeps)
            v = v / self.points
            return jnp.concatenate([v.real, v.imag])

        return advance

    def _complex(self, z: Float[Array, " d"]) -> Complex[Array, " modes"]:
        half = len(self.modes)
        return (z[:half] + 1j * z[half:]) * self.points

    def _spectrum(self, v: Complex[Array, " modes"]) -> Complex[Array, " frequencies"]:
        return jnp.zeros(self.points // 2 + 1, v.dtype).at[jnp.asarray(self.modes)].set(v)


def modes_above(model: StabilizedOde, points: int, rate: float) -> tuple[int, ...]:
    """The modes with `Re lambda > rate`, the mean left out. -2 keeps the 8, 18 and 28 dimensions that the manifolds of
    Kuramoto-Sivashinsky at length 22, 44 and 66 are known to have (Linot and Graham 2022, Chaos 32, 073110)."""
    rates = np.asarray(model.linear.symbol(points, model.length).real)
    return tuple(int(n) for n in range(1, (points + 1) // 2) if rates[n] > rate)


def slowest_modes(model: StabilizedOde, points: int, dimension: int) -> tuple[int, ...]:
    """The `dimension / 2` modes of largest `Re lambda`: for a dimension that `dynamics.lyapunov.gaps` proposes."""
    require(dimension >= 2, "dimension", "2 or more", dimension)
    rates = np.asarray(model.linear.symbol(points, model.length).real)
    order = 1 + np.argsort(-rates[1 : (points + 1) // 2], kind="stable")
    return tuple(sorted(int(n) for n in order[: (dimension + 1) // 2]))

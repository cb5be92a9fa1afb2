"""Linear terms `A u` on a circle, known by their Fourier symbol `lambda(k)`, and the dense one for latent states."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from jaxsci.core.config import require
from jaxsci.core.errors import ConfigError
from jaxsci.dynamics.periodic import derivative_symbol, wavenumbers


class LinearTerm(eqx.Module):
    """A translation-invariant operator: `A` maps the mode `e^(ikx)` to `lambda(k) e^(ikx)`."""

    def symbol(self, points: int, length: float) -> Inexact[Array, " frequencies"]:
        """`lambda` of the modes of `rfft`, real where the operator is symmetric, in the highest precision enabled."""
        raise NotImplementedError


def highest(x: Array) -> Array:
    """In float64 where JAX has it: exponentials of a stiff symbol need the digits, and there are only a few."""
    return jnp.asarray(x, jnp.result_type(float))


class NoTerm(LinearTerm):
    """`A = 0`: the standard neural ODE."""

    def symbol(self, points: int, length: float) -> Float[Array, " frequencies"]:
        return jnp.zeros(points // 2 + 1)


class Stencil(LinearTerm):
    """A short periodic convolution, `(A u)_i = sum_j w_j u_(i+j)`: `lambda = sum_j w_j e^(i k j dx)`.

    Five taps hold a fourth derivative, three a second one.
    """

    weights: Float[Array, " taps"]

    def symbol(self, points: int, length: float) -> Inexact[Array, " frequencies"]:
        reach = self.weights.shape[-1] // 2
        angle = wavenumbers(points, length)[:, None] * np.arange(-reach, reach + 1) * length / points
        w = highest(self.weights)
        odd = jnp.sin(angle) @ w
        if points % 2 == 0:
            odd = odd.at[-1].set(0.0)
        return jnp.cos(angle) @ w + 1j * odd


class PolynomialSymbol(LinearTerm):
    """`lambda = sum_p c_p (ik)^p`, p from 1: advection, diffusion, dispersion, hyperviscosity."""

    coefficients: Float[Array, " orders"]

    def symbol(self, points: int, length: float) -> Inexact[Array, " frequencies"]:
        orders = range(1, self.coefficients.shape[-1] + 1)
        powers = np.stack([derivative_symbol(points, length, p) for p in orders], axis=1)
        c = highest(self.coefficients)
        return jnp.asarray(np.real(powers)) @ c + 1j * (jnp.asarray(np.imag(powers)) @ c)


class FreeSymbol(LinearTerm):
    """Every mode its own rate and frequency. Modes that the data do not excite stay where they started."""

    rate: Float[Array, " frequencies"]
    frequency: Float[Array, " frequencies"]

    def symbol(self, points: int, length: float) -> Inexact[Array, " frequencies"]:
        expected = points // 2 + 1
        require(len(self.rate) == expected, "symbol", f"{expected} modes for {points} points", len(self.rate))
        frequency = highest(self.frequency).at[0].set(0.0)
        if points % 2 == 0:
            frequency = frequency.at[-1].set(0.0)
        return highest(self.rate) + 1j * frequency


class FixedSymbol(LinearTerm):
    """The known symbol of a PDE, not trained: `lambda = sum_p c_p (ik)^p`, even orders only, such as `k^2 - k^4`."""

    coefficients: tuple[float, ...] = eqx.field(static=True)
    """Of orders 1, 2, ..; those of odd orders are zero."""

    def __check_init__(self) -> None:
        require(not any(self.coefficients[::2]), "coefficients", "zeros at odd orders", self.coefficients)

    def symbol(self, points: int, length: float) -> Float[Array, " frequencies"]:
        total = np.zeros(points // 2 + 1)
        for p, c in enumerate(self.coefficients, start=1):
            if c:
                total = total + c * np.real(derivative_symbol(points, length, p))
        return jnp.asarray(total)


class Banded(LinearTerm):
    """Band-limited dissipativity: no growth above the wavenumber `cut`, nothing imposed at or below it.

    There `Re lambda` becomes `-softplus(-Re lambda)`, which leaves strong damping as it is and cannot be positive.
    Imposing damping everywhere instead would stop the chaos, which lives on the unstable low modes.
    """

    term: LinearTerm
    cut: float = eqx.field(static=True)

    def symbol(self, points: int, length: float) -> Inexact[Array, " frequencies"]:
        raw = self.term.symbol(points, length)
        above = wavenumbers(points, length) > self.cut
        damped = -jax.nn.softplus(-raw.real)
        return jnp.where(above, damped + 1j * raw.imag, raw)


class DenseTerm(eqx.Module):
    """`A u` with a matrix, for latent states and systems without translation symmetry."""

    matrix: Float[Array, "d d"]


def require_stable(term: LinearTerm, points: int, length: float, cut: float, *, name: str = "linear") -> None:
    """Refuse a learned symbol that grows above the wavenumber `cut`, where nothing feeds on it but the solver.

    Raises `ConfigError` with the mode and its rate.
    """
    rates = np.asarray(term.symbol(points, length).real)
    k = wavenumbers(points, length)
    rates = np.where(k > cut, rates, -np.inf)
    worst = int(np.argmax(rates))
    if rates[worst] > 0 or not np.isfinite(rates[k > cut]).all():
        raise ConfigError(
            f"{name}: expected a symbol with Re lambda <= 0 above wavenumber {cut:g}, got {rates[worst]:.3g} at mode "
            f"{worst} (k = {k[worst]:.3g}): it would amplify rounding; "
            "use banded=true, fewer free parameters or more data"
        )

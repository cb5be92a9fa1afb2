"""The stabilized neural ODE: `du/dt = A u + N(u)`, the linear term propagated exactly."""

from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from jaxsci.core.config import positive
from jaxsci.core.rollout import rollout
from jaxsci.dynamics.etdrk import diagonal_tableau, etdrk_step
from jaxsci.dynamics.periodic import derivative_symbol, two_thirds
from jaxsci.emulators.stabilized_ode import solvers
from jaxsci.emulators.stabilized_ode.guard import EnergyProjection, RadialClip
from jaxsci.emulators.stabilized_ode.linear import LinearTerm
from jaxsci.emulators.stabilized_ode.nonlinear import Nonlinear

Integrator = Literal["etdrk1", "etdrk2", "etdrk3", "etdrk4", "tsit5", "kencarp4"]
StepMap = Callable[[Array], Array]


class StabilizedOde(eqx.Module):
    """A learned vector field on a circle, as a step map over `dt`.

    **Fields:**

    - `linear`, `nonlinear`: the two terms of the right-hand side.
    - `length`, `dt`: of the circle, and of a step (the spacing of the data).
    - `integrator`: `etdrk4` and its lower orders solve the linear term exactly in Fourier space; `tsit5` and `kencarp4`
      are diffrax's adaptive solvers of the whole right-hand side, to compare with.
    - `substeps`: steps of the exponential integrator in `dt`.
    - `dealias`: the two-thirds mask on the nonlinear term; the modes above are then left to A alone.
    - `zero_mean`: the nonlinear term has no mean.
    - `clip`, `projection`: guards; see `guard`.

    A step costs `substeps x order` evaluations of the network. In a loop use `step_map()`, which computes what depends
    on A alone once.

    Source: Linot et al. 2023, J. Comput. Phys. 474, 111838 (the split); Cox and Matthews 2002 (the integrator).
    """

    linear: LinearTerm
    nonlinear: Nonlinear
    length: float = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    integrator: Integrator = eqx.field(static=True, default="etdrk4")
    substeps: int = eqx.field(static=True, default=1)
    dealias: bool = eqx.field(static=True, default=False)
    zero_mean: bool = eqx.field(static=True, default=False)
    clip: RadialClip | None = None
    projection: EnergyProjection | None = None
    tolerance: float = eqx.field(static=True, default=1e-4)
    """Relative and absolute, of the adaptive solvers."""

    def __check_init__(self) -> None:
        positive(self, "length", "dt", "substeps", "tolerance")

    def __call__(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.step_map(u)(u)

    def step_map(self, like: Float[Array, " n"]) -> StepMap:
        """`u -> u(t + dt)` for states of the shape and precision of `like`.

        The exponentials of A are computed here, outside of any loop over steps.
        """
        free, clip = self.free_step_map(like), self.clip
        return free if clip is None else lambda u: clip(free(u))

    def free_step_map(self, like: Float[Array, " n"]) -> StepMap:
        """`step_map` without the clip."""
        return self._adaptive() if self.integrator in ("tsit5", "kencarp4") else self._exponential(like)

    def rollout(self, u: Float[Array, " n"], steps: int) -> Float[Array, "steps n"]:
        """The states after 1, .., `steps` steps."""
        return rollout(self.step_map(u), steps)(u)

    def right_hand_side(self, u: Float[Array, " n"]) -> Float[Array, " n"]:
        """`A u + N(u)`."""
        n = len(u)
        v = jnp.fft.rfft(u)
        linear = self.linear.symbol(n, self.length).astype(v.dtype) * v
        return jnp.fft.irfft(linear + self.nonlinear_modes(u), n)

    def stiffness(self, points: int) -> Float[Array, ""]:
        """`dt/substeps max|lambda|`: what an explicit method would have to hold below about 3."""
        return self.dt / self.substeps * jnp.max(jnp.abs(self.linear.symbol(points, self.length)))

    def nonlinear_modes(self, u: Float[Array, " n"]) -> Complex[Array, " frequencies"]:
        """Fourier coefficients (of `rfft`) of `N(u)`, mask and projection included."""
        n = len(u)
        modes = jnp.fft.rfft(self.nonlinear(u))
        factor = -derivative_symbol(n, self.length) if self.nonlinear.flux else 1.0
        factor = factor * (two_thirds(n) if self.dealias else 1.0)
        modes = jnp.asarray(factor, modes.dtype) * modes
        if self.zero_mean:
            modes = modes.at[0].set(0.0)
        if self.projection is not None:
            linear = self.linear.symbol(n, self.length).astype(modes.dtype) * jnp.fft.rfft(u)
            field = jnp.fft.irfft(modes, n)
            modes = jnp.fft.rfft(self.projection(u, field + jnp.fft.irfft(linear, n), field))
        return modes

    def _exponential(self, like: Float[Array, " n"]) -> StepMap:
        n, order = len(like), int(self.integrator[-1])
        symbol = self.linear.symbol(n, self.length)
        tableau = diagonal_tableau(symbol, self.dt / self.substeps, order).astype(like.dtype)  # type: ignore[arg-type]
        step = etdrk_step(tableau, lambda v: self.nonlinear_modes(jnp.fft.irfft(v, n)))

        def advance(u: Float[Array, " n"]) -> Float[Array, " n"]:
            v = jnp.fft.rfft(u)
            if self.substeps == 1:
                return jnp.fft.irfft(step(v), n)
            v, _ = jax.lax.scan(lambda w, _: (step(w), None), v, None, length=self.substeps)
            return jnp.fft.irfft(v, n)

        return advance

    def _adaptive(self) -> StepMap:
        return lambda u: solvers.solve(self.right_hand_side, u, self.dt, self.integrator, self.tolerance)[0]

"""What each observation did for the forecast, by differentiating through the analysis.

Source: Langland and Baker 2004, Tellus A 56, 189-201; Daescu and Todling 2010, Q. J. R. Meteorol. Soc. 136, 2000-2012.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.assimilation.variational import State, Window

Aspect = Callable[[State], Float[Array, ""]]


def observation_sensitivity(
    window: Window, control: Float[Array, " control"], aspect: Aspect
) -> Float[Array, "times stations"]:
    """`d aspect / d y`, `aspect` a number made of the analysed trajectory: the error of a forecast from its end, say.

    `control` is the analysis, where `grad J = 0`; the implicit function theorem gives
    `d aspect / d y = -(d^2 J / dv dy)' (d^2 J / dv^2)^{-1} d aspect / dv`, with the full second derivative, dense: for
    up to a few hundred controls. Zero where an observation is missing.
    """

    def gradient(v: Array, values: Array) -> Array:
        return jax.grad(eqx.tree_at(lambda w: w.observations.values, window, values).cost)(v)

    values = window.observations.values
    hessian = jax.jacfwd(gradient)(control, values)
    adjoint = jnp.linalg.solve(hessian, jax.grad(lambda v: aspect(window.trajectory(v)))(control))
    return -jax.vjp(lambda y: gradient(control, y), values)[1](adjoint)[0]


def observation_impact(
    window: Window, control: Float[Array, " control"], aspect: Aspect
) -> Float[Array, "times stations"]:
    """Each observation's share in `aspect(analysis) - aspect(background)`; negative where it made the forecast better.

    With `e` the aspect, the trapezoidal rule along the increment `v = K d`, of the Gauss-Newton gain `K` and
    innovations `d`: `d_i (K' (grad e(v) + grad e(0)) / 2)_i`. The shares add up to the whole exactly for a linear
    model, linear operator and quadratic aspect.
    """

    def departures(v: Array) -> Array:
        return window.observations.departures(window.trajectory(v))

    def value(v: Array) -> Array:
        return aspect(window.trajectory(v))

    # Linearised at the analysis, d = y - H(x(v)) + H' v reproduces it: v = K d (and is the innovation where linear).
    here, change = jax.jvp(departures, (control,), (control,))
    innovation = here - change
    sensitivity = jax.jacfwd(window.departures)(control)
    mean_gradient = (jax.grad(value)(control) + jax.grad(value)(window.origin)) / 2
    hessian = sensitivity.T @ sensitivity + jnp.eye(len(control), dtype=control.dtype)
    whitened = -sensitivity @ jnp.linalg.solve(hessian, mean_gradient)

    def whiten(values: Array) -> Array:
        observed = eqx.tree_at(lambda o: o.values, window.observations, values)
        return observed.whitened(window.trajectory(control)).ravel()

    return innovation * jax.vjp(whiten, window.observations.values)[1](whitened)[0]

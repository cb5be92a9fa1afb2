"""Weak-constraint 4D-Var: the model errs at every step, and what it erred by is part of the control.

    x_0 = mean + root v_0,   x_k = M(x_{k-1}) + Q^{1/2} v_k,   J(v) = 1/2 |v|^2 + 1/2 sum_k |R^{-1/2} (y_k - H(x_k))|^2

For a linear model the minimum is the Kalman smoother with model noise Q.
Source: Tremolet 2006, Q. J. R. Meteorol. Soc. 132, 2483-2504 (the forcing formulation).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.observation import Observations
from jaxsci.assimilation.variational import LeastSquares, State, StepMap
from jaxsci.core.errors import DataError


class WeakWindow(LeastSquares):
    """A window whose model errs by `error_root w_k`, `w_k ~ N(0, I)`, at each step `k`.

    `error_root` (state, errors) is any factor of Q, of the flattened state; rows of zeros are components that the model
    gets right, such as the older lags of a delay state. The control is `v_0`, then `w_1, w_2, ...`.
    """

    model: StepMap
    background: Background
    observations: Observations
    error_root: Float[Array, "state errors"]

    @property
    def origin(self) -> Float[Array, " control"]:
        steps = len(self.observations.values) - 1
        return jnp.zeros(self.background.controls + steps * self.error_root.shape[1], self.background.root.dtype)

    def errors(self, control: Float[Array, " control"]) -> Float[Array, "steps state"]:
        """The model's error at each step."""
        steps = len(self.observations.values) - 1
        return control[self.background.controls :].reshape(steps, -1) @ self.error_root.T

    def trajectory(self, control: Float[Array, " control"]) -> State:
        start = self.background(control[: self.background.controls])
        _, unravel = ravel_pytree(start)

        def step(state: State, error: Array) -> tuple[State, State]:
            after = jax.tree.map(jnp.add, self.model(state), unravel(error))
            return after, after

        _, later = lax.scan(step, start, self.errors(control))
        return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), start, later)

    def departures(self, control: Float[Array, " control"]) -> Float[Array, " observations"]:
        return self.observations.whitened(self.trajectory(control)).ravel()


def residual_covariance(step: StepMap, states: State) -> Float[Array, "n n"]:
    """Q from one-step residuals `x_{k+1} - step(x_k)` along consecutive states (leading axis time), flattened.

    The mean outer product, not centred: a bias of the model is error too, for an assimilation that assumes none. Use
    states that the model was not fitted to. Raises `DataError` for fewer than two states or values not finite.
    """
    times = len(jax.tree.leaves(states)[0])
    if times < 2:
        raise DataError(f"states: expected two consecutive states or more, got {times}")
    before, after = (jax.tree.map(lambda a, s=s: a[s], states) for s in (slice(None, -1), slice(1, None)))

    def residual(x: State, x_next: State) -> Array:
        return ravel_pytree(jax.tree.map(jnp.subtract, x_next, step(x)))[0]

    residuals = jax.vmap(residual)(before, after)
    if not np.isfinite(np.asarray(residuals)).all():
        raise DataError("states: expected finite residuals, got NaN or infinity; leave out the steps across a gap")
    return residuals.T @ residuals / (times - 1)

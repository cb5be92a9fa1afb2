"""Where to observe: stations chosen one by one, each the one that sharpens the posterior most.

Every candidate's sensitivity to the control comes from differentiating through model and operator. The gain in
information (D) is submodular, so greedy choice reaches at least 63 % of the best possible.
Source: Krause, Singh and Guestrin 2008, J. Mach. Learn. Res. 9, 235-284.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxsci.assimilation.background import Background
from jaxsci.assimilation.variational import State, StepMap
from jaxsci.core.config import require
from jaxsci.core.rollout import rollout


class Placement(NamedTuple):
    """The chosen stations and what they know together."""

    stations: Int[Array, " chosen"]
    """Indices of candidates, in order of choice."""
    gain: Float[Array, " chosen"]
    """What each choice added: posterior variance removed (goal "trace"), or `log det` of precision ("information")."""
    covariance: Float[Array, "control control"]
    """Posterior covariance of the control with all of them."""


def candidate_sensitivity(
    model: StepMap,
    background: Background,
    operator: Callable[[State], Float[Array, " candidates"]],
    noise_std: float | Float[Array, " candidates"],
    steps: int,
) -> Float[Array, "candidates times control"]:
    """`Y = R^{-1/2} d H(x_k) / dv` of every candidate at the times 0..`steps`, linearised about the background."""

    def seen(control: Array) -> Array:
        states = rollout(model, steps, include_initial=True)(background(control))
        return jax.vmap(operator, out_axes=1)(states) / jnp.reshape(jnp.asarray(noise_std), (-1, 1))

    return jax.jacfwd(seen)(jnp.zeros(background.controls, background.root.dtype))


def place(
    sensitivity: Float[Array, "candidates times control"],
    stations: int,
    *,
    goal: Literal["trace", "information"] = "trace",
    target: Float[Array, "target control"] | None = None,
) -> Placement:
    """Choose `stations` of the candidates greedily; each reports at all times with independent errors.

    `goal="trace"` removes most of `tr(T P T')`, P the posterior covariance of the control and `target` T what is wanted
    from it (for example the tangent of a forecast; the identity by default); `"information"` adds most to
    `log det P^{-1}`. Pure and jittable. Raises `ConfigError` for more stations than candidates.
    """
    candidates, _, n = sensitivity.shape
    require(1 <= stations <= candidates, "stations", f"from 1 to the {candidates} candidates", stations)
    require(goal in ("trace", "information"), "goal", "trace or information", goal)
    wanted = jnp.eye(n, dtype=sensitivity.dtype) if target is None else target

    def choose(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        covariance, taken = state
        gain, removed = expected_gain(sensitivity, covariance, goal=goal, target=wanted)
        best = jnp.argmax(jnp.where(taken, -jnp.inf, gain))
        after = covariance - removed[best] @ removed[best].T
        return (after, taken.at[best].set(True)), (best, gain[best])

    prior = (jnp.eye(n, dtype=sensitivity.dtype), jnp.zeros(candidates, bool))
    (covariance, _), (chosen, gain) = lax.scan(choose, prior, length=stations)
    return Placement(chosen, gain, covariance)


def expected_gain(
    sensitivity: Float[Array, "candidates times control"],
    covariance: Float[Array, "control control"],
    *,
    goal: Literal["trace", "information"] = "trace",
    target: Float[Array, "target control"] | None = None,
) -> tuple[Float[Array, " candidates"], Float[Array, "candidates control times"]]:
    """What each candidate would add to a network with posterior `covariance` P, `goal` and `target` as for `place`.

    Also the change of P as a factor `U`: with that candidate `P - U U'` is left.
    """
    identity = jnp.eye(sensitivity.shape[1], dtype=sensitivity.dtype)

    def one(rows: Array) -> tuple[Array, Array]:
        crossed = covariance @ rows.T
        factor = jnp.linalg.cholesky(rows @ crossed + identity)
        removed = jax.scipy.linalg.solve_triangular(factor, crossed.T, lower=True).T
        if goal == "information":
            return 2 * jnp.sum(jnp.log(jnp.diagonal(factor))), removed
        return jnp.sum(jnp.square(removed if target is None else target @ removed)), removed

    return jax.vmap(one)(sensitivity)


def network_covariance(
    sensitivity: Float[Array, "stations times control"], present: Float[Array, " stations"]
) -> Float[Array, "control control"]:
    """Posterior covariance of the control, `(I + Y'Y)^{-1}`, with those stations for which `present` is one."""
    rows = (present[:, None, None] * sensitivity).reshape(-1, sensitivity.shape[-1])
    precision = jnp.eye(rows.shape[1], dtype=rows.dtype) + rows.T @ rows
    return jax.scipy.linalg.cho_solve(jax.scipy.linalg.cho_factor(precision), jnp.eye(len(precision)))

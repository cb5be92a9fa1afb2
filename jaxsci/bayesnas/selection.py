"""Choosing and weighing candidates by held-out likelihood: greedy selection and stacking."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxsci.bayesnas.calibration import TINY


class Selection(NamedTuple):
    """Weights of the candidates, and how the held-out loss fell."""

    weights: Float[Array, " candidates"]
    """Sums to one."""
    losses: Float[Array, " rounds"]
    """Held-out negative log-likelihood of the mixture after each round, in nats."""


def greedy(p: Float[Array, "candidates examples classes"], y: Int[Array, " examples"], rounds: int) -> Selection:
    """Add, `rounds` times, the candidate that helps the equally weighted mixture most; repetition allowed.

    Caruana et al. 2004, doi:10.1145/1015330.1015432; with nets of several architectures as candidates it is the
    selection step of NES (arXiv:2006.08573).
    """
    likelihood = jnp.take_along_axis(p, y[None, :, None], axis=-1)[..., 0]  # (candidates, examples)

    def add(carry: tuple[Array, Array], number: Array) -> tuple[tuple[Array, Array], Array]:
        counts, total = carry
        losses = -jnp.mean(jnp.log(jnp.maximum((total + likelihood) / (number + 1), TINY)), axis=-1)
        best = jnp.argmin(losses)
        return (counts.at[best].add(1), total + likelihood[best]), losses[best]

    start = (jnp.zeros(len(p)), jnp.zeros(len(y)))
    (counts, _), losses = jax.lax.scan(add, start, jnp.arange(rounds, dtype=p.dtype))
    return Selection(counts / rounds, losses)


def stacking(
    p: Float[Array, "candidates examples classes"],
    y: Int[Array, " examples"],
    *,
    steps: int = 200,
    strength: float = 1.0,
) -> Selection:
    """Weights on the simplex of greatest held-out likelihood (Yao et al., arXiv:1704.02030), by EM.

    `strength` pseudo-counts per candidate pull towards equal weights; 0 is the maximum itself.
    """
    likelihood = jnp.maximum(jnp.take_along_axis(p, y[None, :, None], axis=-1)[..., 0], TINY)
    count = len(p)

    def improve(weights: Array, _: None) -> tuple[Array, Array]:
        joint = weights[:, None] * likelihood
        share = jnp.sum(joint / jnp.sum(joint, axis=0), axis=1) + strength
        weights = share / jnp.sum(share)
        return weights, -jnp.mean(jnp.log(weights @ likelihood))

    weights, losses = jax.lax.scan(improve, jnp.full(count, 1 / count), length=steps)
    return Selection(weights, losses)

"""Seven numbers of a pattern: the baseline that every network has to beat.

Trivial cues (a split or lowered peak, a broadened one) tell much about defects; a network is worth its cost only for
what it finds beyond them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

NAMES = (
    "log max / total",
    "log smallest moment",
    "log middle moment",
    "log largest moment",
    "local maxima above a tenth",
    "log brightest 27 / total",
    "|maximum - centroid|",
)


def seven_scalars(counts: Float[Array, "x y z"]) -> Float[Array, "7"]:
    """`NAMES`, in voxels where they are lengths. The moments are eigenvalues of the second-moment tensor of counts."""
    total = jnp.maximum(jnp.sum(counts), 1.0)
    axes = [jnp.arange(size, dtype=jnp.float32) for size in counts.shape]
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 3)
    weights = counts.reshape(-1) / total
    centroid = weights @ grid
    away = grid - centroid
    moments = jnp.linalg.eigvalsh((weights[:, None] * away).T @ away)
    peak = jnp.max(counts)
    neighbourhood = jax.lax.reduce_window(counts, -jnp.inf, jax.lax.max, (3, 3, 3), (1, 1, 1), "SAME")
    maxima = jnp.sum((counts == neighbourhood) & (counts > 0.1 * peak))
    brightest = jnp.sum(jax.lax.top_k(counts.reshape(-1), 27)[0])
    place = jnp.stack(jnp.unravel_index(jnp.argmax(counts), counts.shape)).astype(jnp.float32)
    return jnp.stack(
        [
            jnp.log(jnp.maximum(peak, 1.0) / total),
            *jnp.log(jnp.maximum(moments, 1e-6)),
            maxima.astype(jnp.float32),
            jnp.log(jnp.maximum(brightest, 1.0) / total),
            jnp.linalg.norm(place - centroid),
        ]
    )

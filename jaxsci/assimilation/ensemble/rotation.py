"""Random rotations of an ensemble that keep its mean, and so its covariance, as they are."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray


def complement_of_ones(members: int) -> Float[np.ndarray, "members less"]:
    """Orthonormal columns that span what is orthogonal to the vector of ones (Helmert's)."""
    k = np.arange(1, members)
    basis = np.where(np.arange(members)[:, None] < k, 1.0, 0.0)
    basis[k, k - 1] = -k
    return basis / np.sqrt(k * (k + 1.0))


def random_rotation(n: int, *, key: PRNGKeyArray) -> Float[Array, "n n"]:
    """A matrix uniform (Haar) among the orthogonal ones. Source: Mezzadri 2007, Notices AMS 54, 592-604."""
    # Single precision is fine enough for chance, and drawn twice as fast; the factor is orthogonal in double precision.
    q, r = jnp.linalg.qr(jax.random.normal(key, (n, n), jnp.float32).astype(float))
    return q * jnp.sign(jnp.diagonal(r))  # without it QR's sign convention would favour some rotations


def mean_preserving_rotation(members: int, *, key: PRNGKeyArray) -> Float[Array, "members members"]:
    """A random orthogonal matrix with `Q 1 = 1`. Source: Sakov and Oke 2008, Mon. Wea. Rev. 136, 1042-1053."""
    basis = jnp.asarray(complement_of_ones(members))
    return basis @ random_rotation(members - 1, key=key) @ basis.T + 1.0 / members

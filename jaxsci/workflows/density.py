"""How usual a latent vector is: Mahalanobis distance from the trusted jobs of the same kind.

    d^2 = (z - mean_k)' (cov_k + ridge I)^-1 (z - mean_k) / dimension

Jobs of a kind share their mean and covariance; both come from the half of the jobs trusted to be normal, as the minimum
covariance determinant does (Rousseeuw, doi:10.1080/01621459.1984.10477105), so a third of anomalies does not move them.
"""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

RIDGE = 0.05  # of the mean variance: directions in which trusted jobs do not vary are not infinitely telling


class LatentDensity(eqx.Module):
    """By kind of job: mean and whitening matrix W with W W' = inverse covariance."""

    mean: Float[Array, "kinds latent"]
    whitening: Float[Array, "kinds latent latent"]
    kind: Int[Array, "nodes"]

    def distance(self, z: Float[Array, "nodes runs latent"]) -> Float[Array, "nodes runs"]:
        """Root of the mean square of the whitened deviation; about 1 for a normal job."""
        white = jnp.einsum("nrl,nlm->nrm", z - self.mean[self.kind][:, None], self.whitening[self.kind])
        return jnp.sqrt(jnp.mean(jnp.square(white), axis=-1))


def job_kinds(job_type: Sequence[str], transformation: Sequence[str]) -> Int[np.ndarray, "nodes"]:
    """Number of the (type, transformation) pair of every job."""
    pairs = list(zip(job_type, transformation, strict=True))
    order = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}
    return np.array([order[pair] for pair in pairs])


def fit_density(
    z: Float[np.ndarray, "nodes runs latent"], trust: Float[np.ndarray, "nodes runs"], kind: Int[np.ndarray, "nodes"]
) -> LatentDensity:
    """Weighted by `trust`. Kinds with fewer trusted jobs than latent dimensions borrow the covariance of all."""
    latent = z.shape[-1]
    means, whitenings = [], []
    overall = _moments(z.reshape(-1, latent), trust.ravel())
    for k in range(int(kind.max()) + 1):
        rows, weight = z[kind == k].reshape(-1, latent), trust[kind == k].ravel()
        mean, covariance = _moments(rows, weight) if weight.sum() > 2 * latent else overall
        ridge = RIDGE * np.trace(covariance) / latent + 1e-8
        means.append(mean)
        whitenings.append(np.linalg.cholesky(np.linalg.inv(covariance + ridge * np.eye(latent))))
    return LatentDensity(
        jnp.asarray(np.stack(means), jnp.float32), jnp.asarray(np.stack(whitenings), jnp.float32), jnp.asarray(kind)
    )


def _moments(
    rows: Float[np.ndarray, "n latent"], weight: Float[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "latent"], Float[np.ndarray, "latent latent"]]:
    share = (weight / max(weight.sum(), 1e-12))[:, None]
    mean = (share * rows).sum(axis=0)
    return mean, (share * (rows - mean)).T @ (rows - mean)

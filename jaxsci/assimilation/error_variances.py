"""How large the errors of groups of instruments are, from innovations: maximum likelihood by Fisher scoring.

With innovations `d ~ N(0, S)`, `S = sum_g r_g D_g + rest`, `D_g` diagonal and one where an observation belongs to group
g, the log-likelihood of n cases with sample covariance C has

    gradient   n/2 tr(D_g (S^{-1} C S^{-1} - S^{-1})),      information   n/2 tr(D_g S^{-1} D_h S^{-1}).

Newton steps with the information instead of the Hessian converge in a few iterations where the fixed point of
Desroziers' diagnosis takes dozens, which is wherever background errors are much larger than observation errors.
Source: Dee 1995, Mon. Wea. Rev. 123, 1128-1145 (maximum likelihood from innovations).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

LARGEST_STEP = 4.0  # factor by which a variance may change at once: the information is that of where it stands


def scoring_step(
    variances: Float[Array, " groups"],
    innovations: Float[Array, "cases observations"],
    covariance: Float[Array, "observations observations"],
    groups: Float[Array, "observations groups"],
    *,
    prior: Float[Array, ""] | float,
    prior_cases: float,
) -> Float[Array, " groups"]:
    """Better `variances`, from innovations and their `covariance` S under the present ones.

    `groups` is one where an observation belongs to a group, zero in all columns for one whose variance is known.
    `prior_cases` errors that were seen as such, with variance `prior`, speak for it; a group without observations keeps
    to them. Positive throughout.
    """
    inverse = jnp.linalg.inv(covariance)
    seen = innovations @ inverse
    cases = len(innovations)
    gradient = groups.T @ (jnp.sum(jnp.square(seen), axis=0) - cases * jnp.diagonal(inverse)) / 2
    information = cases / 2 * groups.T @ jnp.square(inverse) @ groups
    gradient = gradient + prior_cases / 2 * (prior - variances) / variances**2
    information = information + jnp.diag(prior_cases / 2 / variances**2)
    wanted = variances + jnp.linalg.solve(information, gradient)
    return jnp.clip(wanted, variances / LARGEST_STEP, variances * LARGEST_STEP)

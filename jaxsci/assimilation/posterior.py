"""Three posteriors of the control: Laplace's Gaussian, an ensemble of data assimilations, and NUTS.

For a linear model all three are the exact Gaussian. For a nonlinear one NUTS is exact up to sampling error, the other
two are what it can be compared with, at a hundredth of its cost.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.assimilation.variational import LeastSquares, Minimiser, Solution, State, assimilate, posterior_root
from jaxsci.core.config import require


class Perturbed(LeastSquares):
    """A problem whose residual is displaced by `noise`: its background and all its observations are drawn anew."""

    window: LeastSquares
    noise: Float[Array, " residual"]

    @property
    def origin(self) -> Float[Array, " control"]:
        return self.window.origin

    def trajectory(self, control: Float[Array, " control"]) -> State:
        return self.window.trajectory(control)

    def departures(self, control: Float[Array, " control"]) -> Float[Array, " observations"]:
        return self.window.departures(control) + self.noise[len(control) :]

    def residual(self, control: Float[Array, " control"]) -> Float[Array, " residual"]:
        return self.window.residual(control) + self.noise


def laplace(
    problem: LeastSquares, control: Float[Array, " control"], *, samples: int, key: PRNGKeyArray
) -> Float[Array, "samples control"]:
    """Draws from the Gauss-Newton posterior N(control, (I + Y'Y)^{-1}) about a minimum."""
    root = posterior_root(problem, control)
    return control + jax.random.normal(key, (samples, len(control)), control.dtype) @ root.T


def assimilate_ensemble(
    problem: LeastSquares, method: Minimiser | None = None, *, members: int, key: PRNGKeyArray
) -> Solution:
    """Analyses of `members` perturbed problems (leading axis), all starting from the unperturbed analysis.

    Draws of the posterior where the problem is linear (randomised maximum likelihood). Pure and jittable.
    Source: Oliver, He and Reynolds 1996, Proc. ECMOR V; Isaksen et al. 2010, ECMWF Tech. Memo. 636.
    """
    require(members >= 1, "members", "one or more", members)
    best = assimilate(problem, method).control
    size = jax.eval_shape(problem.residual, best).shape[0]

    def member(key: PRNGKeyArray) -> Solution:
        noise = jax.random.normal(key, (size,), best.dtype)
        return assimilate(Perturbed(problem, noise), method, start=best)

    return jax.vmap(member)(jax.random.split(key, members))


class Chain(NamedTuple):
    """What NUTS drew, after warm-up."""

    samples: Float[Array, "samples control"]
    effective: Float[Array, " control"]
    """Effective number of independent samples of each control."""
    divergences: Int[Array, ""]
    """Steps that left the level set: above zero, samples miss narrow parts of the posterior; warm up longer."""


def nuts(
    problem: LeastSquares,
    control: Float[Array, " control"],
    *,
    samples: int,
    key: PRNGKeyArray,
    warmup: int = 300,
) -> Chain:
    """The no-U-turn sampler on `exp(-J(v))`, begun at the analysis `control`.

    Runs in the coordinates `v = control + T z`, `T` the Laplace root, where the posterior is near N(0, I).
    Source: Hoffman and Gelman 2014, J. Mach. Learn. Res. 15, 1593-1623. Raises `ConfigError` for no samples.
    """
    from numpyro.diagnostics import effective_sample_size
    from numpyro.infer import MCMC, NUTS

    require(samples >= 1, "samples", "one or more", samples)
    require(warmup >= 1, "warmup", "one or more", warmup)
    root = eqx.filter_jit(posterior_root)(problem, control)
    kernel = NUTS(potential_fn=lambda z: problem.cost(control + root @ z))
    chain = MCMC(kernel, num_warmup=warmup, num_samples=samples, progress_bar=False)
    chain.run(key, init_params=jnp.zeros_like(control), extra_fields=("diverging",))
    drawn = control + chain.get_samples() @ root.T
    effective = jnp.asarray(effective_sample_size(jax.device_get(drawn)[None]))
    return Chain(drawn, effective, jnp.sum(chain.get_extra_fields()["diverging"]))

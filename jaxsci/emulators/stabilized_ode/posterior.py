"""What noisy observations of the flow say about the coefficients of the linear term: their posterior, by NUTS."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.infer import MCMC, NUTS

from jaxsci.core.config import require
from jaxsci.core.rollout import rollout
from jaxsci.emulators.stabilized_ode.linear import PolynomialSymbol
from jaxsci.emulators.stabilized_ode.model import StabilizedOde


class CoefficientPosterior(NamedTuple):
    """Draws of the coefficients of the orders asked for, and of the observations' standard deviation."""

    coefficients: Float[np.ndarray, "draws orders"]
    noise: Float[np.ndarray, " draws"]
    divergences: int
    """Of the sampler; more than a few per cent of the draws means that the posterior cannot be trusted."""

    def interval(self, level: float = 0.9) -> Float[np.ndarray, "2 orders"]:
        """The central credible interval of each coefficient."""
        return np.quantile(self.coefficients, [(1 - level) / 2, (1 + level) / 2], axis=0)


def with_coefficients(model: StabilizedOde, orders: Sequence[int], values: Float[Array, " orders"]) -> StabilizedOde:
    """The model with a polynomial symbol of exactly these coefficients; those of the other orders are zero."""
    full = jnp.zeros(max(orders), values.dtype).at[jnp.asarray(orders) - 1].set(values)
    return eqx.tree_at(lambda m: m.linear, model, PolynomialSymbol(full), is_leaf=lambda x: x is model.linear)


def coefficient_posterior(
    model: StabilizedOde,
    starts: Float[Array, "starts n"],
    observed: Float[Array, "starts n"],
    *,
    steps: int,
    orders: Sequence[int],
    prior_mean: Sequence[float],
    prior_deviation: Sequence[float],
    draws: int = 500,
    warmup: int = 300,
    key: PRNGKeyArray,
) -> CoefficientPosterior:
    """The coefficients of `(ik)^p`, p in `orders`, given states observed `steps` steps after known `starts`.

    The nonlinear term is the model's and stays fixed. Priors are independent normal ones, that of the observations'
    standard deviation is half-normal of scale 1; the likelihood is normal, independent from point to point. Gradients
    go through the exponential integrator, the phi functions included.

    Raises `ConfigError` for lists of different length.
    """
    require(
        len(orders) == len(prior_mean) == len(prior_deviation),
        "prior_mean, prior_deviation",
        f"{len(orders)} numbers each, one for each order",
        (len(prior_mean), len(prior_deviation)),
    )
    centre, width = jnp.asarray(prior_mean, starts.dtype), jnp.asarray(prior_deviation, starts.dtype)

    def observed_from() -> None:
        scaled = numpyro.sample("scaled", dist.Normal(jnp.zeros_like(centre), 1.0).to_event(1))
        noise = numpyro.sample("noise", dist.HalfNormal(1.0))
        trial = with_coefficients(model, orders, centre + width * scaled)
        ahead = jax.vmap(lambda u: rollout(trial.step_map(u), steps)(u)[-1])(starts)
        numpyro.sample("observed", dist.Normal(ahead, noise).to_event(2), obs=observed)

    sampler = MCMC(NUTS(observed_from), num_warmup=warmup, num_samples=draws, progress_bar=False)
    sampler.run(key, extra_fields=("diverging",))
    found = sampler.get_samples()
    coefficients = np.asarray(centre + width * found["scaled"])
    return CoefficientPosterior(
        coefficients, np.asarray(found["noise"]), int(np.sum(sampler.get_extra_fields()["diverging"]))
    )


def forecast_ensemble(
    model: StabilizedOde,
    posterior: CoefficientPosterior,
    orders: Sequence[int],
    start: Float[Array, " n"],
    *,
    steps: int,
    members: int,
) -> Float[Array, "members steps n"]:
    """Forecasts from one state by models with coefficients drawn from the posterior."""
    chosen = np.linspace(0, len(posterior.coefficients) - 1, members).round().astype(int)
    draws = jnp.asarray(posterior.coefficients[chosen], start.dtype)
    return jax.vmap(lambda c: with_coefficients(model, orders, c).rollout(start, steps))(draws)

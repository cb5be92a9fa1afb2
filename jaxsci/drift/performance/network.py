"""An ensemble of small networks, each with a mean and a spread of its own; members differ by their initial weights."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray


class NetworkEnsemble(eqx.Module):
    """A fitted ensemble; call it for mean and standard deviation of y at new points.

    The variance is that of the mixture: mean of the members' variances plus variance of their means (Lakshminarayanan
    et al. 2017).
    """

    members: eqx.nn.MLP
    centre: Float[Array, ""]
    scale: Float[Array, ""]

    def __call__(self, x: Float[Array, "m f"]) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
        outputs = eqx.filter_vmap(lambda member: jax.vmap(member)(x))(self.members)
        means, variances = outputs[..., 0], jax.nn.softplus(outputs[..., 1]) + 1e-4
        mean = means.mean(axis=0)
        deviation = jnp.sqrt(variances.mean(axis=0) + means.var(axis=0))
        return self.centre + self.scale * mean, self.scale * deviation


def fit_network(
    x: Float[Array, "n f"],
    y: Float[Array, " n"],
    weight: Float[Array, " n"],
    *,
    key: PRNGKeyArray,
    members: int = 5,
    width: int = 32,
    steps: int = 300,
    learning_rate: float = 1e-2,
    decay: float = 1e-2,
) -> NetworkEnsemble:
    """Weighted Gaussian negative log-likelihood, full batches, AdamW; all members in one scan."""
    total = jnp.maximum(weight.sum(), 1e-12)
    centre = weight @ y / total
    scale = jnp.sqrt(jnp.maximum(weight @ (y - centre) ** 2 / total, 1e-12))
    target = (y - centre) / scale
    rule = optax.adamw(optax.cosine_decay_schedule(learning_rate, steps), weight_decay=decay)

    def loss(member: eqx.nn.MLP) -> Float[Array, ""]:
        output = jax.vmap(member)(x)
        variance = jax.nn.softplus(output[:, 1]) + 1e-4
        return weight @ (jnp.log(variance) + (target - output[:, 0]) ** 2 / variance) / (2 * total)

    def train(key: PRNGKeyArray) -> eqx.nn.MLP:
        network = eqx.nn.MLP(x.shape[1], 2, width, 2, activation=jax.nn.tanh, dtype=x.dtype, key=key)
        weights, structure = eqx.partition(network, eqx.is_inexact_array)

        def step(carry, _):
            weights, state = carry
            gradient = jax.grad(lambda w: loss(eqx.combine(w, structure)))(weights)
            updates, state = rule.update(gradient, state, weights)
            return (eqx.apply_updates(weights, updates), state), None

        (weights, _), _ = jax.lax.scan(step, (weights, rule.init(weights)), length=steps)
        return eqx.combine(weights, structure)

    return NetworkEnsemble(eqx.filter_vmap(train)(jax.random.split(key, members)), centre, scale)

"""Rank-1 Bayesian networks: shared weights times random vectors on both sides."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.bayesnas.weights.base import Info, Potential, Task, WeightPosterior, prior_potential
from jaxsci.core.config import between, positive


class Factors(NamedTuple):
    """Of one weight array (..., inputs, outputs), per component: means and log standard deviations."""

    input_mean: Float[Array, "components *lead inputs"]
    output_mean: Float[Array, "components *lead outputs"]
    input_log_std: Float[Array, "components *lead inputs"]
    output_log_std: Float[Array, "components *lead outputs"]


class Rank1State(NamedTuple):
    """Shared weights, their random rank-1 factors, and the optimizer's state."""

    shared: PyTree
    factors: PyTree
    """A `Factors` for each weight with two axes or more, in the order of the leaves."""
    optimizer: Any


@dataclass(frozen=True)
class Rank1(WeightPosterior, kind="rank1"):
    """W = W' * outer(r, s), Gaussian r and s with prior N(1, 0.1^2) around `components` sign-flipped starts.

    Dusenberry et al., arXiv:2005.07186. One component is drawn per step; the divergence of r and s is annealed in over
    the first two thirds of the steps. W' and biases have the Gaussian prior of the task. Adam throughout.
    """

    learning_rate: float = 3e-3
    components: int = 4
    negative: float = 0.5
    samples: int = 8

    def __post_init__(self) -> None:
        positive(self, "learning_rate", "components", "samples")
        between(self, "negative", 0.0, 1.0)

    PRIOR_STD = 0.1

    def init(self, params: PyTree, task: Task, *, key: Key[Array, ""]) -> Rank1State:
        factors = []
        for number, leaf in enumerate(jax.tree.leaves(params)):
            if leaf.ndim < 2:
                continue
            left, right = jax.random.split(jax.random.fold_in(key, number))
            shapes = ((self.components, *leaf.shape[:-1]), (self.components, *leaf.shape[:-2], leaf.shape[-1]))
            signs = [
                1 - 2.0 * jax.random.bernoulli(k, self.negative, s) for k, s in zip((left, right), shapes, strict=True)
            ]
            spread = [jnp.full(s, jnp.log(self.PRIOR_STD / 2)) for s in shapes]
            factors.append(Factors(signs[0], signs[1], spread[0], spread[1]))
        rule = self._rule()
        return Rank1State(params, factors, rule.init((params, factors)))

    def _rule(self) -> optax.GradientTransformation:
        return optax.adam(self.learning_rate)

    def update(
        self, state: Rank1State, step: Int[Array, ""], potential: Potential, task: Task, *, key: Key[Array, ""]
    ) -> tuple[Rank1State, Info]:
        which, noise = jax.random.split(key)
        component = jax.random.randint(which, (), 0, self.components)
        annealed = jnp.minimum(step / max(1, 2 * task.steps // 3), 1.0)

        def total(learned: tuple[PyTree, PyTree]) -> tuple[Array, Array]:
            shared, factors = learned
            loss = potential(_combine(shared, factors, component, key=noise))
            divergence = sum(self._divergence(f) for f in factors) / self.components
            return loss + prior_potential(shared, task) + annealed * divergence / task.count, loss

        learned = (state.shared, state.factors)
        (_, loss), gradient = jax.value_and_grad(total, has_aux=True)(learned)
        change, optimizer = self._rule().update(gradient, state.optimizer, learned)
        shared, factors = optax.apply_updates(learned, change)  # type: ignore[misc]
        return Rank1State(shared, factors, optimizer), Info(loss, jnp.asarray(self.learning_rate))

    def _divergence(self, factors: Factors) -> Float[Array, ""]:
        """KL from N(+-1, 0.1^2), the sign being that of the mean: summed over components."""
        total = jnp.zeros(())
        for mean, log_std in (
            (factors.input_mean, factors.input_log_std),
            (factors.output_mean, factors.output_log_std),
        ):
            ratio = jnp.exp(2 * log_std) / self.PRIOR_STD**2
            distance = jnp.square(jnp.abs(mean) - 1) / self.PRIOR_STD**2
            total += 0.5 * jnp.sum(ratio + distance - 1 - jnp.log(ratio))
        return total

    def draws(self, state: Rank1State, task: Task, *, key: Key[Array, ""]) -> PyTree:
        numbers = jnp.arange(self.samples)
        return jax.lax.map(
            lambda n: _combine(state.shared, state.factors, n % self.components, key=jax.random.fold_in(key, n)),
            numbers,
        )


def _combine(shared: PyTree, factors: list[Factors], component: Array, *, key: Key[Array, ""]) -> PyTree:
    """A draw of the effective weights of one component."""
    leaves, tree = jax.tree.flatten(shared)
    rest, combined = iter(factors), []
    for number, leaf in enumerate(leaves):
        if leaf.ndim < 2:
            combined.append(leaf)
            continue
        chosen = jax.tree.map(lambda a: a[component], next(rest))
        left, right = jax.random.split(jax.random.fold_in(key, number))
        r = chosen.input_mean + jnp.exp(chosen.input_log_std) * jax.random.normal(left, chosen.input_mean.shape)
        s = chosen.output_mean + jnp.exp(chosen.output_log_std) * jax.random.normal(right, chosen.output_mean.shape)
        combined.append(leaf * r[..., :, None] * s[..., None, :])
    return jax.tree.unflatten(tree, combined)

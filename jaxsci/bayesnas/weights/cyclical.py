"""Cyclical stochastic-gradient Hamiltonian Monte Carlo."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PyTree

from jaxsci.bayesnas.weights.base import Info, Potential, Task, WeightPosterior, like_normal
from jaxsci.bayesnas.weights.deep_ensemble import SgdState, descend
from jaxsci.core.config import between, positive, require


class ChainState(NamedTuple):
    """Weights, velocity, and what the cycles have left behind."""

    params: PyTree
    velocity: PyTree
    kept: PyTree
    """(samples, ...): the last `samples_per_cycle` weights of every cycle so far."""


@dataclass(frozen=True)
class CyclicalSgHmc(WeightPosterior, kind="cyclical"):
    """Cycles of a cosine learning rate: the first part of each explores without noise, the last samples.

        v <- (1 - friction) v - rate * gradient + N(0, 2 friction rate temperature / count);  w <- w + v

    where the gradient is that of the mean loss plus prior, so the stationary density is exp(-U / temperature), U the
    full negative log posterior. Zhang et al., arXiv:1902.03932. `temperature` 1 is Bayes; small networks on few data
    predict better far below (arXiv:2002.02405), and 0 gives the snapshots of a deterministic descent. Good values:
    cycles 3 to 4, noise in the last tenth to fifth of a cycle, friction 0.1, the learning rate that SGD likes.
    """

    learning_rate: float = 0.1
    friction: float = 0.1
    cycles: int = 3
    samples_per_cycle: int = 1
    noise_fraction: float = 0.2
    temperature: float = 1e-3

    def __post_init__(self) -> None:
        positive(self, "learning_rate", "friction", "cycles", "samples_per_cycle")
        between(self, "friction", 0.0, 1.0)
        between(self, "noise_fraction", 0.0, 1.0)
        between(self, "temperature", 0.0, 1e6)

    @property
    def samples(self) -> int:
        return self.cycles * self.samples_per_cycle

    def check_steps(self, steps: int) -> None:
        fits = steps % self.cycles == 0 and steps // self.cycles >= self.samples_per_cycle
        require(fits, "steps", f"a multiple of cycles={self.cycles}, each long enough for its samples", steps)

    def init(self, params: PyTree, task: Task, *, key: Key[Array, ""]) -> ChainState:
        self.check_steps(task.steps)
        kept = jax.tree.map(lambda leaf: jnp.zeros((self.samples, *leaf.shape), leaf.dtype), params)
        return ChainState(params, jax.tree.map(jnp.zeros_like, params), kept)

    def update(
        self, state: ChainState, step: Int[Array, ""], potential: Potential, task: Task, *, key: Key[Array, ""]
    ) -> tuple[ChainState, Info]:
        cycle = task.steps // self.cycles
        place = step % cycle
        rate = 0.5 * self.learning_rate * (1 + jnp.cos(jnp.pi * place / cycle))
        noisy = place >= (1 - self.noise_fraction) * cycle
        scale = jnp.sqrt(2 * self.friction * rate * self.temperature / task.count)
        descent, info = descend(SgdState(state.params, state.velocity), potential, task, rate, self.friction)

        def shaken(descent: SgdState) -> SgdState:
            noise = jax.tree.map(lambda n: scale * n, like_normal(descent.params, key=key))
            return jax.tree.map(jnp.add, descent, SgdState(noise, noise))

        if self.temperature > 0:
            descent = jax.lax.cond(noisy, shaken, lambda descent: descent, descent)
        # Every step overwrites the slot of the sample it leads to, so the last one before the next slot stays.
        slot = step // cycle * self.samples_per_cycle + self._sample_at(place, cycle)
        kept = jax.tree.map(lambda k, p: k.at[slot].set(p), state.kept, descent.params)
        return ChainState(descent.params, descent.velocity, kept), info

    def _sample_at(self, place: Array, cycle: int) -> Array:
        """Which sample of its cycle is being prepared: they end evenly spaced over the noisy part."""
        first = int((1 - self.noise_fraction) * cycle)
        spacing = max(1, (cycle - first) // self.samples_per_cycle)
        return jnp.clip((place - (cycle - self.samples_per_cycle * spacing)) // spacing, 0, self.samples_per_cycle - 1)

    def draws(self, state: ChainState, task: Task, *, key: Key[Array, ""]) -> PyTree:
        return state.kept

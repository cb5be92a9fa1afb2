"""What a search space is: a fixed set of decisions, and one function for all the networks they lead to."""

from collections.abc import Iterable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.core.config import Choice
from jaxsci.core.errors import ConfigError


class Space(Choice):
    """A family of networks told apart by `decisions` choices, each among the operations `ops`.

    An architecture is `z` of shape (decisions, ops): one-hot rows for a single network, rows on the simplex for a
    mixture. Parameters and shapes do not depend on it, so one compiled program serves every architecture, and networks
    of different architectures train together under `vmap`.

    A subclass is a frozen dataclass: hashable, so that it can be a static argument of `jit`.
    """

    @property
    def ops(self) -> tuple[str, ...]:
        """Names of the operations, in the order of the last axis of `z`."""
        raise NotImplementedError

    @property
    def decision_names(self) -> tuple[str, ...]:
        """One name per row of `z`, such as `0→2`."""
        raise NotImplementedError

    @property
    def decisions(self) -> int:
        return len(self.decision_names)

    def init(self, inputs: tuple[int, ...], outputs: int, *, key: Key[Array, ""]) -> PyTree:
        """Fresh parameters for inputs of shape `inputs` (without batch axis)."""
        raise NotImplementedError

    def features(
        self, params: PyTree, z: Float[Array, "decisions ops"], x: Float[Array, "batch *inputs"]
    ) -> Float[Array, "batch width"]:
        """What the linear head sees."""
        raise NotImplementedError

    def apply(
        self, params: PyTree, z: Float[Array, "decisions ops"], x: Float[Array, "batch *inputs"]
    ) -> Float[Array, "batch outputs"]:
        """The network's outputs: logits, or what a regression head reads."""
        return head(params["head"], self.features(params, z, x))

    def connected(self, choice: Int[np.ndarray, " decisions"]) -> bool:
        """Whether the output depends on the input at all."""
        raise NotImplementedError


def head(params: PyTree, features: Float[Array, "batch width"]) -> Float[Array, "batch outputs"]:
    """The last, linear layer every space ends in."""
    return features @ params["weight"] + params["bias"]


def init_dense(fan_in: int, fan_out: int, *, key: Key[Array, ""], gain: float = 2.0) -> dict[str, Array]:
    """A linear layer with normal weights of variance `gain / fan_in` (He et al., arXiv:1502.01852) and zero bias."""
    weight = jnp.sqrt(gain / fan_in) * jax.random.normal(key, (fan_in, fan_out))
    return {"weight": weight, "bias": jnp.zeros(fan_out)}


def one_hot(choice: Int[Array, "*batch decisions"], ops: int) -> Float[Array, "*batch decisions ops"]:
    """The architecture of a list of choices."""
    return jax.nn.one_hot(choice, ops)


def require_connected(space: Space, choices: Iterable[Sequence[int] | np.ndarray]) -> None:
    """Raise `ConfigError` for the first architecture that is not in the space, or whose output ignores its input."""
    for choice in choices:
        given = np.asarray(choice)
        if given.shape != (space.decisions,) or not np.isin(given, np.arange(len(space.ops))).all():
            raise ConfigError(
                f"architecture: expected {space.decisions} numbers from 0 to {len(space.ops) - 1}, got {list(choice)}"
            )
        if not space.connected(given):
            named = ", ".join(f"{n} {space.ops[c]}" for n, c in zip(space.decision_names, given, strict=True))
            raise ConfigError(
                f"architecture: {named} disconnects input from output; "
                "put another operation than 'none' on one path between them"
            )

"""Residual networks for tables: each block chooses its nonlinearity and its width."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.bayesnas.space.base import Space, head, init_dense
from jaxsci.core.config import between, require

OFF, RELU, TANH, SILU = range(4)


@dataclass(frozen=True)
class ResidualNet(Space, kind="residual"):
    """`blocks` residual blocks of `h + dense(mask * f(dense(h)))`.

    Per block two decisions: f among {off, relu, tanh, silu}, and how many of `width` hidden units are used, a quarter
    to all of them (a mask, so that shapes stay). The relatives are the spaces of AutoDEUQ (arXiv:2110.13511, section
    III): depth, width, activation and skip connections. Good values: blocks 2 to 4, width 32 to 128.
    """

    blocks: int = 3
    width: int = 64

    def __post_init__(self) -> None:
        between(self, "blocks", 1, 16)
        require(self.width >= 4 and self.width % 4 == 0, "width", "a multiple of 4", self.width)

    @property
    def ops(self) -> tuple[str, ...]:
        return ("off · 1/4", "relu · 1/2", "tanh · 3/4", "silu · all")

    @property
    def decision_names(self) -> tuple[str, ...]:
        return tuple(f"{what} {block + 1}" for block in range(self.blocks) for what in ("f", "width"))

    def init(self, inputs: tuple[int, ...], outputs: int, *, key: Key[Array, ""]) -> PyTree:
        keys = jax.random.split(key, 2 * self.blocks + 2)
        shrink = 1 / self.blocks  # the sum of all blocks then has the size of one
        return {
            "stem": init_dense(int(np.prod(inputs)), self.width, key=keys[0], gain=1.0),
            "up": [init_dense(self.width, self.width, key=k) for k in keys[1 : self.blocks + 1]],
            "down": [init_dense(self.width, self.width, key=k, gain=shrink) for k in keys[self.blocks + 1 : -1]],
            "head": init_dense(self.width, outputs, key=keys[-1], gain=0.1),
        }

    def features(
        self, params: PyTree, z: Float[Array, "decisions ops"], x: Float[Array, "batch *inputs"]
    ) -> Float[Array, "batch width"]:
        state = head(params["stem"], x.reshape(len(x), -1))
        quarter = jnp.arange(self.width) // (self.width // 4)
        masks = (quarter[None] <= jnp.arange(4)[:, None]).astype(state.dtype)  # (ops, width)
        for block, (up, down) in enumerate(zip(params["up"], params["down"], strict=True)):
            f, width = z[2 * block], z[2 * block + 1]
            hidden = head(up, state)
            active = f[RELU] * jax.nn.relu(hidden) + f[TANH] * jnp.tanh(hidden) + f[SILU] * jax.nn.silu(hidden)
            state = state + (1 - f[OFF]) * head(down, (width @ masks) * active)
        return state

    def connected(self, choice: Int[np.ndarray, " decisions"]) -> bool:
        return True  # the residual path is always there

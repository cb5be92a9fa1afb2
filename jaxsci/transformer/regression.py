"""The decoder on vectors: a causal transformer that reads a series of numbers and says what follows every element.

    x = inputs inward + position;   x = block_n(x), n = 1 ... l;   outputs = x outward^T

The layers, their sharding and the schedules are those of the decoder of tokens; only its ends differ. Nothing is
normalised at the end: sizes mean something here, and a linear map of the element itself stays one. `outward` starts at
zero: before training every output is zero, so what is learned is a correction to whatever the targets are
departures from. `predict` is the same function on one device, differentiable forward as well as backward and in the
precision of its input, for those who put the trained model into an algorithm of their own.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Bool, Float, Key, PyTree

from jaxsci.core.config import positive
from jaxsci.transformer.attention import attention
from jaxsci.transformer.collectives import Alone, SequenceSharded, total
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.layers import Block, dropout
from jaxsci.transformer.layout import Layout
from jaxsci.transformer.model import Activation, Decoder, init_blocks

f32 = jnp.float32


@dataclass(frozen=True)
class RegressionConfig(ModelConfig):
    """A decoder of `inputs` numbers per element of the series, saying `outputs` numbers at each; no vocabulary."""

    vocabulary: int = 1
    inputs: int = 1
    outputs: int = 1

    def __post_init__(self):
        super().__post_init__()
        positive(self, "inputs", "outputs")


def init(model: RegressionConfig, stored: Layout, key: Key[Array, ""]) -> PyTree:
    """Float32 parameters in a layout; bits depend on `key` alone. Inputs are taken to be of order one."""
    tables, blocks = jax.random.split(key)
    inward, position = jax.random.split(tables)
    params = {
        "inward": model.inputs**-0.5 * jax.random.normal(inward, (model.inputs, model.width), f32),
        "outward": jnp.zeros((model.outputs, model.width), f32),
        "blocks": init_blocks(model, stored, blocks),
    }
    if model.positions == "learned":
        shape = (model.sequence, model.width)
        params["position"] = model.initial_deviation * jax.random.normal(position, shape, f32)
    return params


class Regressor(Decoder):
    """`Decoder` of vectors; its loss is the squared error, summed over the targets that are not NaN."""

    model: RegressionConfig
    init = staticmethod(init)

    @staticmethod
    def counted(targets: Float[Array, "*batch sequence outputs"]) -> Bool[Array, "*batch sequence outputs"]:
        return ~jnp.isnan(targets)

    def embed(
        self, e: PyTree, inputs: Float[Array, "batch sequence inputs"], keys: Key[Array, " batch"] | None
    ) -> Activation:
        """Vectors to activations; `e` holds the gathered tables."""
        x = self._own(inputs).astype(self.plan.dtype) @ e["inward"]
        if "position" in e:
            x = x + e["position"]
        return dropout(x, self.model.dropout, self._layer_keys(keys, 0), 0)

    def loss(self, e: PyTree, x: Activation, targets: Float[Array, "batch sequence outputs"]) -> Float[Array, ""]:
        said = jnp.einsum("bsh,oh->bso", x, e["outward"], preferred_element_type=f32)
        wanted = self._own(targets)
        error = jnp.where(self.counted(wanted), said - jnp.nan_to_num(wanted), 0)
        return total(jnp.sum(jnp.square(error)), ("tensor",))

    def _own(self, series: Float[Array, "batch sequence numbers"]) -> Float[Array, "batch shard numbers"]:
        """The elements whose activations lie on this device."""
        shard = self.model.sequence // lax.axis_size("tensor")
        return series[:, SequenceSharded.positions(shard)]


def predict(
    model: RegressionConfig,
    params: PyTree,
    inputs: Float[Array, "sequence inputs"],
    *,
    positions: slice = slice(None),
) -> Float[Array, "positions outputs"]:
    """What the model says after the elements at `positions` of one series, without dropout.

    `params` are as `gathered` returns them; fewer rows of `outward` are fewer outputs.
    """
    params = jax.tree.map(lambda a: a.astype(inputs.dtype), params)
    block = nnx.split(nnx.eval_shape(lambda: Block(model, jax.random.key(0))))[0]
    attend = partial(attention, implementation="dense")
    x = (inputs @ params["inward"])[None]
    if "position" in params:
        x = x + params["position"]

    def layer(x: Array, w: PyTree) -> tuple[Array, None]:
        return nnx.merge(block, w)(x, jnp.arange(model.sequence), attend, Alone), None

    x, _ = lax.scan(layer, x, params["blocks"])
    return x[0, positions] @ params["outward"].T


def gathered(model: RegressionConfig, params: PyTree) -> PyTree:
    """Trained parameters of any mesh on the host, the layers in their order and without padding, for `predict`."""
    whole = jax.tree.map(np.asarray, params)
    flat = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:])[: model.layers], whole["blocks"])
    return whole | {"blocks": flat}

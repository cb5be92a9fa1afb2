"""The NAS-Bench-201 supernet operation by operation: what the merged one must equal."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxsci.bayesnas.space.base import head
from jaxsci.bayesnas.space.convolution import convolve, group_norm
from jaxsci.bayesnas.space.nasbench201 import AVERAGE, CONV1, CONV3, EDGES, NODES, SKIP, NasBench201Cell


def explicit_apply(
    space: NasBench201Cell,
    params: PyTree,
    z: Float[Array, "decisions ops"],
    x: Float[Array, "batch height width colours"],
    *,
    count_include_pad: bool = True,
) -> Float[Array, "batch outputs"]:
    """`space.apply` with a convolution or pooling for every operation of every edge.

    With `count_include_pad=False` pooling divides by the pixels inside the border only, as the benchmark does; no
    single kernel can, and border pixels then differ from the merged supernet.
    """

    def cell(params: PyTree, z: Array, x: Array, groups: int) -> Array:
        return _cell(params, z, x, groups, count_include_pad)

    return head(params["head"], space.features_through(cell, params, z, x))


def average_pool(
    x: Float[Array, "batch height width channels"], *, count_include_pad: bool
) -> Float[Array, "batch height width channels"]:
    """Mean over 3 x 3 pixels at stride 1."""

    def summed(values: Array) -> Array:
        return jax.lax.reduce_window(values, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")

    return summed(x) / (9.0 if count_include_pad else summed(jnp.ones_like(x)))


def _cell(params: PyTree, z: Array, x: Array, groups: int, count_include_pad: bool) -> Array:
    states = [x]
    for target in range(1, NODES):
        total = jnp.zeros_like(x)
        for number, (source, end) in enumerate(EDGES):
            if end != target:
                continue
            active = jax.nn.relu(states[source])
            total += z[number, SKIP] * active
            total += z[number, CONV1] * convolve(active, params["conv1"][number])
            total += z[number, CONV3] * convolve(active, params["conv3"][number])
            total += z[number, AVERAGE] * average_pool(active, count_include_pad=count_include_pad)
        states.append(group_norm(params["norms"][target - 1], total, groups))
    return states[-1]

"""Labelled examples and the order in which a chain sees them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxsci.core.config import require


class Examples(NamedTuple):
    """Inputs scaled for a network, and class numbers or values."""

    x: Float[Array, "examples *inputs"]
    y: Int[Array, " examples"] | Float[Array, " examples"]


def batch_indices(
    count: int, batch: int, steps: int, *, key: Key[Array, ""], first: int | Int[Array, ""] = 0
) -> Int[Array, "steps batch"]:
    """Rows of the batches of steps `first` to `first + steps`: each epoch a new permutation, its remainder left out.

    Depends on the key and the number of a step alone, not on where a run was cut into dispatches.
    """
    require(batch <= count, "batch_size", f"at most the {count} examples", batch)
    per_epoch = count // batch
    begin = first // per_epoch
    epochs = begin + jnp.arange(-(-steps // per_epoch) + 1)  # one more: the first may have begun before
    keys = jax.vmap(lambda epoch: jax.random.fold_in(key, epoch))(epochs)
    orders = jax.vmap(lambda k: jax.random.permutation(k, count)[: per_epoch * batch])(keys)
    return jax.lax.dynamic_slice_in_dim(orders.reshape(-1, batch), first - begin * per_epoch, steps)


def take(data: Examples, rows: Int[Array, " batch"]) -> Examples:
    """The examples of these rows."""
    return Examples(data.x[rows], data.y[rows])

"""The few collectives of the train step, written where they happen: inside one fully manual `shard_map`.

`check_vma` tracks which mesh axes a value varies over, and transposing these functions puts every gradient
reduction in its place; a forgotten one is a type error. An axis of size 1 does not exist here: nothing varies
over it, nothing is sent along it, and on one device the program holds no collective at all.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxsci.transformer.linear import linear

AXES = ("data", "fsdp", "pipe", "tensor")
BATCH = ("data", "fsdp")


def varying(x: Array) -> tuple[str, ...]:
    """The mesh axes over which `x` may differ between devices; empty outside `shard_map`.

    In the order of the alphabet: a set's own order differs between processes, and with it their programs would.
    """
    kind = getattr(jax.typeof(x), "manual_axis_type", None)
    return tuple(sorted(kind.varying)) if kind is not None else ()


def present(axes: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `axes` that have more than one device."""
    return tuple(axis for axis in axes if lax.axis_size(axis) > 1)


def place(axis: str) -> Int[Array, ""] | int:
    """This device's coordinate along `axis`."""
    return lax.axis_index(axis) if lax.axis_size(axis) > 1 else 0


def vary(x: Array, axes: tuple[str, ...] = AXES) -> Array:
    """Mark `x` as differing per device over `axes`; the transpose is one sum over those axes."""
    new = tuple(axis for axis in present(axes) if axis not in varying(x))
    return lax.pcast(x, new, to="varying") if new else x


def total(x: PyTree, axes: tuple[str, ...]) -> PyTree:
    """Sum over `axes`; the result is the same on all their devices."""
    axes = present(axes)
    return lax.psum(x, axes) if axes else x


def largest(x: Array, axis: str) -> Array:
    """Maximum over `axis`."""
    return lax.pmax(x, axis) if present((axis,)) else x


def vary_like(x: Array, like: Array) -> Array:
    """Mark `x` as varying over every axis that `like` varies over."""
    return vary(x, varying(like))


def all_gather(x: Array, axis_name: str, dimension: int) -> Array:
    """Concatenate the shards of `x` along `dimension`. Transpose: sum and scatter."""
    return x if lax.axis_size(axis_name) == 1 else lax.all_gather(x, axis_name, axis=dimension, tiled=True)


def sum_scatter(x: Array, axis_name: str, dimension: int) -> Array:
    """Sum over `axis_name` and keep this device's slice of `dimension`. Transpose: gather."""
    if lax.axis_size(axis_name) == 1:
        return x
    return lax.psum_scatter(x, axis_name, scatter_dimension=dimension, tiled=True)


def shift(x: PyTree, axis_name: str, by: int) -> PyTree:
    """Send every leaf to the neighbour `by` places further along the ring `axis_name`."""
    n = lax.axis_size(axis_name)
    return x if n == 1 else lax.ppermute(x, axis_name, [(j, (j + by) % n) for j in range(n)])


class SequenceSharded:
    """Between tensor-parallel regions the sequence is split over `tensor` (Korthikanti et al. 2205.05198)."""

    linear = staticmethod(linear)

    @staticmethod
    def enter(x: Float[Array, "batch shard width"]) -> Float[Array, "batch sequence width"]:
        return all_gather(x, "tensor", 1)

    @staticmethod
    def leave(x: Float[Array, "batch sequence width"]) -> Float[Array, "batch shard width"]:
        return sum_scatter(x, "tensor", 1)

    @staticmethod
    def positions(length: int) -> Array:
        """Positions in the sequence of this device's `length` rows."""
        return place("tensor") * length + jnp.arange(length)


class Replicated:
    """Between tensor-parallel regions every `tensor` device holds all positions: decoding, one token at a
    time.
    """

    linear = staticmethod(linear)

    @staticmethod
    def enter(x: Float[Array, "batch sequence width"]) -> Float[Array, "batch sequence width"]:
        return x

    @staticmethod
    def leave(x: Float[Array, "batch sequence width"]) -> Float[Array, "batch sequence width"]:
        return total(x, ("tensor",))


class Alone:
    """One device outside every mesh. Products are the plain ones, which differentiate forward as well as backward."""

    @staticmethod
    def enter(x: Float[Array, "batch sequence width"]) -> Float[Array, "batch sequence width"]:
        return x

    @staticmethod
    def leave(x: Float[Array, "batch sequence width"]) -> Float[Array, "batch sequence width"]:
        return x

    @staticmethod
    def linear(x: Float[Array, "batch sequence *inner"], w: Float[Array, "..."]) -> Float[Array, "..."]:
        return jnp.tensordot(x, w, x.ndim - 2)


def keep_mask(keys: Key[Array, " batch"], shape: tuple[int, ...], rate: float) -> Array:
    """Which entries of an activation (batch, shard, width) dropout keeps.

    One key per (step, sequence, layer, site), folded with each position: the mask does not know the mesh.
    """
    positions = SequenceSharded.positions(shape[1])

    def draw(key):
        return jax.vmap(lambda p: jax.random.bernoulli(jax.random.fold_in(key, p), 1 - rate, shape[2:]))

    return jax.vmap(lambda key: draw(key)(positions))(keys)

"""Gradients added to their float32 totals layer by layer, as the backward pass makes them.

Differentiating a loop over layers returns the gradients of all layers at once, stacked, in the weights' own type:
a second copy of a stage's gradients beside their totals, and with hundreds of 16-bit micro-batches a sum that stalls.
Here the totals travel through the loop instead. Forward they pass untouched; backward their cotangent is the
running total, to which each layer adds its own gradient in place:

    (y, totals), pull = jax.vjp(stage, zeros(w), x);   new_totals, dx = pull((dy, totals))
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, PyTree

f32 = jnp.float32


@jax.custom_vjp
def _deposit(w: Array, totals: Float[Array, "rows ..."], row: Int[Array, ""]):
    return w, totals


def _backward(row, cotangents):
    dw, totals = cotangents
    # As one indexed sum the compiler updates the row in place; read, add and write would copy it in float32 first.
    dw = lax.optimization_barrier(dw)
    more = totals.at[row].add(dw.astype(f32), unique_indices=True, mode="promise_in_bounds")
    return jnp.zeros_like(dw), more, None


_deposit.defvjp(lambda w, totals, row: ((w, totals), row), _backward)


def deposit(w: PyTree, totals: PyTree, row: Int[Array, ""] | int) -> tuple[PyTree, PyTree]:
    """One layer's weights and the totals, both unchanged; the weights' gradient is added to `totals[row]` on the way
    back and nowhere else. Without totals (None) it goes to the weights as usual.
    """
    if totals is None:
        return w, None
    w, structure = jax.tree.flatten(w)
    pairs = [_deposit(a, z, row) for a, z in zip(w, structure.flatten_up_to(totals), strict=True)]
    return structure.unflatten([a for a, _ in pairs]), structure.unflatten([z for _, z in pairs])

"""Ensembles: a pytree with a leading member axis, mapped by `vmap` and spread over the mesh axis `member`."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Key, PyTree

from jaxsci.core.errors import ConfigError

MEMBER = "member"


def ensemble(fn: Callable[..., PyTree], *, in_axes: Any = 0, mesh: Mesh | None = None) -> Callable[..., PyTree]:
    """Map `fn` over ensemble members; results gain a leading member axis.

    **Arguments:**

    - `fn`: function of positional arguments for a single member.
    - `in_axes`: as in `jax.vmap`: which axis of each argument counts members (0 or more), `None` for shared
      ones.
    - `mesh`: with a mesh that has the axis `member`, every device of that axis computes its own members and
      nothing is communicated; other mesh axes remain with the compiler. Without it (or on a mesh without that
      axis), all members run where the arguments are.

    The result does not depend on the mesh as long as the randomness of a member comes from its own key (see
    `init_ensemble`). May be called inside or outside `jit`, and differentiated.

    Raises `ConfigError` when the number of members cannot be divided among the devices.
    """
    members = jax.vmap(fn, in_axes=in_axes)
    if mesh is None or MEMBER not in mesh.axis_names:
        return members

    def spec(axis: int | None) -> PartitionSpec:
        return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, MEMBER)

    axes = in_axes if isinstance(in_axes, int) else tuple(in_axes)
    sharded = jax.jit(  # a shard_map that leaves some axes to the compiler exists only under jit
        jax.shard_map(
            members,
            mesh=mesh,
            in_specs=jax.tree.map(spec, axes, is_leaf=lambda axis: axis is None),
            out_specs=PartitionSpec(MEMBER),
            axis_names={MEMBER},
            # The check refuses loops whose carry starts as a constant; nothing here is claimed to be
            # replicated.
            check_vma=False,
        )
    )

    def checked(*arguments: PyTree) -> PyTree:
        devices = mesh.shape[MEMBER]
        mapped = axes if isinstance(axes, tuple) else (axes,) * len(arguments)
        for argument, axis in zip(arguments, mapped, strict=True):
            if isinstance(axis, int):
                for leaf in jax.tree.leaves(argument):
                    count = jnp.shape(leaf)[axis]
                    if count % devices:
                        raise ConfigError(
                            f"ensemble: {count} members do not divide among mesh.member={devices} devices; "
                            f"use a multiple of {devices} members or another mesh.member"
                        )
        return sharded(*arguments)

    return checked


def init_ensemble(init: Callable[..., PyTree], n: int, *, key: Key[Array, ""], mesh: Mesh | None = None) -> PyTree:
    """Build `n` members with `init(key=...)`, each from `fold_in(key, member)`; leaves gain a leading axis n.

    Member i is the same whatever `n` and `mesh` are.
    """
    build = ensemble(lambda member, key: init(key=jax.random.fold_in(key, member)), in_axes=(0, None), mesh=mesh)
    return build(jnp.arange(n), key)

"""Evidence shared by the jobs of one worker, of one physical machine, of one run.

No edges are built: groups are numbered within each run, summed as one product with their indicator, and handed back to
their members, in O(runs x nodes x groups) with a static number of groups. Numbers carry no identity beyond a run, so a
host that happens to be bad in one campaign cannot be learned by heart.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.workflows.workflow import Workflow

GROUPS_STEP = 8  # the number of groups is rounded up to a multiple of this, so that few programs are compiled


class Groups(eqx.Module):
    """A partition of the jobs of every run: `member[n, r, g]` is 1 where job n of run r belongs to group g."""

    member: Float[Array, "nodes runs groups"]

    def sum(self, h: Float[Array, "nodes runs width"]) -> Float[Array, "runs groups width"]:
        return jnp.einsum("nrg,nrw->rgw", self.member, h)

    def spread(self, pooled: Float[Array, "runs groups width"]) -> Float[Array, "nodes runs width"]:
        return jnp.einsum("nrg,rgw->nrw", self.member, pooled)

    def count(self) -> Float[Array, "runs groups"]:
        return self.member.sum(axis=0)

    def average(self, h: Float[Array, "nodes runs width"]) -> Float[Array, "runs groups width"]:
        """Of the members of each group; 0 for empty ones."""
        return self.sum(h) / jnp.maximum(self.count(), 1.0)[..., None]


def groups(index: Int[Array, "runs nodes"], count: int) -> Groups:
    """The partition that `index` (below `count`) describes."""
    return Groups(jax.nn.one_hot(index.T, count, dtype=jnp.float32))


def joined(kinds: Sequence[Groups]) -> Groups:
    """The groups of several partitions side by side: a job hears of its group in each, summed."""
    return Groups(jnp.concatenate([kind.member for kind in kinds], axis=-1))


def local_index(owner: Int[np.ndarray, "runs nodes"]) -> Int[np.ndarray, "runs nodes"]:
    """`owner` renumbered within every run, from 0 without gaps."""
    return np.stack([np.unique(row, return_inverse=True)[1].reshape(row.shape) for row in owner])


def group_count(index: Int[np.ndarray, "runs nodes"]) -> int:
    """Groups of the run that has most, rounded up to a multiple of `GROUPS_STEP`."""
    return -(-(int(index.max()) + 1) // GROUPS_STEP) * GROUPS_STEP


def worker_index(workflow: Workflow) -> Int[np.ndarray, "runs nodes"]:
    """The host of each job, numbered within its run."""
    return local_index(workflow.host)


def machine_index(workflow: Workflow) -> Int[np.ndarray, "runs nodes"]:
    """The physical machine of each job (what precedes "-container-" in the host's name), numbered within its run."""
    names = [name.split("-container-")[0] for name in workflow.hosts]
    known = {name: i for i, name in enumerate(dict.fromkeys(names))}
    of_host = np.array([known[name] for name in names] + [len(known)])
    return local_index(of_host[workflow.host])

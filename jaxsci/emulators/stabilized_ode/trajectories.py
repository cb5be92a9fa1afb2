"""Trajectories of a step map from many starts, and the same read from a file."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxsci.core.errors import DataError
from jaxsci.core.reading import read_npz
from jaxsci.core.rollout import rollout
from jaxsci.dynamics.resolution import require_periodic


class Trajectories(NamedTuple):
    """`u` at the spacing `dt` on a circle of `length`, in float64."""

    u: Float[np.ndarray, "trajectories time n"]
    dt: float
    length: float


def sampled(step: Callable[[Array], Array], every: int) -> Callable[[Array], Array]:
    """The step map of `every` steps at once."""
    if every == 1:
        return step
    return lambda u: jax.lax.fori_loop(0, every, lambda _, v: step(v), u)


def trajectories_from(
    step: Callable[[Array], Array], starts: Float[Array, "trajectories n"], *, settle: int, times: int
) -> Float[np.ndarray, "trajectories time n"]:
    """`times` states of each start, the first after `settle` steps. Raises `DataError` where they are not finite."""

    @jax.jit
    def run(starts: Array) -> Array:
        on = jax.lax.fori_loop(0, settle, lambda _, u: jax.vmap(step)(u), starts)
        return jax.vmap(rollout(step, times - 1, include_initial=True))(on)

    u = np.asarray(run(starts))
    if not np.isfinite(u).all():
        raise DataError("trajectories: the reference solution became non-finite; take more substeps")
    return u


def load_trajectories(path: str | Path) -> Trajectories:
    """From an npz file with `u [trajectories, time, n]`, `dt` and `length`.

    Raises `DataError`, one line, for a file that is missing or unreadable, lacks an entry, has another shape or
    precision (high modes hold nothing in float32), or holds fields that are not finite or not periodic.
    """
    content = read_npz(path)
    for name in ("u", "dt", "length"):
        if name not in content:
            raise DataError(f"{path}: no entry '{name}'; it holds {', '.join(sorted(content)) or 'nothing'}")
    u = content["u"]
    if u.ndim != 3 or len(u) < 1 or u.shape[1] < 6 or u.shape[2] < 8:
        expected = "[1 trajectory or more, 6 times or more, 8 points or more]"
        raise DataError(f"{path}: u: expected {expected}, got {list(u.shape)}")
    if u.dtype != np.float64:
        raise DataError(f"{path}: u: expected float64, got {u.dtype}; in less the high modes hold only rounding")
    for name in ("dt", "length"):
        value = content[name]
        if value.shape != () or value.dtype.kind not in "iuf" or not 0 < float(value) < np.inf:
            raise DataError(f"{path}: {name}: expected one number above 0, got {value!r}")
    require_periodic(u, f"{path}: u")
    return Trajectories(u, float(content["dt"]), float(content["length"]))

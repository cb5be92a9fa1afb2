"""Lyapunov exponents of step maps by repeated QR, with error bars over initial conditions, and the Kaplan-Yorke
dimension."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.core.config import require
from jaxsci.core.errors import DataError

StepMap = Callable[[Array], Array]
Project = Callable[[Array], Array]


class Tangents(NamedTuple):
    """One trajectory with its orthonormal perturbations."""

    state: Float[Array, " n"]
    basis: Float[Array, "n count"]
    growth: Float[Array, " count"]
    """Sum of the logarithms of the stretching so far."""
    blocks: Int[Array, ""]
    """Stretches summed in `growth`."""


class Spectrum(NamedTuple):
    """Exponents of every initial condition, in decreasing order of their mean."""

    each: Float[np.ndarray, "starts count"]

    @property
    def mean(self) -> Float[np.ndarray, " count"]:
        """Exponents, mean over starts, largest first, per unit of time."""
        return self.each.mean(axis=0)

    @property
    def standard_error(self) -> Float[np.ndarray, " count"]:
        """Of the mean, from the scatter of the initial conditions; zero for a single one."""
        starts = len(self.each)
        return self.each.std(axis=0, ddof=1) / np.sqrt(starts) if starts > 1 else np.zeros(self.each.shape[1])

    def chaotic(self, least: float) -> "Spectrum":
        """Only the starts whose leading exponent is at least `least`: multistable systems also have regular states."""
        return Spectrum(self.each[self.each[:, 0] >= least])


def tangents(step: StepMap, *, count: int, steps_per_block: int, project: Project | None = None) -> tuple:
    """The pair `(init, update)` of Benettin's method on the discrete map.

    **Arguments:**

    - `count`: how many leading exponents.
    - `steps_per_block`: steps between two orthonormalisations; about half a time unit.
    - `project`: linear projection of a perturbation onto the subspace to stay in, such as fields of zero mean.

    `init(u, key=key)` draws the first perturbations; `update(state) -> (state, stretch)` runs one block, `stretch`
    being the logarithms of the `count` stretching factors.

    Source: Benettin et al. 1980, Meccanica 15, 9-20; Shimada and Nagashima 1979, Prog. Theor. Phys. 61, 1605.
    """
    require(steps_per_block >= 1, "steps_per_block", "1 or more", steps_per_block)
    keep = jax.vmap(project, in_axes=1, out_axes=1) if project else lambda basis: basis

    def init(u: Float[Array, " n"], *, key: PRNGKeyArray) -> Tangents:
        require(1 <= count <= u.size, "count", f"1 to {u.size} exponents", count)
        basis, _ = jnp.linalg.qr(keep(jax.random.normal(key, (u.size, count), u.dtype)))
        return Tangents(u, basis, jnp.zeros(count, u.dtype), jnp.zeros((), jnp.int32))

    def update(state: Tangents) -> tuple[Tangents, Float[Array, " count"]]:
        def forward(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            u, basis = carry
            along = jax.vmap(lambda q: jax.jvp(step, (u,), (q,)), in_axes=1, out_axes=(None, 1))
            return along(basis), None

        (u, moved), _ = jax.lax.scan(forward, (state.state, state.basis), None, length=steps_per_block)
        basis, upper = jnp.linalg.qr(keep(moved))
        stretch = jnp.log(jnp.abs(jnp.diagonal(upper)))
        return Tangents(u, basis, state.growth + stretch, state.blocks + 1), stretch

    return init, update


def lyapunov_spectrum(
    step: StepMap,
    starts: Float[Array, "starts n"],
    *,
    dt: float,
    count: int,
    duration: float,
    settle: float = 50.0,
    interval: float = 0.5,
    project: Project | None = None,
    key: PRNGKeyArray,
    on_share: Callable[[float], None] | None = None,
    shares: int = 20,
) -> Spectrum:
    """The `count` leading exponents, one estimate for each of `starts`, states that are on the attractor already.

    **Arguments:**

    - `dt`: length of a step; exponents are per unit of that time.
    - `duration`, `settle`: time averaged over, and time before it in which the perturbations find their directions.
    - `interval`: time between orthonormalisations.
    - `on_share`: called with the share done, `shares` times or fewer; an exception from it ends the computation.

    Raises `DataError` where trajectories left the attractor, `ConfigError` for bad arguments.
    """
    steps_per_block = max(round(interval / dt), 1)
    block = steps_per_block * dt
    settling, blocks = round(settle / block), max(round(duration / block), 1)
    init, update = tangents(step, count=count, steps_per_block=steps_per_block, project=project)
    keys = jax.random.split(key, len(starts))
    state = jax.vmap(lambda u, key: init(u, key=key))(starts, keys)

    def run(state: Tangents, length: int) -> Tangents:
        return jax.lax.scan(lambda s, _: (update(s)[0], None), state, None, length=length)[0]

    many = jax.jit(jax.vmap(run, in_axes=(0, None)), static_argnums=1)
    if settling:
        state = many(state, settling)
        state = state._replace(growth=jnp.zeros_like(state.growth), blocks=jnp.zeros_like(state.blocks))
    done = 0
    for length in _portions(blocks, shares):
        state = many(state, length)
        done += length
        if on_share is not None:
            jax.block_until_ready(state)
            on_share(done / blocks)
    each = np.asarray(state.growth, np.float64) / (blocks * block)
    if not np.isfinite(each).all():
        lost = int((~np.isfinite(each).all(axis=1)).sum())
        raise DataError(
            f"lyapunov: {lost} of {len(each)} trajectories or their perturbations became non-finite; "
            "start on the attractor, or take a shorter dt"
        )
    return Spectrum(each[:, np.argsort(-each.mean(axis=0), kind="stable")])


def kaplan_yorke(exponents: Float[np.ndarray, " count"], *, conserved: int = 0) -> float:
    """`j + (lambda_1 + .. + lambda_j) / |lambda_(j+1)|`, j the most exponents whose sum is not negative.

    `conserved` counts the zero exponents of conserved quantities (the mean of u) that `exponents`, taken on their
    subspace, leave out: each adds one dimension. State which of the two conventions a number follows.

    Raises `DataError` where the exponents given do not reach a negative sum.
    Source: Kaplan and Yorke 1979, Lecture Notes in Mathematics 730, 204-227.
    """
    ordered = np.sort(np.concatenate([np.asarray(exponents, np.float64), np.zeros(conserved)]))[::-1]
    sums = np.cumsum(ordered)
    negative = np.flatnonzero(sums < 0)
    if not len(negative):
        raise DataError(
            f"kaplan_yorke: the {len(ordered)} exponents sum to {sums[-1]:.3g}; "
            "give more of them, down to a negative sum"
        )
    j = int(negative[0])
    if j == 0:
        return 0.0
    return float(j + sums[j - 1] / abs(ordered[j]))


def entropy_rate(exponents: Float[np.ndarray, " count"]) -> float:
    """The sum of the positive exponents, the Kolmogorov-Sinai entropy by Pesin's formula."""
    return float(np.sum(np.maximum(exponents, 0.0)))


def gaps(exponents: Float[np.ndarray, " count"], *, below: float = -0.3) -> list[tuple[int, float]]:
    """Dimensions after which a gap opens in the contracting part, as `(dimension, ratio)`, the widest first.

    The ratio is `lambda_(d+1) / lambda_d` among exponents below `below`. No rule picks one dimension safely: with the
    Kuramoto-Sivashinsky equation different ones prefer neighbours, so candidates are returned and the reader chooses.
    """
    ordered = np.sort(np.asarray(exponents, np.float64))[::-1]
    found = [(d, float(ordered[d] / ordered[d - 1])) for d in range(1, len(ordered)) if ordered[d - 1] < below]
    return sorted(found, key=lambda pair: -pair[1])


def _portions(total: int, parts: int) -> list[int]:
    size = max(-(-total // parts), 1)
    return [size] * (total // size) + ([total % size] if total % size else [])

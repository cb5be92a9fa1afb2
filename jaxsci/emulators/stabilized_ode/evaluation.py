"""Long and short rollouts of all seeds of a model at once, and what they are judged by."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from jaxsci.core.rollout import rollout
from jaxsci.dynamics.attractor_statistics import energy
from jaxsci.dynamics.lyapunov import tangents
from jaxsci.emulators.stabilized_ode.model import StabilizedOde
from jaxsci.emulators.stabilized_ode.trajectories import sampled


def over_seeds(models: StabilizedOde, fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn(model, *shared)` for every seed, compiled; `models` has a leading seed axis, results gain one."""
    params, static = eqx.partition(models, eqx.is_array)
    mapped = jax.jit(lambda params, *shared: jax.vmap(lambda p: fn(eqx.combine(p, static), *shared))(params))
    return lambda *shared: mapped(params, *shared)


def forecasts(
    models: StabilizedOde, starts: Float[Array, "starts n"], steps: int
) -> Float[Array, "seeds starts steps n"]:
    """States after 1, .., `steps` steps."""
    return over_seeds(models, lambda m, u: jax.vmap(rollout(m.step_map(u[0]), steps))(u))(starts)


def attractor_sample(
    models: StabilizedOde, starts: Float[Array, "starts n"], *, samples: int, every: int, settle: int
) -> Float[np.ndarray, "seeds starts samples n"]:
    """One state every `every` steps, after `settle` steps, guard included."""

    def run(model: StabilizedOde, u: Array) -> Array:
        step = model.step_map(u[0])
        u = jax.lax.fori_loop(0, settle, lambda _, v: jax.vmap(step)(v), u)
        return jax.vmap(rollout(sampled(step, every), samples))(u)

    return np.asarray(over_seeds(models, run)(starts))


class Exponents(NamedTuple):
    """Leading exponents, and for how long each trajectory could be averaged."""

    each: Float[np.ndarray, "seeds starts count"]
    time: Float[np.ndarray, "seeds starts"]
    """Until the energy left `energy_limit`; the exponents are those of that time alone."""


def leading_exponents(
    models: StabilizedOde,
    starts: Float[Array, "seeds starts n"],
    *,
    count: int,
    duration: float,
    settle: float,
    energy_limit: float,
    project: Callable[[Array], Array] | None = None,
    key: PRNGKeyArray,
) -> Exponents:
    """By QR every half time unit. A trajectory that leaves the attractor stops counting there.

    Where it leaves during `settle` already, its first `duration` counts from the start, settling included.
    """
    dt = models.dt
    per_block = max(round(0.5 / dt), 1)
    block = per_block * dt
    lengths = [max(round(t / block), 1) for t in (settle, duration)]
    params, static = eqx.partition(models, eqx.is_array)

    def one(p: Any, u: Array, k: PRNGKeyArray) -> tuple[Array, Array]:
        step = eqx.combine(p, static).step_map(u)
        init, update = tangents(step, count=count, steps_per_block=per_block, project=project)

        def guarded(state: Any, _: None) -> tuple[Any, None]:
            moved, _ = update(state)
            alive = (energy(moved.state) <= energy_limit) & jnp.all(jnp.isfinite(moved.growth))
            return jax.tree.map(lambda new, old: jnp.where(alive, new, old), moved, state), None

        settled, _ = jax.lax.scan(guarded, init(u, key=k), None, length=lengths[0])
        whole = settled.blocks == lengths[0]
        fresh = settled._replace(growth=jnp.zeros_like(settled.growth), blocks=jnp.zeros_like(settled.blocks))
        state = jax.tree.map(lambda a, b: jnp.where(whole, a, b), fresh, settled)
        state, _ = jax.lax.scan(guarded, state, None, length=lengths[1])
        return state.growth, state.blocks

    seeds, each = starts.shape[:2]
    keys = jax.random.split(key, (seeds, each))
    growth, blocks = jax.jit(jax.vmap(jax.vmap(one, in_axes=(None, 0, 0))))(params, starts, keys)
    time = np.asarray(blocks, np.float64) * block
    return Exponents(np.asarray(growth, np.float64) / np.maximum(time, block)[..., None], time)


class LongRun(NamedTuple):
    """Trajectories watched over a long time."""

    energies: Float[np.ndarray, "seeds starts bins"]
    """Largest energy in each span of `bin_time`; not finite where the state is not."""
    bin_time: float
    clipped: Float[np.ndarray, "seeds starts"]
    """Share of steps in which the guard acted."""
    end: Float[np.ndarray, "seeds starts n"]


def long_run(
    models: StabilizedOde,
    starts: Float[Array, "seeds starts n"],
    *,
    steps: int,
    steps_per_bin: int,
    bins_per_chunk: int,
    lost: Callable[[np.ndarray], Bool[np.ndarray, "seeds starts"]],
    on_chunk: Callable[[int], None] | None = None,
) -> LongRun:
    """Run `steps` steps, or until all trajectories are lost.

    `lost(energies)` says, from the bins so far, which trajectories can no longer count as bounded; once all are, the
    rest of the time is left out. `on_chunk(steps)` is called after each chunk; an exception from it ends the run.
    """
    params, static = eqx.partition(models, eqx.is_array)

    def one(p: Any, u: Array) -> tuple[Array, Array, Array]:
        model = eqx.combine(p, static)
        free, clip = model.free_step_map(u), model.clip

        def step(carry: tuple, _: None) -> tuple[tuple, None]:
            u, top, acted = carry
            moved = free(u)
            if clip is not None:
                acted = acted + clip.acts(moved)
                moved = clip(moved)
            return (moved, jnp.maximum(top, energy(moved)), acted), None

        def one_bin(carry: tuple, _: None) -> tuple[tuple, Array]:
            u, acted = carry
            fresh = (u, jnp.zeros((), u.dtype), acted)
            (u, top, acted), _ = jax.lax.scan(step, fresh, None, length=steps_per_bin)
            return (u, acted), top  # maximum passes a NaN on

        (u, acted), tops = jax.lax.scan(one_bin, (u, jnp.zeros((), jnp.int32)), None, length=bins_per_chunk)
        return u, acted, tops

    chunk = jax.jit(jax.vmap(jax.vmap(one, in_axes=(None, 0))))
    state, acted, tops, done = starts, np.zeros(starts.shape[:2]), [], 0
    size = steps_per_bin * bins_per_chunk
    while done < steps:
        state, now, top = chunk(params, state)
        acted += np.asarray(now)
        tops.append(np.asarray(top, np.float64))
        done += size
        if on_chunk is not None:
            on_chunk(size)
        if lost(np.concatenate(tops, axis=-1)).all():
            break
    return LongRun(np.concatenate(tops, axis=-1), steps_per_bin * models.dt, acted / done, np.asarray(state))

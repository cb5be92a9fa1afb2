"""Twin experiments: the model makes a truth, the truth makes observations, a method must find its way back.

One experiment is one `scan`; many, with truth, noise and members of their own, are its `vmap`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from jaxsci.assimilation.background import Background, symmetric_root
from jaxsci.assimilation.positive_definite import require_positive_definite
from jaxsci.assimilation.probabilistic_scores import crps_ensemble, rank_histogram
from jaxsci.assimilation.problem import Method, Operator, Places, Problem, error_covariance, select
from jaxsci.assimilation.variational import StepMap
from jaxsci.core.config import require
from jaxsci.core.errors import ConfigError
from jaxsci.core.rollout import rollout

Observed = Sequence[int] | np.ndarray | Operator | None

# A method has diverged where it loses the truth in more than this share of the cycles ...
LOST = 0.05
# ... or errs, on average, this many times as much as it believes; sound methods stay below 2, lost ones are near 10.
OVERCONFIDENT = 3.0
# Climatology itself errs by more than its mean error half the time; lost is who errs so without knowing.
UNAWARE = 1.5


class Track(NamedTuple):
    """One experiment, cycle by cycle (leading axis), burn-in included."""

    analysis: Float[Array, " cycles"]
    """Spatial RMS error of the analysis."""
    forecast: Float[Array, " cycles"]
    """The same just before the observation."""
    smoothed: Float[Array, " cycles"]
    """The same of the state `lag` cycles earlier, as known now."""
    spread: Float[Array, " cycles"]
    """What the method believed `analysis` to be."""
    forecast_spread: Float[Array, " cycles"]
    fit: Float[Array, " cycles"]
    """Twice the least cost per observation."""
    climate: Float[Array, ""]
    """RMS error of the climatological mean: the yardstick of divergence."""
    crps: Float[Array, " cycles"] | None = None
    """Fair CRPS of the analysed ensemble, mean over the variables; of ensemble methods, where asked for."""
    ranks: Int[Array, "cycles ranks"] | None = None
    """How many variables of the truth have 0, 1, ..., N members below them; likewise."""


class TwinResult(NamedTuple):
    """Scores of every seed (leading axis of all arrays): means over the cycles after burn-in.

    Cycles that are not finite count as climatology in the means, and their seed as diverged.
    """

    rmse_analysis: Float[np.ndarray, " seeds"]
    rmse_forecast: Float[np.ndarray, " seeds"]
    rmse_smoothed: Float[np.ndarray, " seeds"]
    spread: Float[np.ndarray, " seeds"]
    fit: Float[np.ndarray, " seeds"]
    lost: Float[np.ndarray, " seeds"]
    """Share of cycles whose RMSE is not finite, or above climatology and above 1.5 times the spread."""
    track: Track
    burn_in: int

    @property
    def diverged(self) -> np.ndarray:
        """Which seeds lost the truth: `lost` above 5 %, any cycle not finite, or an error of 3 times the spread."""
        finite = np.isfinite(np.asarray(self.track.analysis)).all(axis=1)
        return (self.lost > LOST) | ~finite | (self.rmse_analysis > OVERCONFIDENT * self.spread)

    @property
    def mean(self) -> float:
        """Analysis RMSE, mean over seeds."""
        return float(np.mean(self.rmse_analysis))

    @property
    def standard_error(self) -> float:
        """Of `mean`, from the scatter of the seeds; zero for a single one."""
        return standard_error(self.rmse_analysis)

    @property
    def result(self) -> str:
        """What happened, naming the parameters to change."""
        lost = np.flatnonzero(self.diverged)
        if not len(lost):
            return "every seed kept to the truth"
        names = ", ".join(f"seed {i}" for i in lost)
        return (
            f"diverged: {len(lost)} of {len(self.lost)} ({names}); more inflation, members or background "
            "variance, or a shorter observe_every, may hold them"
        )


def standard_error(values: np.ndarray) -> float:
    """Standard error of the mean over seeds; 0 of one seed, which has no scatter."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def climatology(model: StepMap, start: Background, *, steps: int, spin_up: int, key: PRNGKeyArray) -> Background:
    """Mean and covariance of a free run of `steps` model steps, after `spin_up` from a draw of `start`."""
    first = start(jax.random.normal(key, start.root.shape[1:], start.root.dtype))
    spun = lax.fori_loop(0, spin_up, lambda _, x: model(x), first)
    return _climate_of(rollout(model, steps)(spun))


def _climate_of(states: Float[Array, "steps n"]) -> Background:
    return Background(jnp.mean(states, axis=0), symmetric_root(jnp.cov(states.T)))


def twin_experiment(
    model: StepMap,
    method: Method,
    *,
    start: Background,
    observe_every: int,
    noise: Any,
    cycles: int,
    observed: Observed = None,
    climate: Background | None = None,
    missing: float = 0.0,
    dt: float = 1.0,
    verify_members: bool = False,
    truth_model: StepMap | None = None,
    places: Places | None = None,
    noise_scale: float = 1.0,
) -> Callable[[PRNGKeyArray], Track]:
    """One experiment as a pure function of its key; arguments as in `twin`.

    `truth_model` makes the truth where the model of the method is not perfect; `None` is `model`. The method takes R
    for `noise_scale` times what the errors are drawn from: above 1 where a model's errors should weigh on observations.
    """
    require(noise_scale > 0, "noise_scale", "a factor above 0", noise_scale)
    require(observe_every >= 1, "observe_every", "one model step or more", observe_every)
    require(cycles >= 1, "cycles", "one or more", cycles)
    require(0 <= missing < 1, "missing", "a share between 0 and 1", missing)
    mean = jnp.asarray(start.mean)
    if mean.dtype != jnp.float64:
        raise ConfigError(f"precision: twin experiments need float64, got {mean.dtype}; set precision=float64")
    operator = observed if callable(observed) else select(observed, len(mean))
    stations = jax.eval_shape(operator, mean).shape[0]
    covariance = error_covariance(noise, stations)
    root = jnp.sqrt(covariance) if covariance.ndim == 1 else jnp.linalg.cholesky(covariance)
    if climate is not None:
        require_positive_definite("climate", np.asarray(climate.root @ climate.root.T))

    def forecast(x: Array) -> Array:
        return lax.fori_loop(0, observe_every, lambda _, x: model(x), x)

    def experiment(key: PRNGKeyArray) -> Track:
        for_truth, for_noise, for_gaps, for_first, for_updates = jax.random.split(key, 5)
        first = start(jax.random.normal(for_truth, start.root.shape[1:], mean.dtype))
        states = rollout(truth_model or model, cycles * observe_every, include_initial=True)(first)
        known = _climate_of(states) if climate is None else climate
        truth = states[::observe_every]
        errors = jax.random.normal(for_noise, (cycles, stations), mean.dtype)
        errors = errors * root if root.ndim == 1 else errors @ root.T
        values = jax.vmap(operator)(truth[1:]) + errors
        values = jnp.where(jax.random.uniform(for_gaps, values.shape) < missing, jnp.nan, values)
        problem = Problem(forecast, operator, noise_scale * covariance, start, known, observe_every * dt, places)
        algorithm = method.build(problem)
        for_ties = jax.random.fold_in(for_updates, cycles)

        def one_cycle(state: Any, entry: tuple) -> tuple[Any, tuple]:
            cycle, value = entry
            state, info = algorithm.update(state, value, jax.random.fold_in(for_updates, cycle))
            now, then = truth[cycle + 1], truth[jnp.maximum(cycle + 1 - algorithm.lag, 0)]
            errors = _rms(info.mean - now), _rms(info.forecast - now), _rms(info.smoothed - then)
            crps, ranks = None, None
            if verify_members and info.members is not None:
                crps = jnp.mean(crps_ensemble(info.members, now))
                ranks = rank_histogram(info.members, now, key=jax.random.fold_in(for_ties, cycle))
            return state, (*errors, info.spread, info.forecast_spread, info.fit, crps, ranks)

        _, track = lax.scan(one_cycle, algorithm.init(for_first), (jnp.arange(cycles), values))
        *columns, crps, ranks = track
        return Track(*columns, climate=_rms(jnp.std(truth, axis=0)), crps=crps, ranks=ranks)

    return experiment


def twin(
    model: StepMap,
    method: Method,
    *,
    start: Background,
    observe_every: int,
    noise: Any,
    cycles: int,
    seeds: int,
    key: PRNGKeyArray,
    burn_in: int = 0,
    observed: Observed = None,
    climate: Background | None = None,
    missing: float = 0.0,
    dt: float = 1.0,
    verify_members: bool = False,
    places: Places | None = None,
) -> TwinResult:
    """Run `seeds` independent twin experiments of one method, in one compiled program.

    **Arguments:**

    - `model`: any step map of a flat float64 state.
    - `start`: truth and members are drawn from it, at the time of the first state.
    - `observe_every`: model steps from one observation to the next, a cycle.
    - `noise`: R: one variance, one for each observed variable, or a covariance matrix.
    - `cycles`, `burn_in`: cycles run, and how many of them at the start do not count.
    - `observed`: indices of the observed variables, `None` for all of them, or any differentiable operator from a
      state to what is observed of it.
    - `climate`: mean and covariance of the model's states for the methods that use them; `None` takes those of each
      seed's own truth (as DAPPER does, which favours them slightly).
    - `missing`: share of the observations lost at random.
    - `dt`: length of a model step, for inflation given per unit of time.
    - `verify_members`: whether to keep CRPS and ranks of ensembles in the track.
    - `places`: where the variables are, for local methods; `None` is one apart on a circle.

    Seed i is the same for every number of `seeds`. Raises `ConfigError` or `DataError` for bad input.
    """
    require(seeds >= 1, "seeds", "one or more", seeds)
    require(0 <= burn_in < cycles, "burn_in", f"fewer than the {cycles} cycles", burn_in)
    experiment = twin_experiment(
        model,
        method,
        start=start,
        observe_every=observe_every,
        noise=noise,
        cycles=cycles,
        observed=observed,
        climate=climate,
        missing=missing,
        dt=dt,
        verify_members=verify_members,
        places=places,
    )
    return scores(jax.jit(jax.vmap(experiment))(seed_keys(seeds, key=key)), burn_in)


def seed_keys(seeds: int, *, key: PRNGKeyArray) -> Key[Array, " seeds"]:
    """A key for each seed, the same whatever their number."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(seeds))


def scores(track: Track, burn_in: int) -> TwinResult:
    """Means over the cycles after `burn_in`, of tracks with a leading axis of seeds."""
    track = jax.tree.map(np.asarray, track)
    counted = jax.tree.map(lambda a: a[:, burn_in:], track._replace(climate=track.analysis))
    climate = np.asarray(track.climate)[:, None]
    bad = ~np.isfinite(counted.analysis)

    def mean(values: np.ndarray, instead: np.ndarray) -> np.ndarray:
        return np.mean(np.where(bad | ~np.isfinite(values), instead, values), axis=1)

    return TwinResult(
        rmse_analysis=mean(counted.analysis, climate),
        rmse_forecast=mean(counted.forecast, climate),
        rmse_smoothed=mean(counted.smoothed, climate),
        spread=mean(counted.spread, climate),
        fit=mean(counted.fit, np.zeros_like(climate)),
        lost=np.mean(bad | (counted.analysis > np.maximum(climate, UNAWARE * counted.spread)), axis=1),
        track=track,
        burn_in=burn_in,
    )


def _rms(difference: Float[Array, " n"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.mean(difference**2))

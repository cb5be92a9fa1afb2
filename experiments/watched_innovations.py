"""`experiment=watched source=innovations`: a cycling ensemble filter whose world changes, and who notices when."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.assimilation.ensemble import ETKF
from jaxsci.assimilation.ensemble.members import EnsembleSettings
from jaxsci.assimilation.innovations import Innovation, innovation_statistics
from jaxsci.assimilation.methods import Method
from jaxsci.assimilation.problem import Problem, select
from jaxsci.assimilation.systems import Lorenz96System, System
from jaxsci.assimilation.twin import seed_keys
from jaxsci.assimilation.variational import StepMap
from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import ConfigError
from jaxsci.drift.alarm import Watch, calibrate, watch_series
from jaxsci.drift.attribution import attribute
from jaxsci.drift.changepoint import Bocpd
from jaxsci.drift.hazard import ConstantHazard
from jaxsci.drift.segments import Independent, Level

SEPARATION = 10  # cycles between the starts of two regimes that are both worth an alarm
NAMES = ("mean", "variance")  # of the two watched statistics, `Innovation.shift` and `Innovation.scatter`


@dataclass(frozen=True)
class Degradation:
    """What is different from the change on: `bias` (in standard deviations of an observation's error) on every
    observation, errors `noise` times as large, other parameters of the `model` that makes the truth."""

    bias: float = 0.0
    noise: float = 1.0
    model: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        positive(self, "noise")

    @property
    def kind(self) -> str | None:
        """What of the innovations it changes, where that is one thing."""
        if self.model or (self.bias != 0) == (self.noise != 1):
            return None
        return "mean" if self.bias else "variance"


def _degradations() -> dict[str, Degradation]:
    return {
        "bias": Degradation(bias=0.2),
        "noise": Degradation(noise=1.15),
        "model": Degradation(model={"forcing": 9.0}),
    }


@dataclass(frozen=True)
class InnovationsConfig:
    """`seeds` truths a scenario are followed for `cycles` after a `burn_in`; the change comes at cycle `change`.

    As many truths without a change set the thresholds of every rule to `false_per_1000` alarms per 1000 cycles, and as
    many again count how many there are. The running means of the rules beside the detector are over `mean_of` cycles.
    Alarms up to `horizon` cycles after the change are for it. `mean_run`, `window`, `hold` and `capacity` are the
    detector's; the first `window` cycles give no alarm.
    """

    system: System = field(default_factory=Lorenz96System)
    method: Method = field(default_factory=lambda: ETKF(size=24, inflation=1.02, rotate=True))
    scenarios: dict[str, Degradation] = field(default_factory=_degradations)
    cycles: int = 400
    burn_in: int = 200
    change: int = 200
    horizon: int = 100
    seeds: int = 64
    false_per_1000: float = 1.0
    mean_of: int = 10
    mean_run: float = 100.0
    window: int = 60
    hold: int = 2
    capacity: int = 128

    def __post_init__(self) -> None:
        positive(self, "cycles", "burn_in", "seeds", "false_per_1000", "window", "hold", "capacity", "horizon")
        between(self, "mean_run", 2, 1e9)
        between(self, "mean_of", 1, 1000)
        require(len(self.scenarios) > 0, "innovations.scenarios", "one or more", self.scenarios)
        between(self, "change", self.window + 1, self.cycles - 1)
        ensemble = isinstance(self.method, EnsembleSettings)
        require(ensemble, "innovations.method", "a method that carries an ensemble", self.method.kind)


class World(NamedTuple):
    """One scenario, in the form in which many are mapped over."""

    after: StepMap
    """Makes the truth from the change on."""
    bias: Float[Array, ""]
    noise: Float[Array, ""]


class Cycled(NamedTuple):
    """What was seen, cycle by cycle, burn-in left out."""

    innovation: Innovation
    error: Float[Array, " cycles"]
    """Spatial RMS error of the analysis."""


class Alarms(NamedTuple):
    """One rule at work on many series."""

    alarm: np.ndarray
    """(..., cycles), True where it says that something changed."""
    statistic: np.ndarray
    """(..., cycles), what it compares with `threshold`."""
    threshold: float


class Found(NamedTuple):
    """All that the report shows. Leading axes of arrays are scenario and seed; `calm` has the axis of seeds alone."""

    calm: Cycled
    degraded: Cycled
    rules: Mapping[str, tuple[Alarms, Alarms]]
    """By name: on `calm`, on `degraded`."""
    start: Int[np.ndarray, "scenarios seeds cycles"]
    """Where the detector thinks that the present regime began."""
    evidence: Float[np.ndarray, "scenarios seeds 2"]
    """Log Bayes factors of a change of mean and of variance, at the detector's first alarm after the change."""


def run_worlds(config: InnovationsConfig, seed: int) -> tuple[Cycled, Cycled, Cycled]:
    """Calm series to calibrate on, calm ones to test on, and those of every scenario."""
    calm = Degradation()
    worlds = [_world(config.system, scenario) for scenario in (calm, calm, *config.scenarios.values())]
    stacked = jax.tree.map(lambda *leaves: jnp.repeat(jnp.stack(leaves), config.seeds, axis=0), *worlds)
    keys = seed_keys(3 * config.seeds, key=jax.random.key(seed)).reshape(3, -1)
    lanes = jnp.concatenate([keys[0], keys[1], *[keys[2]] * len(config.scenarios)])
    found = jax.jit(jax.vmap(_experiment(config)))(stacked, lanes)
    found = jax.tree.map(lambda a: a.reshape(len(worlds), config.seeds, *a.shape[1:]), found)
    return tuple(jax.tree.map(itemgetter(part), found) for part in (0, 1, slice(2, None)))


def _world(system: System, scenario: Degradation) -> World:
    leaves = _changed(system, scenario.model), scenario.bias, scenario.noise
    return World(*(jax.tree.map(lambda leaf: jnp.asarray(leaf, float), part) for part in leaves))


def _changed(system: System, parameters: Mapping[str, float]) -> StepMap:
    try:
        return replace(system, **parameters).truth()  # type: ignore[type-var]
    except TypeError:
        raise ConfigError(f"scenarios: {system.kind} has no parameters {', '.join(parameters)} to change") from None


def _experiment(config: InnovationsConfig):
    """`experiment(world, key) -> Cycled`, pure."""
    system = config.system
    start, operator = system.start(), system.observed()
    operator = operator if callable(operator) else select(operator, len(start.mean))
    stations = jax.eval_shape(operator, start.mean).shape[0]
    require(stations > 1, "innovations.system", "two observed variables or more", stations)
    deviation, change = jnp.sqrt(system.noise), config.burn_in + config.change
    model, before = system.model(), _world(system, Degradation()).after

    def ahead(model: StepMap, x: Array) -> Array:
        return lax.fori_loop(0, system.observe_every, lambda _, x: model(x), x)

    noise = jnp.full(stations, system.noise)
    interval = system.observe_every * system.dt
    problem = Problem(lambda x: ahead(model, x), operator, noise, start, start, interval, system.places())
    algorithm = config.method.build(problem)

    def experiment(world: World, key: PRNGKeyArray) -> Cycled:
        for_truth, for_noise, for_first, for_updates = jax.random.split(key, 4)
        truth = start(jax.random.normal(for_truth, start.root.shape[1:], start.mean.dtype))

        def one_cycle(carry: tuple, cycle: Array) -> tuple[tuple, Cycled]:
            truth, state = carry
            changed = cycle >= change
            now = jax.tree.map(lambda old, new: jnp.where(changed, new, old), before, world.after)
            truth = ahead(now, truth)
            error = jax.random.normal(jax.random.fold_in(for_noise, cycle), (stations,), truth.dtype)
            error = jnp.where(changed, world.noise * error + world.bias, error)
            value = operator(truth) + deviation * error
            seen = innovation_statistics(problem, jax.vmap(problem.forecast)(state.members), value)
            state, info = algorithm.update(state, value, jax.random.fold_in(for_updates, cycle))
            return (truth, state), Cycled(seen, jnp.sqrt(jnp.mean((info.mean - truth) ** 2)))

        cycles = jnp.arange(config.burn_in + config.cycles)
        _, found = lax.scan(one_cycle, (truth, algorithm.init(for_first)), cycles)
        return jax.tree.map(lambda a: a[config.burn_in :], found)

    return experiment


def watch_worlds(config: InnovationsConfig, calibration: Cycled, calm: Cycled, degraded: Cycled) -> Found:
    """The detector and the rules beside it, all calibrated on the same calm series."""
    calibrated = _watched(calibration)
    centre, spread = calibrated.mean(axis=(0, 1)), calibrated.std(axis=(0, 1))
    series = [(_watched(cycled) - centre) / spread for cycled in (calibration, calm, degraded)]
    level = Level(intercept_precision=0.5, alpha=20.0, beta=20.0)  # variances are near one unless something changes
    detector = Bocpd(Independent(level, 2), ConstantHazard(config.mean_run), capacity=config.capacity)
    window, hold = config.window, config.hold
    threshold = calibrate(detector, series[0], window=window, hold=hold, false_per_1000=config.false_per_1000)
    watch = Watch(detector, window=window, hold=hold, threshold=threshold, separation=SEPARATION)
    look = jax.jit(jax.vmap(lambda x: watch_series(watch, x)[0]))
    on_calm, on_degraded = look(series[1]), jax.vmap(look)(series[2])
    quiet, loud = (Alarms(np.asarray(v.alarm), np.asarray(v.statistic), threshold) for v in (on_calm, on_degraded))
    rules: dict[str, tuple[Alarms, Alarms]] = {"detector": (quiet, loud)}
    for name, statistic in _fixed_rules(config, centre, spread).items():
        known, *others = (np.asarray(statistic(cycled)) for cycled in (calibration, calm, degraded))
        limit = _limit(known[:, window:], config.false_per_1000)
        quiet, loud = (Alarms(_begins(values > limit), values, limit) for values in others)
        rules[name] = quiet, loud
    first = first_alarms(rules["detector"][1].alarm, config)
    start = np.asarray(on_degraded.start)
    began = np.take_along_axis(start, np.maximum(first, 0)[..., None], axis=2)[..., 0]
    told = jax.jit(jax.vmap(jax.vmap(lambda x, s, e: attribute(level, x, jnp.maximum(s - 100, 0), s, e))))
    return Found(calm, degraded, rules, start, np.asarray(told(series[2], jnp.asarray(began), jnp.asarray(first + 1))))


def _watched(cycled: Cycled) -> Float[Array, "... cycles 2"]:
    return jnp.stack([cycled.innovation.shift, cycled.innovation.scatter], axis=-1)


def _fixed_rules(config: InnovationsConfig, centre: Array, spread: Array) -> dict:
    """What is compared with a fixed threshold, by name, for series of any leading axes."""

    def running(values: Array) -> Array:
        total = jnp.cumsum(values, axis=-1)
        past = jnp.concatenate([jnp.zeros_like(total[..., : config.mean_of]), total[..., : -config.mean_of]], axis=-1)
        return (total - past) / config.mean_of

    def both(cycled: Cycled) -> Array:
        return jnp.max(jnp.abs(running(jnp.moveaxis((_watched(cycled) - centre) / spread, -1, 0))), axis=0)

    return {
        "chi_square": lambda cycled: cycled.innovation.chi_square,
        "chi_square_mean": lambda cycled: running(cycled.innovation.chi_square),
        "both_means": both,
    }


def _limit(quiet: np.ndarray, false_per_1000: float) -> float:
    """The smallest threshold that series without a change begin to exceed at most so often."""
    allowed = false_per_1000 * quiet.size / 1000
    low, high = float(np.median(quiet)), float(quiet.max())
    for _ in range(50):  # to the last bit
        middle = (low + high) / 2
        few = _begins(quiet > middle).sum() <= allowed
        low, high = (low, middle) if few else (middle, high)
    return high


def _begins(high: np.ndarray) -> np.ndarray:
    """Where excursions begin: each is one alarm, however long."""
    return high & ~np.concatenate([np.zeros_like(high[..., :1]), high[..., :-1]], axis=-1)


def first_alarms(alarm: np.ndarray, config: InnovationsConfig) -> np.ndarray:
    """Cycle of the first alarm from the change to the horizon; -1 where there is none."""
    window = alarm[..., config.change : config.change + config.horizon + 1]
    return np.where(window.any(axis=-1), config.change + window.argmax(axis=-1), -1)


def measured(config: InnovationsConfig, found: Found) -> dict[str, float]:
    """Of every rule and scenario: delay (the horizon where there was no alarm), share detected; false alarms."""
    metrics: dict[str, float] = {}
    for rule, (calm, degraded) in found.rules.items():
        end = "" if rule == "detector" else f"_{rule}"
        first = first_alarms(degraded.alarm, config)
        delay = np.where(first < 0, config.horizon, first - config.change)
        metrics |= {
            f"detection_delay{end}": float(delay.mean()),
            f"detected_fraction{end}": float(np.mean(first >= 0)),
            f"false_alarms_per_1000{end}": 1000 * float(calm.alarm[:, config.window :].mean()),
        }
        for i, name in enumerate(config.scenarios):
            metrics[f"detection_delay_{name}{end}"] = float(delay[i].mean())
            metrics[f"detected_fraction_{name}{end}"] = float(np.mean(first[i] >= 0))
    first = first_alarms(found.rules["detector"][1].alarm, config)
    right = []
    for i, (name, scenario) in enumerate(config.scenarios.items()):
        seen = first[i] >= 0
        said = np.argmax(found.evidence[i], axis=1)[seen]
        metrics[f"said_mean_fraction_{name}"] = float(np.mean(said == 0)) if seen.any() else 0.0
        if scenario.kind is not None:
            right.extend(said == NAMES.index(scenario.kind))
        began = found.start[i][np.arange(len(seen)), np.maximum(first[i], 0)][seen]
        metrics[f"start_error_{name}"] = float(np.median(np.abs(began - config.change))) if seen.any() else 0.0
    metrics["right_kind_fraction"] = float(np.mean(right)) if right else 0.0
    error = np.asarray(found.degraded.error)
    for i, name in enumerate(config.scenarios):
        metrics[f"rmse_after_over_before_{name}"] = float(
            error[i, :, config.change :].mean() / error[i, :, : config.change].mean()
        )
    return metrics

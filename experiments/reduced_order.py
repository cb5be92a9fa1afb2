"""Reduced-order models of shallow water: whole trajectories in one call, beside steppers and what the modes allow."""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments import reduced_order_report as pages
from experiments.benchmarks.assimilation import timed_call
from experiments.reduced_order_data import Later, RomData, energies, floors, make_data, make_later
from experiments.reduced_order_methods import (
    INTERRUPTED,
    METHODS,
    NON_AUTOREGRESSIVE,
    Case,
    Fitting,
    NetworksConfig,
    ProjectionConfig,
    Rom,
    fit_method,
    make_sampling,
)
from experiments.reduced_order_store import Answers, Doubt, Outcome, Store, Truth
from experiments.reduced_order_uncertainty import SOURCES, UncertaintyConfig, fit_long_emulator, judge_uncertainty
from experiments.settings import Settings
from jaxsci.core.config import between, positive, require
from jaxsci.core.errors import did_you_mean
from jaxsci.core.interrupt import Interrupt
from jaxsci.core.progress import Progress, progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.dynamics.shallow_water_families import Bump, Family, SimulationConfig
from jaxsci.emulators.rom_scores import RomScore, score, squared_errors, student_interval

PICTURED_SHARES = (0.05, 0.2, 0.5, 1.0)  # of the times
PICTURED_MODES = (0, 4, 12, 28)


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`runs` members of the family, the last `test_runs` of each seed for scores, those before them stop the networks.

    A seed draws another hypercube and other networks. With `horizon` above 1 the models that can are asked for fields
    up to that many times the trained span, on `later_runs` of the test runs of the first seed. `ask` lists parameters
    for the NA-BLSTM to predict besides; those outside the training range are flagged.
    """

    family: Family = field(default_factory=Bump)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    methods: tuple[str, ...] = METHODS
    runs: int = 100
    validation_runs: int = 10
    test_runs: int = 10
    modes: int = 40
    floor_modes: tuple[int, ...] = (6, 10, 20, 40, 80, 160, 320)
    seeds: int = 1
    together: int = 4
    horizon: int = 5
    later_runs: int = 4
    networks: NetworksConfig = field(default_factory=NetworksConfig)
    projection: ProjectionConfig = field(default_factory=ProjectionConfig)
    uncertainty: UncertaintyConfig = field(default_factory=UncertaintyConfig)
    batch: int = 1000
    ask: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "runs", "validation_runs", "test_runs", "modes", "seeds", "together", "later_runs", "batch")
        between(self, "horizon", 1, 100)
        for name in self.methods:
            require(name in METHODS, "methods", f"known names{did_you_mean(name, METHODS)}", name)
        left = self.runs - self.test_runs - self.validation_runs
        require(left >= 2, "runs", "2 or more besides those of test and validation", self.runs)
        snapshots = min((self.runs - self.test_runs) * self.simulation.fields, self.simulation.cells**2)
        require(self.modes <= snapshots, "modes", f"at most {snapshots} (training fields and grid points)", self.modes)
        require(min(self.floor_modes, default=0) > 0, "floor_modes", "one size or more, above 0", self.floor_modes)
        require(not self.ask or "na_blstm" in self.methods, "ask", "methods with na_blstm, which answers", self.methods)
        for asked in self.ask:
            require(len(asked) == len(self.family.names), "ask", f"values of {', '.join(self.family.names)}", asked)


class Seed(NamedTuple):
    truth: Truth
    outcomes: dict[str, Outcome]


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    store = Store(run)
    work = config.seeds * len(config.methods) + len(SOURCES) * config.uncertainty.on + (config.horizon > 1)
    seconds = {"generate": 0.0, "fit": 0.0}
    with Interrupt() as interrupt, progress(config.runs * config.seeds, "runs simulated") as simulated:

        def stop_if_asked(done: int = 0) -> None:
            if done:
                simulated.update(done)
            if interrupt.requested():
                raise KeyboardInterrupt(INTERRUPTED)

        with progress(work, "methods") as bar:
            seeds = [_seed(config, run, store, seed, bar, stop_if_asked) for seed in range(config.seeds)]
    for seed in seeds:
        seconds["generate"] += float(seed.truth.generate_seconds)
        seconds["fit"] += sum(float(outcome.fit_seconds) for outcome in seed.outcomes.values())
    doubts = {name: store.load(f"seed0_uncertainty_{name}", Doubt) for name in SOURCES}
    doubts = {name: doubt for name, doubt in doubts.items() if doubt is not None}
    long = store.load("seed0_na_blstm_long", Outcome)
    answers = _answers(config, store)
    scores = {name: [_score(config, s, name) for s in seeds] for name in config.methods}
    summary = _summary(config, seeds, scores, doubts, long, answers, seconds)
    return summary, pages.report(config, run, seeds, scores, doubts, long, answers, summary)


def _seed(
    config: Config,
    run: Run,
    store: Store,
    seed: int,
    bar: Progress,
    stop_if_asked: Callable[..., None],
) -> Seed:
    """Whatever of this seed is not in the store yet is made; runs are simulated only if something is missing."""
    truth = store.load(f"seed{seed}_truth", Truth)
    found = {name: store.load(f"seed{seed}_{name}", Outcome) for name in config.methods}
    extras = seed == 0 and _extras_missing(config, store)
    if seed == 0 and "na_blstm" in found and _answers(config, store) is None:
        found["na_blstm"] = None  # only a trained network can answer
    if truth is not None and all(found.values()) and not extras:
        bar.update(len(found))
        return Seed(truth, {name: o for name, o in found.items() if o is not None})
    begin = time.perf_counter()
    data = make_data(
        config.family,
        config.simulation,
        runs=config.runs,
        validation=config.validation_runs,
        test=config.test_runs,
        modes=config.modes,
        widest=max(config.floor_modes),
        together=config.together,
        seed=config.seed + seed,
        on_runs=stop_if_asked,
    )
    later = None
    if config.horizon > 1 and seed == 0:
        first = data.split.test.start
        tested = slice(first, first + min(config.later_runs, config.test_runs))
        later = make_later(data, tested, horizon=config.horizon, together=config.together)
    if truth is None:
        truth = _truth(config, data, later, time.perf_counter() - begin)
        store.save(f"seed{seed}_truth", truth)
    sampling = functools.cache(lambda: make_sampling(data, config.projection))
    for number, name in enumerate(config.methods):
        outcome = found[name]
        if outcome is None:
            key = jax.random.fold_in(jax.random.key(config.seed + seed), number)
            begin = time.perf_counter()
            log = lambda row, at, name=name: run.log(  # noqa: E731
                {f"{name}_{metric}": value for metric, value in row.items() if "loss" in metric}, at
            )
            rom = fit_method(name, Fitting(data, config.networks, config.projection, sampling, key, log))
            outcome = _evaluate(config, data, later, rom, time.perf_counter() - begin)
            found[name] = outcome
            store.save(f"seed{seed}_{name}", outcome)
            if seed == 0 and name == "na_blstm" and config.ask:
                store.save("seed0_answers", _answer(config, rom))
        bar.update(1, seed=str(seed), method=name, mse=float(np.nanmean(outcome.errors)))
        stop_if_asked()
    if seed == 0:
        _make_extras(config, store, data, later, bar, stop_if_asked)
    return Seed(truth, {name: o for name, o in found.items() if o is not None})


def _extras_missing(config: Config, store: Store) -> bool:
    doubts = config.uncertainty.on and any(store.load(f"seed0_uncertainty_{n}", Doubt) is None for n in SOURCES)
    return doubts or config.horizon > 1 and store.load("seed0_na_blstm_long", Outcome) is None


def _make_extras(config: Config, store: Store, data: RomData, later: Later | None, bar, stop_if_asked) -> None:
    key = jax.random.fold_in(jax.random.key(config.seed), len(METHODS))
    if config.uncertainty.on:
        for name in SOURCES:
            if store.load(f"seed0_uncertainty_{name}", Doubt) is None:
                store.save(
                    f"seed0_uncertainty_{name}",
                    judge_uncertainty(name, data, config.networks, config.uncertainty, key=key),
                )
            bar.update(1, method=f"uncertainty: {name}")
            stop_if_asked()
    if later is not None:
        if store.load("seed0_na_blstm_long", Outcome) is None:
            begin = time.perf_counter()
            rom = fit_long_emulator(data, config.networks, config.horizon, config.together, later.stride, key=key)
            outcome = _evaluate(config, data, later, rom, time.perf_counter() - begin)
            store.save("seed0_na_blstm_long", outcome)
        bar.update(1, method="na_blstm on the long horizon")
        stop_if_asked()


def _pictured(config: Config) -> tuple[list[int], list[int]]:
    last = config.simulation.fields - 1
    times = sorted({round(share * last) for share in PICTURED_SHARES})
    return times, sorted({min(mode, config.modes - 1) for mode in PICTURED_MODES})


def _truth(config: Config, data: RomData, later: Later | None, generate_seconds: float) -> Truth:
    times, modes = _pictured(config)
    tested = data.depth[data.split.test]
    mean = np.asarray(data.pod.mean).reshape(1, 1, *data.basis.shape)
    sizes = _sizes(config, data)
    bars = floors(data, sizes)
    held = energies(data, sizes)
    flat = tested[0].reshape(len(tested[0]), -1)
    empty = np.zeros((0, 0))
    floor_later = empty
    if later is not None:
        some = jnp.asarray(later.depth.reshape(*later.depth.shape[:2], -1))
        floor_later = squared_errors(np.asarray(data.pod.decode(data.pod.encode(some))), np.asarray(some))
    return Truth(
        tested[0, times],
        np.asarray(data.pod.encode(jnp.asarray(flat)))[:, modes],
        np.stack([bars[size] for size in sizes]),
        np.array([held[size] for size in sizes]),
        squared_errors(np.broadcast_to(mean, tested.shape), tested),
        empty if later is None else squared_errors(np.broadcast_to(mean, later.depth.shape), later.depth),
        floor_later,
        np.asarray(generate_seconds),
    )


def _sizes(config: Config, data: RomData) -> tuple[int, ...]:
    most = data.wide.modes.shape[1]
    return tuple(sorted({min(size, most) for size in (*config.floor_modes, config.modes)}))


def _evaluate(config: Config, data: RomData, later: Later | None, rom: Rom, fit_seconds: float) -> Outcome:
    times, modes = _pictured(config)
    truth = data.depth[data.split.test]
    windows = jnp.asarray(data.trajectories().coefficients[data.split.test, : config.networks.window])
    cases = Case(jnp.asarray(data.parameters[data.split.test], jnp.float32), windows)
    one = jax.tree.map(lambda a: a[:1], cases)
    if rom.cheap:
        alone = timed_call(jax.vmap(rom.predict), one, repeats=5, budget=5.0)
        many = family_cases(config, windows, config.batch)
        batch = timed_call(jax.vmap(rom.predict), many, repeats=5, budget=10.0)
        latent = jax.jit(jax.vmap(rom.predict))(cases)
        seconds = (alone.seconds, batch.seconds / config.batch, alone.compile_seconds + batch.compile_seconds)
    else:
        batch = timed_call(lambda c: jax.lax.map(rom.predict, c), cases, repeats=1, budget=0.0)
        latent, each = batch.output, batch.seconds / len(truth)
        seconds = (each, each, batch.compile_seconds)
    decode = jax.jit(lambda one: rom.depth(one))
    predicted = np.stack([np.asarray(decode(jax.tree.map(lambda a, i=i: a[i], latent))) for i in range(len(truth))])
    later_errors, growth = _beyond(data, later, rom, cases)
    series = np.asarray(data.pod.encode(jnp.asarray(predicted[0].reshape(len(predicted[0]), -1))))[:, modes]
    return Outcome(
        squared_errors(predicted, truth),
        later_errors,
        np.asarray(growth),
        predicted[0, times],
        series,
        *(np.asarray(value) for value in (fit_seconds, *seconds)),
    )


def family_cases(config: Config, windows: Float[Array, "runs window modes"], count: int) -> Case:
    """Many cases to time: parameters of their own, the first states of the test runs over and over."""
    parameters = config.family.sample(count, seed=config.seed + 1000)
    return Case(jnp.asarray(parameters, jnp.float32), jnp.resize(windows, (count, *windows.shape[1:])))


def _beyond(data: RomData, later: Later | None, rom: Rom, cases: Case) -> tuple[np.ndarray, float]:
    """Squared errors after the horizon, and how far fields stray from the mean compared with training."""
    if later is None or rom.later is None:
        return np.zeros((0, 0)), float("nan")
    onwards, (runs, count) = rom.later, later.depth.shape[:2]
    program = jax.jit(lambda c: jax.lax.map(lambda case: rom.depth(onwards(case, later.stride, count)), c))
    predicted = np.asarray(program(jax.tree.map(lambda a: a[:runs], cases)))
    mean = np.asarray(data.pod.mean).reshape(data.basis.shape)
    with np.errstate(over="ignore", invalid="ignore"):
        strayed = np.sqrt(np.square(predicted - mean).mean((2, 3), dtype=np.float64))
    usual = np.sqrt(np.square(data.depth[data.split.train] - mean).mean((2, 3), dtype=np.float64)).max()
    growth = float(strayed.max() / usual) if np.isfinite(strayed).all() else float("inf")
    return squared_errors(predicted, later.depth), growth


def _answer(config: Config, rom: Rom) -> Answers:
    asked = np.array(config.ask)
    window = jnp.zeros((config.networks.window, config.modes))
    predict = jax.jit(lambda p: rom.depth(rom.predict(Case(p, window))))
    depths = [np.asarray(predict(jnp.asarray(one, jnp.float32))) for one in asked]
    least, greatest = (np.array([f(d) for d in depths]) for f in (np.min, np.max))
    return Answers(asked, least, greatest, ~config.family.inside(asked))


def _answers(config: Config, store: Store) -> Answers | None:
    """Those to `ask`; None where they are still to be given."""
    asked = np.array(config.ask).reshape(len(config.ask), len(config.family.names))
    if not len(asked):
        return Answers(asked, np.zeros(0), np.zeros(0), np.zeros(0, bool))
    known = store.load("seed0_answers", Answers)
    return known if known is not None and np.array_equal(known.parameters, asked) else None


def _score(config: Config, seed: Seed, name: str) -> RomScore:
    sizes = sorted({*config.floor_modes, config.modes})
    floor = seed.truth.floors[min(sizes.index(config.modes), len(seed.truth.floors) - 1)]
    return score(seed.outcomes[name].errors, floor, seed.truth.climatology)


def _summary(
    config: Config,
    seeds: list[Seed],
    scores: dict[str, list[RomScore]],
    doubts: dict[str, Doubt],
    long: Outcome | None,
    answers: Answers | None,
    seconds: dict[str, float],
) -> Summary:
    metrics: dict[str, float] = {}

    def put(name: str, values: list[float]) -> None:
        mean, half = student_interval(np.array(values))
        metrics[name] = mean
        if len(values) > 1:
            metrics[f"{name}_interval"] = half

    sizes = sorted({*config.floor_modes, config.modes})
    at = min(sizes.index(config.modes), len(seeds[0].truth.floors) - 1)
    put("floor_mse", [float(s.truth.floors[at].mean()) for s in seeds])
    half = config.simulation.fields // 2
    put("floor_mse_late", [float(s.truth.floors[at][:, half:].mean()) for s in seeds])
    put("climatology_mse", [float(s.truth.climatology.mean()) for s in seeds])
    for name in config.methods:
        outcomes = [s.outcomes[name] for s in seeds]
        put(f"mse_{name}", [s.mse for s in scores[name]])
        put(f"mse_late_{name}", [s.late for s in scores[name]])
        metrics[f"mse_worst_{name}"] = max(s.worst for s in scores[name])
        metrics[f"diverged_share_{name}"] = float(np.mean([s.diverged for s in scores[name]]))
        metrics[f"seconds_per_trajectory_{name}"] = float(np.median([o.seconds_batch for o in outcomes]))
        metrics[f"seconds_per_trajectory_batch1_{name}"] = float(np.median([o.seconds_one for o in outcomes]))
        if outcomes[0].later.size and np.isfinite(outcomes[0].later).all():
            metrics[f"mse_long_{name}"] = float(outcomes[0].later.mean())
            metrics[f"growth_{name}"] = float(outcomes[0].growth)
    if long is not None:
        metrics["mse_long_na_blstm"] = float(long.later.mean())
        metrics["growth_na_blstm"] = float(long.growth)
    for name, doubt in doubts.items():
        metrics[f"coverage_90_{name}"] = float(doubt.coverage_scaled)
        metrics[f"coverage_90_raw_{name}"] = float(doubt.coverage_raw)
    plain = [n for n in NON_AUTOREGRESSIVE if n in config.methods]
    if "na_blstm" in plain:
        metrics["rank_na_blstm"] = 1 + sum(metrics[f"mse_{n}"] < metrics["mse_na_blstm"] for n in plain)
    if "equivariant" in config.methods:
        metrics["floor_over_equivariant"] = metrics["floor_mse"] / metrics["mse_equivariant"]
    if answers is not None and len(answers.parameters):
        metrics["asked_outside_range"] = int(answers.outside.sum())
    return Summary("reduced_order", metrics, _references(config, metrics), seconds, _notes(config, metrics, answers))


def _references(config: Config, metrics: dict[str, float]) -> dict[str, Reference]:
    references = {}
    bars = {n: metrics[f"mse_late_{n}"] for n in ("galerkin", "lstm") if n in config.methods}
    if bars:
        best = min(bars, key=lambda n: bars[n])
        for name in (n for n in NON_AUTOREGRESSIVE if n in config.methods):
            references[f"mse_late_{name}"] = Reference(bars[best], f"the better of galerkin and lstm: {best}", "lower")
    if isinstance(config.family, Bump) and "equivariant" in config.methods:
        references["floor_over_equivariant"] = Reference(100.0, "at equal latent size", "higher")
        if config.modes == 40 and config.simulation == SimulationConfig():
            references["floor_mse"] = Reference(4.45e-4, "one hypercube, translates of one run")
            references["mse_equivariant"] = Reference(8.4e-7, "one template and a Fourier shift")
    if "rank_na_blstm" in metrics:
        references["rank_na_blstm"] = Reference(1.0, "published: the best of the variants", "lower")
    return references


def _notes(config: Config, metrics: dict[str, float], answers: Answers | None) -> tuple[str, ...]:
    notes = [
        "Squared errors of the depth (rho = 1) over all test runs, fields and cells; late: the last half of fields.",
        "The lstm is given its first fields true, as published; every other method starts from the parameters.",
        "seconds_per_trajectory: networks, regressions and dmd in a batch, projection models one after another; "
        "coefficients, not fields.",
    ]
    diverged = [name for name in config.methods if metrics[f"diverged_share_{name}"]]
    if diverged:
        notes.append(f"Not finite in some runs, which count as the mean field from there on: {', '.join(diverged)}.")
    if answers is not None:
        for asked in answers.parameters[answers.outside]:
            notes.append(f"Parameters {asked.tolist()} lie outside the training range: the prediction is a guess.")
    return tuple(notes)

"""What a trajectory costs: the solver, POD-Galerkin and the networks, jitted, on one device and in one precision."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from matplotlib.figure import Figure

from experiments.benchmarks import numpy_shallow_water
from experiments.benchmarks.assimilation import timed_call
from experiments.reduced_order_methods import NetworksConfig, build_direct
from experiments.settings import Settings
from jaxsci.core.config import between, positive, require
from jaxsci.core.figures import BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.dynamics.shallow_water_families import GRAVITY, Bump, Family, SimulationConfig, several, simulate
from jaxsci.emulators.galerkin import Galerkin, choose_sampling
from jaxsci.emulators.sequence import AutoregressiveLstm
from jaxsci.emulators.state_basis import StateBasis, fit_state_basis

LABELS = {
    "numpy": "solver in NumPy, alone",
    "solver": "solver",
    "galerkin": "POD-Galerkin",
    "hyper_reduced": "Galerkin + QDEIM",
    "lstm": "LSTM, autoregressive",
    "na_lstm": "NA-LSTM",
    "na_blstm": "NA-BLSTM",
    "na_blstm_fields": "NA-BLSTM and its fields",
}


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Steppers of the equations are timed over `steps_timed` of a run's steps, whose cost is the same, and scaled up.

    Of the numbers of runs in `together` that a stepper can take side by side the fastest counts: on a CPU a few, on an
    accelerator all. Weights of networks do not matter for their speed and are drawn; the Galerkin basis is that of
    `basis_runs` runs.
    """

    family: Family = field(default_factory=Bump)
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    modes: int = 40
    rate_modes: int = 80
    networks: NetworksConfig = field(default_factory=NetworksConfig)
    batch: int = 1000
    steps_timed: int = 10
    together: tuple[int, ...] = (1, 4)
    basis_runs: int = 6
    repeats: int = 5
    budget_seconds: float = 60.0

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "modes", "rate_modes", "batch", "steps_timed", "repeats", "budget_seconds")
        between(self, "basis_runs", 1, 1000)
        require(min(self.together, default=0) > 0, "together", "one number or more, above 0", self.together)


class Cost(NamedTuple):
    seconds: float
    """Per trajectory of all its fields, compilation apart."""
    compile_seconds: float
    runs: int
    """Calls the median is of."""
    how: str


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    simulation = config.simulation
    fields = simulate(config.family, simulation, config.family.sample(config.basis_runs, seed=config.seed))
    flat = fields.reshape(-1, *fields.shape[2:])
    most = min(len(flat), flat[0, 0].size)
    require(config.modes <= most, "modes", f"at most {most} (fields of the basis runs, grid points)", config.modes)
    basis = fit_state_basis(flat, config.modes)
    costs: dict[str, Cost] = {}
    with progress(len(LABELS), "programs timed") as bar:
        for name, make in _tasks(config, basis, flat).items():
            costs[name] = make()
            run.log({f"seconds_{name}": costs[name].seconds}, len(costs))
            bar.update(1, program=name, seconds=costs[name].seconds)
    summary = _summary(config, costs)
    return summary, _report(config, run, costs)


def _tasks(config: Config, basis: StateBasis, flat: np.ndarray) -> dict[str, Callable[[], Cost]]:
    """In order of cost, dearest first."""
    simulation, family = config.simulation, config.family

    def solver(parameters: Array) -> Array:
        model, first = family.begin(parameters, simulation)
        return several(model, config.steps_timed)(first)

    def galerkin(parameters: Array) -> Array:
        model, first = family.begin(parameters, simulation)
        return several(Galerkin(model.tendency, basis, model.dt), config.steps_timed)(basis.project(first))

    def hyper_reduced(parameters: Array) -> Array:
        model, first = family.begin(parameters, simulation)
        return several(sampling.reduce(model, basis), config.steps_timed)(basis.project(first))

    rates = np.asarray(jax.jit(lambda q: jax.lax.map(simulation.model().tendency, q))(jnp.asarray(flat)))
    rate_modes = min(config.rate_modes, len(flat), flat[0, 0].size)
    sampling = choose_sampling(basis, fit_state_basis(rates, rate_modes, centre=None))
    return {
        "numpy": lambda: _time_numpy(config, flat[0]),
        "solver": lambda: _time_stepper(config, solver),
        "galerkin": lambda: _time_stepper(config, galerkin),
        "hyper_reduced": lambda: _time_stepper(config, hyper_reduced),
        "lstm": lambda: _time_autoregressive(config),
        "na_lstm": lambda: _time_direct(config, "na_lstm"),
        "na_blstm": lambda: _time_direct(config, "na_blstm"),
        "na_blstm_fields": lambda: _time_direct(config, "na_blstm", basis),
    }


def _parameters(config: Config) -> Array:
    return jnp.asarray(config.family.sample(config.batch, seed=config.seed + 1), jnp.asarray(0.0).dtype)


def _time_stepper(config: Config, program: Callable[[Array], Array]) -> Cost:
    """Over a batch, so many at a time as is fastest; two calls decide, `repeats` are measured."""
    parameters = _parameters(config)
    mapped = {k: _in_groups(program, min(k, config.batch)) for k in config.together}
    some = parameters[: max(config.batch // 20, max(config.together))]
    quick = {k: timed_call(f, some, repeats=2, budget=config.budget_seconds).seconds for k, f in mapped.items()}
    best = min(quick, key=lambda k: quick[k])
    timed = timed_call(mapped[best], parameters, repeats=config.repeats, budget=config.budget_seconds)
    whole = (config.simulation.fields - 1) * config.simulation.every / config.steps_timed
    return Cost(timed.seconds * whole / config.batch, timed.compile_seconds, timed.runs, f"{best} at a time")


def _in_groups(program: Callable[[Array], Array], size: int) -> Callable[[Array], Array]:
    """One at a time without `vmap`: on a CPU a batch axis of one makes products of matrices ten times slower."""
    if size == 1:
        return lambda parameters: jax.lax.map(program, parameters)
    return lambda parameters: jax.lax.map(program, parameters, batch_size=size)


def _time_numpy(config: Config, first: np.ndarray) -> Cost:
    simulation, times = config.simulation, []
    for _ in range(config.repeats):
        q = first
        begin = time.perf_counter()
        for _ in range(config.steps_timed):
            q = numpy_shallow_water.step(q, 1 / simulation.cells, simulation.dt, GRAVITY)
        times.append(time.perf_counter() - begin)
    whole = (simulation.fields - 1) * simulation.every / config.steps_timed
    return Cost(statistics.median(times) * whole, 0.0, len(times), "1 at a time")


def _time_direct(config: Config, name: str, basis: StateBasis | None = None) -> Cost:
    """One call for the batch. With a basis the fields of the depth are made too, run after run."""
    encode, fields = config.family.encode, config.simulation.fields
    parameters = _parameters(config)
    features = encode(parameters[0]).shape[0]
    network = build_direct(name, features, fields, config.modes, config.networks)(jax.random.key(config.seed))

    def coefficients(parameters: Array) -> Array:
        return jax.vmap(lambda p: network(encode(p).astype(jnp.float32)))(parameters)

    def decode(series: Array) -> Array:
        """A number a field: the fields are made, but a thousand runs of them need not be kept."""
        return jnp.zeros(()) if basis is None else (basis.mean[0] + series @ basis.modes[0].T).sum(1)

    program = coefficients if basis is None else lambda parameters: jax.lax.map(decode, coefficients(parameters))
    timed = timed_call(program, parameters, repeats=config.repeats, budget=config.budget_seconds)
    return Cost(timed.seconds / config.batch, timed.compile_seconds, timed.runs, f"{config.batch} at a time")


def _time_autoregressive(config: Config) -> Cost:
    encode, window = config.family.encode, config.networks.window
    parameters = _parameters(config)
    features = encode(parameters[0]).shape[0]
    network = AutoregressiveLstm(features, config.modes, key=jax.random.key(config.seed))
    steps = config.simulation.fields - window
    states = jax.random.normal(jax.random.key(config.seed), (config.batch, window, config.modes), jnp.float32)

    def program(parameters: Array, states: Array) -> Array:
        given = jax.vmap(lambda p: encode(p).astype(jnp.float32))(parameters)
        return jax.vmap(lambda s, f: network.continue_from(s, f, steps))(states, given)

    timed = timed_call(program, parameters, states, repeats=config.repeats, budget=config.budget_seconds)
    return Cost(timed.seconds / config.batch, timed.compile_seconds, timed.runs, f"{config.batch} at a time")


def _summary(config: Config, costs: dict[str, Cost]) -> Summary:
    ours = costs["na_blstm"].seconds
    metrics: dict[str, float] = {
        f"speedup_vs_{name}": costs[name].seconds / ours for name in ("solver", "galerkin", "hyper_reduced", "lstm")
    }
    metrics["speedup_vs_solver_with_fields"] = costs["solver"].seconds / costs["na_blstm_fields"].seconds
    metrics["generation_speedup_vs_numpy"] = costs["numpy"].seconds / costs["solver"].seconds
    metrics |= {f"seconds_per_trajectory_{name}": cost.seconds for name, cost in costs.items()}
    claim = "published claim, against Galerkin and LSTM: three orders of magnitude"
    references = {
        "speedup_vs_solver": Reference(1000.0, "asked for; coefficients, not fields", "higher"),
        "speedup_vs_galerkin": Reference(100.0, f"asked for; {claim}", "higher"),
        "speedup_vs_lstm": Reference(1000.0, claim),
        "generation_speedup_vs_numpy": Reference(5.0, "asked for; goal 20", "higher"),
    }
    notes = (
        f"Batch {config.batch}, {config.precision}, compilation apart, medians of "
        f"{min(c.runs for c in costs.values())} calls or more.",
        f"Steppers of the equations over {config.steps_timed} steps, scaled to the run's "
        f"{(config.simulation.fields - 1) * config.simulation.every}; networks over whole runs.",
        "A trajectory is its POD coefficients; with_fields adds the depth on the grid. NumPy takes one run at a time.",
    )
    seconds = {"compile": sum(cost.compile_seconds for cost in costs.values())}
    return Summary("benchmarks/reduced_order", metrics, references, seconds, notes)


def _report(config: Config, run: Run, costs: dict[str, Cost]) -> Report:
    page = Report(
        "What a trajectory costs",
        f"How long does one run of {config.simulation.fields} fields take in a batch of {config.batch}: through the "
        f"equations, through their projection onto {config.modes} modes a variable, and through networks?",
    )
    page.figure("seconds", run.figure("seconds", bars(costs)), "Seconds per trajectory, compilation apart.")
    rows: list[tuple[Any, ...]] = [
        (LABELS[n], c.seconds, costs["solver"].seconds / c.seconds, c.how, c.runs, c.compile_seconds)
        for n, c in costs.items()
    ]
    columns = ("model", "s / trajectory", "solver / it", "how", "calls", "compile s")
    return page.table("Times", columns, rows)


@style()
def bars(costs: dict[str, Cost]) -> Figure:
    figure, axes = new_figure(1, 1, (9, 4.2))
    axis, names = axes[0, 0], list(costs)[::-1]
    colours = [BLUE if n.startswith("na_") else GREY if n in ("numpy", "solver") else ORANGE for n in names]
    axis.barh([LABELS[n] for n in names], [costs[n].seconds for n in names], color=colours)
    for place, name in enumerate(names):
        axis.text(costs[name].seconds * 1.15, place, f"{costs[name].seconds:.2g} s", va="center", fontsize=9.5)
    axis.set(xscale="log", xlabel="seconds per trajectory")
    axis.margins(x=0.2)
    axis.grid(False, axis="y")
    return figure

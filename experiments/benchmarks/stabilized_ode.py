"""Training speed of a stiff neural ODE: exact linear propagation beside Tsit5 in diffrax and dopri5 in torchdiffeq."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from matplotlib.figure import Figure

from experiments.benchmarks import torch_neural_ode
from experiments.settings import Settings
from jaxsci.core.config import positive
from jaxsci.core.figures import BLUE, GREEN, ORANGE, new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.emulators.stabilized_ode import solvers
from jaxsci.emulators.stabilized_ode.model import StabilizedOde
from jaxsci.emulators.stabilized_ode.systems import KsSystem
from jaxsci.emulators.stabilized_ode.training import StageConfig, snapshots, train_stage
from jaxsci.emulators.stabilized_ode.trajectories import trajectories_from
from jaxsci.emulators.stabilized_ode.variants import VariantConfig, linear_start, seeds
from jaxsci.emulators.stabilized_ode.warm_start import time_derivative

NAMES = ("etdrk4", "diffrax", "torchdiffeq")
LEARNING_RATE = 1e-5  # the parameters stay where training left them, and with them the stiffness


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """One training step is `batch` trajectories over one data spacing, forward and backward, and Adam's update.

    The model first learns derivatives for `prepare` steps: a fresh kernel is not stiff, a trained one is. `tolerance`
    is that of both adaptive solvers. In each of `rounds` rounds the three run in turn.
    """

    system: KsSystem = field(default_factory=KsSystem)
    model: VariantConfig
    trajectories: int = 32
    times: int = 200
    prepare: int = 1000
    batch: int = 64
    tolerance: float = 1e-4
    rounds: int = 7
    steps: int = 50
    peer_steps: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "trajectories", "times", "prepare", "batch", "tolerance", "rounds", "steps", "peer_steps")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    torch_neural_ode.load()
    begin = time.perf_counter()
    model, starts, targets = _trained(config)
    seconds = {"prepare": time.perf_counter() - begin}
    adaptive = replace(model, integrator="tsit5", tolerance=config.tolerance)
    peer = torch_neural_ode.peer(
        np.asarray(model.linear.weights),  # type: ignore[attr-defined]
        [np.asarray(w) for w in model.nonlinear.layers.weights],  # type: ignore[attr-defined]
        [np.asarray(b) for b in model.nonlinear.layers.biases],  # type: ignore[attr-defined]
        np.asarray(starts),
        np.asarray(targets),
        dt=model.dt,
        tolerance=config.tolerance,
        learning_rate=LEARNING_RATE,
        threads=config.cpu_threads or 2,
    )
    begin = time.perf_counter()
    ours, loss, gradient = _trainer(model, starts, targets, config.steps)
    theirs, loss_diffrax, gradient_diffrax = _trainer(adaptive, starts, targets, config.peer_steps)
    seconds["compile"] = time.perf_counter() - begin
    rates: dict[str, list[float]] = {name: [] for name in NAMES}
    peer.train(1)
    work = {
        "etdrk4": (ours, config.steps),
        "diffrax": (theirs, config.peer_steps),
        "torchdiffeq": (lambda: peer.train(config.peer_steps), config.peer_steps),
    }
    with progress(config.rounds, "rounds") as bar:
        for number in range(config.rounds):
            for name, (train, steps) in work.items():
                begin = time.perf_counter()
                train()
                rates[name].append(config.batch * steps / (time.perf_counter() - begin))
            run.log({f"throughput_{name}": values[-1] for name, values in rates.items()}, number)
            bar.update(ratio=rates["etdrk4"][-1] / rates["diffrax"][-1])
    steps = jax.jit(jax.vmap(lambda u: solvers.solve(model.right_hand_side, u, model.dt, "tsit5", config.tolerance)[1]))
    evaluations = {
        "etdrk4": 4 * model.substeps,
        "diffrax": float(jnp.mean(steps(starts))) * solvers.STAGES["tsit5"],
        "torchdiffeq": peer.evaluations,
    }
    ratios = {n: [a / b for a, b in zip(rates["etdrk4"], rates[n], strict=True)] for n in NAMES[1:]}
    metrics = {f"throughput_ratio_{n}": statistics.median(values) for n, values in ratios.items()}
    metrics |= {f"throughput_ratio_{n}_least": min(values) for n, values in ratios.items()}
    metrics |= {f"throughput_{n}": statistics.median(values) for n, values in rates.items()}
    metrics |= {f"evaluations_per_time_unit_{n}": count / model.dt for n, count in evaluations.items()}
    metrics |= {
        "stiffness_rate": float(model.stiffness(starts.shape[1])) / model.dt,
        "loss_etdrk4": loss,
        "loss_diffrax": loss_diffrax,
        "loss_torchdiffeq": peer.loss,
        "gradient_difference_diffrax": _difference(gradient, gradient_diffrax),
    }
    references = {
        f"throughput_ratio_{n}": Reference(20.0, "goal, on the same CPU in the same run", "higher") for n in NAMES[1:]
    }
    notes = (
        f"{peer.version}, {config.cpu_threads or 2} thread(s) each; float32; tolerance {config.tolerance:g}; all three "
        "differentiate their discrete steps.",
        f"jaxsci runs {config.steps} steps per dispatch, as its training loop does; diffrax {config.peer_steps}.",
        "stiffness_rate is the largest |lambda| of the learned linear term; explicit solvers are limited by its "
        "stability, whatever the tolerance.",
    )
    page = Report(
        "Training a stiff neural ODE",
        "How much faster is training where the learned linear term is solved exactly instead of stepped through?",
    )
    page.figure("rates", run.figure("rates", by_round(rates)), "Rounds alternate; one core.")
    page.table(
        "Per training step",
        ("method", "trajectories per second", "network evaluations per time unit", "loss"),
        [
            (n, metrics[f"throughput_{n}"], metrics[f"evaluations_per_time_unit_{n}"], metrics[f"loss_{n}"])
            for n in NAMES
        ],
        "The same parameters and batch: the losses agree to within the tolerance.",
    )
    return Summary("benchmarks/stabilized_ode", metrics, references, seconds, notes), page


def _trained(config: Config) -> tuple[StabilizedOde, Array, Array]:
    """A model whose kernel knows the PDE's stiffness, and one batch."""
    system, key = config.system, jax.random.key(config.seed)
    starts = system.starts(config.trajectories, key=key)
    u = trajectories_from(system.step(), starts, settle=round(system.settle / system.dt), times=config.times)
    slope = time_derivative(u, system.dt)
    flat = u[:, 2:-2].reshape(-1, system.points)
    start = linear_start(config.model, system.domain(), flat, slope.reshape(flat.shape))
    models = seeds(config.model, system.domain(), start, 1, key=key)
    stage = StageConfig(config.prepare, 128, 0)
    with progress(config.prepare, "preparing") as bar:
        models = train_stage(models, snapshots(u, slope), stage, key=key, on_log=lambda row, step: bar.update(20))
    model = jax.tree.map(lambda leaf: leaf[0] if isinstance(leaf, jax.Array) else leaf, models)
    pairs = jnp.asarray(u[:, :-1].reshape(-1, system.points), jnp.float32)
    after = jnp.asarray(u[:, 1:].reshape(-1, system.points), jnp.float32)
    chosen = jax.random.choice(key, len(pairs), (config.batch,), replace=False)
    return model, pairs[chosen], after[chosen]


def _trainer(model: StabilizedOde, starts: Array, targets: Array, steps: int) -> tuple[Callable[[], None], float, Any]:
    """`train()` runs `steps` updates in one dispatch; also loss and gradient at the given parameters."""
    params, static = eqx.partition(model, eqx.is_inexact_array)
    optimizer = optax.adam(LEARNING_RATE)

    def loss(params: Any) -> Array:
        step = eqx.combine(params, static).step_map(starts[0])
        return jnp.mean(jnp.abs(jax.vmap(step)(starts) - targets))

    def update(carry: tuple, _: None) -> tuple[tuple, Array]:
        params, state = carry
        value, gradient = jax.value_and_grad(loss)(params)
        change, state = optimizer.update(gradient, state)
        return (optax.apply_updates(params, change), state), value

    carry = (params, optimizer.init(params))
    program = jax.jit(lambda carry: jax.lax.scan(update, carry, None, length=steps)).lower(carry).compile()
    value, gradient = jax.jit(jax.value_and_grad(loss))(params)
    carry, _ = program(carry)

    def train() -> None:
        nonlocal carry
        carry, _ = program(carry)
        jax.block_until_ready(carry)

    return train, float(value), gradient


def _difference(a: Any, b: Any) -> float:
    first, second = (jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in (a, b))
    return float(jnp.linalg.norm(first - second) / jnp.linalg.norm(second))


@style()
def by_round(rates: dict[str, list[float]]) -> Figure:
    figure, axes = new_figure(1, 1, (7, 4.2))
    for (name, values), colour in zip(rates.items(), (BLUE, GREEN, ORANGE), strict=True):
        axes[0, 0].semilogy(range(1, len(values) + 1), values, "o-", color=colour, label=name)
    axes[0, 0].set(xlabel="round", ylabel="trajectories per second")
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend()
    return figure

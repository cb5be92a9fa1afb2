"""Parity of every mesh of eight devices with one device: loss, all gradients, and a hundred training steps."""

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.settings import Settings
from jaxsci.core.config import positive, require
from jaxsci.core.figures import BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.data import Windows
from jaxsci.transformer.layout import Layout, layout, relayout
from jaxsci.transformer.model import decays, init
from jaxsci.transformer.parallel import ParallelConfig, check
from jaxsci.transformer.sharding import shardings
from jaxsci.transformer.step import batch_sharding, init_state, make_gradients, make_train_step

AXES = ("data", "fsdp", "pipe", "tensor")


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`uneven_layers` is a second depth, which no number of stages divides; it is checked on the pipelined meshes."""

    model: ModelConfig
    devices: int = 8
    batch: int = 16
    steps: int = 100
    uneven_layers: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "batch", "steps", "uneven_layers")
        require(self.devices & (self.devices - 1) == 0, "devices", "a power of two", self.devices)


@dataclass(frozen=True)
class Case:
    shape: tuple[int, int, int, int]
    plan: ParallelConfig
    model: ModelConfig

    @property
    def name(self) -> str:
        return f"{'x'.join(map(str, self.shape))} {self.plan.schedule}, {self.model.layers} layers"


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    found = len(jax.devices())
    require(found >= config.devices, "devices", f"at most the {found} there are (see cpu_devices)", config.devices)
    text = np.frombuffer((np.arange(20_000) * 7919 % 251).astype(np.uint8).tobytes(), np.uint8)
    windows = Windows(text % config.model.vocabulary, config.model.sequence, config.seed)
    cases, rows = _cases(config), []
    references: dict[int, tuple] = {}
    with progress(len(cases), "meshes") as bar:
        for number, case in enumerate(cases):
            layers = case.model.layers
            if layers not in references:
                alone = Case((1, 1, 1, 1), ParallelConfig(), case.model)
                references[layers] = (*_gradients(config, alone, windows), _curve(config, alone, windows))
            loss, gradients, curve = references[layers]
            ours, theirs = _gradients(config, case, windows)
            steps = _curve(config, case, windows)
            row = {
                "loss_difference": abs(ours - loss) / loss,
                "gradient_difference": _largest(theirs, gradients),
                "loss_difference_in_training": float(np.abs(steps - curve).max()),
            }
            run.log(row, number)
            rows.append((case.name, *row.values()))
            bar.update(mesh=case.name)
    worst = [max(row[i] for row in rows) for i in (1, 2, 3)]
    metrics = {
        "max_relative_loss_difference": worst[0],
        "max_relative_gradient_difference": worst[1],
        "max_loss_difference_100_steps": worst[2],
        "meshes": len({case.shape for case in cases}),
        "cases": len(cases),
    }
    bounds = {
        "max_relative_gradient_difference": Reference(2e-6, "bound: float32 rounding in another order", "lower"),
        "max_loss_difference_100_steps": Reference(1e-4, "bound, clipped and warmed up", "lower"),
    }
    notes = (
        "A gradient's difference is relative to the largest entry of its leaf; the loss in training is in nats, over "
        f"{config.steps} steps; the reference is the same step on one device.",
    )
    page = (
        Report(
            "One step, every mesh",
            f"Do loss and gradients depend on how a model is spread over {config.devices} devices?",
        )
        .figure("differences", run.figure("differences", differences(rows)), "Every mesh, against one device.")
        .table(
            "Difference from one device",
            ("mesh data x fsdp x pipe x tensor, schedule", "loss, relative", "gradients, relative", "training, nats"),
            rows,
        )
    )
    return Summary("benchmarks/parallel_parity", metrics, bounds, notes=notes), page


def _cases(config: Config) -> list[Case]:
    n = int(math.log2(config.devices))
    shapes = [
        (2**d, 2**f, 2**p, 2 ** (n - d - f - p))
        for d in range(n + 1)
        for f in range(n + 1 - d)
        for p in range(n + 1 - d - f)
    ]
    cases = []
    for shape in shapes:
        replicas, pipe = shape[0] * shape[1], shape[2]
        m = max(pipe, 2) if config.batch // max(pipe, 2) >= replicas else 1
        schedules = ("1f1b",) if pipe == 1 else ("1f1b", "gpipe")
        cases += [Case(shape, ParallelConfig(microbatches=m, schedule=s), config.model) for s in schedules]
    uneven = replace(config.model, layers=config.uneven_layers)
    staged = [c for c in cases if 1 < c.shape[2] <= config.uneven_layers]
    return cases + [replace(c, model=uneven) for c in staged if c.shape[0] == 1]


def _mesh(case: Case):
    count = math.prod(case.shape)
    return make_mesh(MeshConfig(**dict(zip(AXES, case.shape, strict=True))), jax.devices()[:count])


def _gradients(config: Config, case: Case, windows: Windows) -> tuple[float, dict]:
    """Loss and gradients of one batch, in the layout of one device."""
    mesh, model, plan = _mesh(case), case.model, case.plan
    check(model, plan, mesh.shape, config.batch)
    one = Layout(1, model.layers, model.vocabulary)
    params = relayout(init(model, one, jax.random.key(config.seed)), model, layout(model, plan, mesh.shape))
    params = jax.device_put(params, shardings(mesh, params))
    batch = jax.device_put(windows.batch(0, config.batch, plan.microbatches), batch_sharding(plan, mesh))
    run = jax.jit(make_gradients(model, plan, mesh))
    loss, gradients = run(params, batch, jax.random.key(0), jnp.float32(1))
    return float(loss), jax.device_get(relayout(jax.device_get(gradients), model, one))


def _curve(config: Config, case: Case, windows: Windows) -> np.ndarray:
    """Training losses; clipped and warmed up, for an unstable curve would compare nothing."""
    mesh, model, plan = _mesh(case), case.model, case.plan
    rule = OptimizerConfig(
        "adamw", learning_rate=3e-3, schedule="cosine", warmup_steps=min(20, config.steps), weight_decay=0.1,
        clip_norm=1.0, b2=0.95,
    ).build(config.steps, decay_mask=decays)  # fmt: skip
    state = init_state(model, plan, mesh, rule, jax.random.key(config.seed))
    step, where, losses = make_train_step(model, plan, mesh, rule), batch_sharding(plan, mesh), []
    for n in range(config.steps):
        batch = jax.device_put(windows.batch(n, config.batch, plan.microbatches), where)
        state, metrics = step(state, batch)
        losses.append(metrics["loss"])
    return np.array(jax.device_get(losses))


def _largest(a: dict, b: dict) -> float:
    relative = jax.tree.map(lambda x, y: float(np.abs(x - y).max() / np.abs(y).max()), a, b)
    return max(jax.tree.leaves(relative))


@style()
def differences(rows: list[tuple]) -> Figure:
    figure, axes = new_figure(1, 1, (9, 0.24 * len(rows) + 1.4))
    axis, places = axes[0, 0], np.arange(len(rows))
    axis.semilogx([max(row[2], 1e-10) for row in rows], places, "o", color=BLUE, label="gradients, relative")
    axis.semilogx([max(row[3], 1e-10) for row in rows], places, "s", color=ORANGE, label="training loss, nats")
    axis.axvline(2e-6, color=GREY, linestyle="--", linewidth=1, label="bound for gradients")
    axis.set_yticks(places, [row[0] for row in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set(xlabel="largest difference from one device", ylim=(len(rows) - 0.5, -0.5))
    axis.legend(loc="lower right")
    return figure

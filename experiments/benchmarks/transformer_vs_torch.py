"""Training speed of the transformer beside the same model in PyTorch, compiled, on the same device."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import numpy as np
from jax.sharding import Mesh
from matplotlib.figure import Figure

from experiments.benchmarks import torch_decoder
from experiments.peers import package
from experiments.settings import Settings
from jaxsci.core.config import positive
from jaxsci.core.figures import BLUE, ORANGE, new_figure, style
from jaxsci.core.mesh import MeshConfig, make_mesh
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.core.trainstep import HostStep
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.counts import parameters
from jaxsci.transformer.data import Windows
from jaxsci.transformer.model import decays
from jaxsci.transformer.parallel import ParallelConfig, check
from jaxsci.transformer.step import batch_sharding, init_state, make_update
from jaxsci.transformer.utilisation import known_peak, measured_peak, utilisation


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Both train on the same batches; rounds alternate, and the ratio is the median over `rounds` of `steps` steps."""

    model: ModelConfig
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch: int = 12
    steps: int = 20
    rounds: int = 7
    torch_compile: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "batch", "steps", "rounds")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    torch = package("torch")
    mesh = make_mesh(MeshConfig(data=1), jax.devices()[:1])
    check(config.model, config.parallel, mesh.shape, config.batch)
    tokens = (np.arange(1_000_003, dtype=np.int64) * 7919 % 251 % config.model.vocabulary).astype(np.uint8)
    windows = Windows(tokens, config.model.sequence, config.seed)
    ours, compile_ours = _ours(config, mesh, windows)
    theirs, compile_theirs = torch_decoder.trainer(torch, config, windows)
    per_step = config.batch * config.model.sequence
    rates: dict[str, list[float]] = {"jaxsci": [], "torch": []}
    with progress(config.rounds, "rounds") as bar:
        for number in range(config.rounds):
            for name, train in (("jaxsci", ours), ("torch", theirs)):
                begin = time.perf_counter()
                train(config.steps)
                rates[name].append(per_step * config.steps / (time.perf_counter() - begin))
            run.log({f"tokens_per_second_{name}": values[-1] for name, values in rates.items()}, number)
            bar.update(ratio=rates["jaxsci"][-1] / rates["torch"][-1])
    ratios = [a / b for a, b in zip(rates["jaxsci"], rates["torch"], strict=True)]
    kind = jax.devices()[0].device_kind
    peak = known_peak(kind) or measured_peak()
    use = utilisation(config.model, config.parallel, 1, statistics.median(rates["jaxsci"]), 1, peak.flops)
    metrics = {
        "tokens_per_second_ratio": statistics.median(ratios),
        "tokens_per_second_ratio_least": min(ratios),
        "tokens_per_second_ratio_most": max(ratios),
        "tokens_per_second": statistics.median(rates["jaxsci"]),
        "tokens_per_second_torch": statistics.median(rates["torch"]),
        "mfu": use.mfu,
        "hfu": use.hfu,
        "parameters": parameters(config.model),
    }
    references = {"tokens_per_second_ratio": Reference(1.0, f"PyTorch {torch.__version__} in the same run", "higher")}
    notes = (
        f"PyTorch runs {'torch.compile' if config.torch_compile else 'eager'} with scaled_dot_product_attention and "
        f"fused AdamW where there is one, on {torch.get_num_threads()} threads; compilation is not counted.",
        f"jaxsci runs {config.steps} steps per dispatch, as its training loop does; PyTorch one, as its users do.",
        f"mfu is of {peak.flops:.3g} FLOP/s ({peak.source}).",
    )
    seconds = {"compile": compile_ours, "compile_torch": compile_theirs}
    page = Report("Training speed beside PyTorch", "Who trains the same model on the same device faster?")
    page.figure("rates", run.figure("rates", by_round(rates)), "Rounds alternate between the two.").table(
        "Tokens per second by round",
        ("round", "jaxsci", "PyTorch", "ratio"),
        [(n + 1, a, b, a / b) for n, (a, b) in enumerate(zip(rates["jaxsci"], rates["torch"], strict=True))],
    )
    return Summary("benchmarks/transformer_vs_torch", metrics, references, seconds, notes), page


def _ours(config: Config, mesh: Mesh, windows: Windows) -> tuple[Callable[[int], None], float]:
    """`train(steps)` as the training loop runs it: `config.steps` steps per dispatch, batches loaded ahead."""
    rule = config.optimizer.build(10_000, decay_mask=decays)
    plan, where = config.parallel, batch_sharding(config.parallel, mesh)
    state = init_state(config.model, plan, mesh, rule, jax.random.key(config.seed))
    update = make_update(config.model, plan, mesh, rule)
    step = HostStep(update, lambda n: windows.batch(n, config.batch, plan.microbatches, where), config.steps, where)
    begin = time.perf_counter()
    program = step.compile(state, config.steps)
    compiled = time.perf_counter() - begin
    at = 0

    def train(steps: int) -> None:
        nonlocal state, at
        state, _ = program(state, at)
        at += steps
        jax.block_until_ready(state)

    train(config.steps)
    return train, compiled


@style()
def by_round(rates: dict[str, list[float]]) -> Figure:
    figure, axes = new_figure(1, 1, (7, 4.2))
    for (name, values), colour in zip(rates.items(), (BLUE, ORANGE), strict=True):
        axes[0, 0].plot(range(1, len(values) + 1), values, "o-", color=colour, label=name)
    axes[0, 0].set(xlabel="round", ylabel="tokens per second", ylim=(0, None))
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend()
    return figure

"""Training sixteen architectures in one program, beside a Python loop over them and beside PyTorch."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.bayesnas_arms import cross_entropy
from experiments.benchmarks import torch_mlp_cell
from experiments.peers import package
from experiments.settings import Settings
from jaxsci.bayesnas.batches import Examples, take
from jaxsci.bayesnas.ensemble import draw_architectures
from jaxsci.bayesnas.loaders.images import load_digits, unit
from jaxsci.bayesnas.members import Chains, Trainer, advance, start_chains
from jaxsci.bayesnas.space import MlpCell, one_hot
from jaxsci.bayesnas.weights import DeepEnsemble, Task
from jaxsci.core.config import positive, require
from jaxsci.core.figures import BLUE, GREY, ORANGE, new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary

COLOURS = {"one program": ORANGE, "loop": BLUE, "PyTorch": GREY}


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """Rounds of `steps` updates of every member alternate between the three; ratios are medians over rounds."""

    space: MlpCell = field(default_factory=MlpCell)
    members: int = 16
    steps: int = 60
    rounds: int = 7
    batch_size: int = 64
    torch: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "members", "steps", "batch_size")
        require(self.rounds >= 5, "rounds", "5 or more", self.rounds)


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    torch = package("torch") if config.torch else None
    digits = load_digits()
    x, y = unit(digits.train[:500], 16), digits.train_labels[:500]
    data = Examples(jnp.asarray(x), jnp.asarray(y))
    uniform = jnp.full((config.space.decisions, len(config.space.ops)), 1 / len(config.space.ops))
    choices = draw_architectures(config.space, uniform, config.members, key=jax.random.key(config.seed))
    task = Task(len(y), 10_000, 4.0)
    trainer = Trainer(config.space, DeepEnsemble(), task, cross_entropy, config.batch_size)
    keys = jax.random.split(jax.random.key(config.seed), config.members)
    chains = start_chains(trainer, one_hot(jnp.asarray(choices), len(config.space.ops)), x.shape[1:], 10, keys=keys)
    loop = _loop(trainer, chains, data)  # copies, for the program consumes its state
    runners: dict[str, Callable[[int], None]] = {"one program": _program(trainer, chains, data), "loop": loop}
    if torch is not None:
        options = {"batch": config.batch_size, "rate": 0.1, "seed": config.seed}
        runners["PyTorch"] = torch_mlp_cell.trainer(torch, config.space, choices, x, y, **options)
    compiled = {name: _timed(lambda r=r: r(config.steps)) for name, r in runners.items()}
    times: dict[str, list[float]] = {name: [] for name in runners}
    with progress(config.rounds, "rounds") as bar:
        for number in range(config.rounds):
            for name, runner in runners.items():
                seconds = _timed(lambda r=runner: r(config.steps))
                times[name].append(1e6 * seconds / config.steps / config.members)
            run.log({f"microseconds_{name.replace(' ', '_')}": values[-1] for name, values in times.items()}, number)
            bar.update(ratio=times["loop"][-1] / times["one program"][-1])
    return _summary(config, run, times, compiled, torch)


def _timed(call: Callable[[], None]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def _program(trainer: Trainer, chains: Chains, data: Examples) -> Callable[[int], None]:
    """All members and steps in one compiled program."""
    at = 0

    def train(steps: int) -> None:
        nonlocal chains, at
        chains, info = advance(trainer, chains, data, at, steps)
        at += steps
        jax.block_until_ready(info)

    return train


def _loop(trainer: Trainer, chains: Chains, data: Examples) -> Callable[[int], None]:
    """A Python loop over members and steps around the same update, compiled once for all architectures."""
    states = [jax.tree.map(lambda a, i=i: jnp.copy(a[i]), chains.state) for i in range(len(chains.z))]
    z = [chains.z[i] for i in range(len(chains.z))]
    key = jax.random.key(0)
    step = jax.jit(
        lambda state, z, rows, number: trainer.step(state, z, take(data, rows), number, key=key), donate_argnums=0
    )
    rng = np.random.default_rng(0)

    def train(steps: int) -> None:
        for member in range(len(states)):
            for number in range(steps):
                rows = rng.integers(0, len(data.y), trainer.batch_size)
                states[member], _ = step(states[member], z[member], rows, number)
        jax.block_until_ready(states)

    return train


def _summary(config: Config, run: Run, times: dict, compiled: dict, torch) -> tuple[Summary, Report]:
    ratio = lambda name: [a / b for a, b in zip(times[name], times["one program"], strict=True)]  # noqa: E731
    metrics = {
        "speedup_over_loop": statistics.median(ratio("loop")),
        "speedup_over_loop_least": min(ratio("loop")),
        **{
            f"microseconds_per_member_step_{n.replace(' ', '_').lower()}": statistics.median(v)
            for n, v in times.items()
        },
        "members": config.members,
    }
    references = {"speedup_over_loop": Reference(3.0, "the goal: three times a Python loop over members", "higher")}
    if torch is not None:
        metrics |= {
            "speedup_over_torch": statistics.median(ratio("PyTorch")),
            "speedup_over_torch_least": min(ratio("PyTorch")),
        }
        references["speedup_over_torch"] = Reference(
            1.0, f"PyTorch {torch.__version__}, eager, in the same run", "higher"
        )
    notes = (
        "The one program computes every operation of the space for every member, as architectures are data; PyTorch "
        "builds each network with the layers that its architecture has.",
        "The loop calls one compiled update per member and step. The first round, which compiles, is not counted.",
    )
    page = Report("Members in one program", "How much faster do sixteen architectures train together than one by one?")
    page.figure("times", run.figure("times", by_round(times)), "Rounds alternate between the three.")
    page.table(
        "Microseconds per member and step",
        ("round", *times),
        [(n + 1, *row) for n, row in enumerate(zip(*times.values(), strict=True))],
    )
    seconds = {f"first_{name.replace(' ', '_').lower()}": value for name, value in compiled.items()}
    return Summary("benchmarks/bayesnas_speed", metrics, references, seconds, notes), page


@style()
def by_round(times: dict[str, list[float]]) -> Figure:
    figure, axes = new_figure(1, 1, (7, 4.2))
    for name, values in times.items():
        axes[0, 0].plot(range(1, len(values) + 1), values, "o-", color=COLOURS[name], label=name)
    axes[0, 0].set(xlabel="round", ylabel="µs per member and step", ylim=(0, None))
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend()
    return figure

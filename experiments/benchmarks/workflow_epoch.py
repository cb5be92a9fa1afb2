"""One training epoch of the supervised detector beside the same network in PyTorch, on the same cores."""

import statistics
import time
from dataclasses import dataclass, field, replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from experiments.benchmarks.torch_workflow import Peer
from experiments.peers import installed, package
from experiments.settings import Settings
from experiments.workflow_data import DataConfig
from jaxsci.core.config import positive
from jaxsci.core.figures import COLOURS, new_figure, style
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.workflows.batch import Runs, runs_of
from jaxsci.workflows.features import FINE_SCALE, fit_scaling
from jaxsci.workflows.graph import Dag, dag
from jaxsci.workflows.splits import split_by_run
from jaxsci.workflows.supervised import Detector, Facts, SupervisedConfig, facts_of, fit_detectors, worker_loss

NAMES = {"dense": "PyTorch, dense matrices", "geometric": "PyTorch Geometric, scatter"}


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`rounds` epochs of each, turn by turn, after one of each that is not counted; one network, no ensemble."""

    data: DataConfig = field(default_factory=DataConfig)
    detector: SupervisedConfig = field(default_factory=SupervisedConfig)
    rounds: int = 7

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "rounds")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    workflow = config.data.load()
    torch = package("torch")
    known, _ = split_by_run(workflow.runs, config.seed)
    runs, graph = runs_of(workflow), dag(len(workflow.nodes), workflow.edges)
    facts = facts_of(fit_scaling(np.asarray(runs.columns), known, FINE_SCALE))
    classes, features = len(workflow.classes), runs.columns.shape[-1]
    fresh = Detector(config.detector.encoder, len(workflow.nodes), features, classes, key=jax.random.key(config.seed))
    forms = [form for form in NAMES if form == "dense" or installed("torch_geometric")]
    peers = {
        form: Peer(torch, form, fresh, config.detector, facts, runs, workflow.labels(), workflow.edges)
        for form in forms
    }
    first = known[: min(config.detector.learning.batch, len(known))]
    ours = float(first_loss(fresh, facts, runs, jnp.asarray(workflow.labels()), graph, first, config.detector))
    gaps = {form: abs(peer.loss(torch.from_numpy(first), dropout=False).item() - ours) for form, peer in peers.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ("jaxsci", *forms)}
    processor: dict[str, list[float]] = {name: [] for name in ("jaxsci", *forms)}

    def took(name: str, since: tuple[float, float]) -> None:
        seconds[name].append(time.perf_counter() - since[0])
        processor[name].append(time.process_time() - since[1])

    begin = time.perf_counter(), time.process_time()
    with progress(config.rounds + 1, "rounds") as bar:

        def after_epoch(epoch: int, losses: jax.Array) -> bool:
            nonlocal begin
            jax.block_until_ready(losses)
            took("jaxsci", begin)
            for form, peer in peers.items():
                start = time.perf_counter(), time.process_time()
                peer.epoch(known)
                took(form, start)
            bar.update(1, seconds=seconds["jaxsci"][-1], dense=seconds["dense"][-1])
            run.log({f"seconds_{name}": values[-1] for name, values in seconds.items()}, epoch)
            begin = time.perf_counter(), time.process_time()
            return False

        stacked = jax.tree.map(lambda leaf: leaf[None], facts)
        learning = replace(config.detector.learning, epochs=config.rounds + 1)
        fit_detectors(
            runs,
            workflow.labels(),
            classes,
            graph,
            stacked,
            jnp.asarray(known)[None],
            replace(config.detector, learning=learning),
            key=jax.random.key(config.seed),
            after_epoch=after_epoch,
        )
    counted = {name: values[1:] for name, values in seconds.items()}
    metrics = {f"seconds_per_epoch_{name}": statistics.median(values) for name, values in counted.items()}
    for form in forms:
        ratios = [b / a for a, b in zip(counted["jaxsci"], counted[form], strict=True)]
        metrics[f"epoch_ratio_{form}"] = statistics.median(ratios)
        metrics[f"epoch_ratio_{form}_least"], metrics[f"epoch_ratio_{form}_most"] = min(ratios), max(ratios)
        spent = zip(processor["jaxsci"][1:], processor[form][1:], strict=True)
        metrics[f"processor_ratio_{form}"] = statistics.median(b / a for a, b in spent)
        metrics[f"first_loss_difference_{form}"] = gaps[form]
    references = {"epoch_ratio_dense": Reference(1.5, f"goal, PyTorch {torch.__version__} in the same run", "higher")}
    notes = (
        f"{len(known)} training runs of {len(workflow.nodes)} jobs, batches of {config.detector.learning.batch}; "
        f"medians of {config.rounds} rounds, in which all take turns.",
        f"PyTorch runs eagerly on {torch.get_num_threads()} threads. processor_ratio counts the processor time of all "
        "threads, which does not depend on what else the machine does.",
        f"First loss on the same batch and parameters, without dropout: {ours:.6f}.",
    )
    page = Report(
        f"Training speed beside PyTorch: {workflow.name}",
        "How long does an epoch of the same graph network take, on the same cores?",
    )
    page.figure("rounds", run.figure("rounds", by_round(counted)), "Seconds of each epoch, round by round.")
    compiled = {"first_epoch_with_compilation": seconds["jaxsci"][0]}
    return Summary("benchmarks/workflow_epoch", metrics, references, compiled, notes), page


@eqx.filter_jit
def first_loss(model: Detector, facts: Facts, runs: Runs, labels, graph: Dag, rows, config: SupervisedConfig):
    """Ours on one batch, without dropout."""
    return worker_loss(model, facts, runs, labels, graph, rows, config, key=None)


@style()
def by_round(seconds: dict[str, list[float]]) -> Figure:
    figure, axes = new_figure(1, 1, (7, 4.2))
    for (name, values), colour in zip(seconds.items(), COLOURS, strict=False):
        axes[0, 0].plot(range(1, len(values) + 1), values, "o-", color=colour, label=NAMES.get(name, name))
    axes[0, 0].set(xlabel="round", ylabel="seconds per epoch", ylim=(0, None))
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].legend()
    return figure

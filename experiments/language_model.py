"""A transformer learns to write: one training step over tensor, pipeline and sharded-data axes, on any mesh."""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from experiments import language_model_report as pages
from experiments.settings import Settings
from jaxsci.core.config import between, positive, require
from jaxsci.core.distributed import barrier
from jaxsci.core.health import HealthConfig
from jaxsci.core.mesh import make_mesh
from jaxsci.core.optimizer import OptimizerConfig
from jaxsci.core.profile import ProfileWindow
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.core.train import FitResult, fit
from jaxsci.core.trainstep import HostStep
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.corpus import Split, encode_file, open_text, packaged_text, split
from jaxsci.transformer.counts import parameters
from jaxsci.transformer.data import Windows, validation_batch
from jaxsci.transformer.export import export_parameters
from jaxsci.transformer.model import decays
from jaxsci.transformer.parallel import ParallelConfig, bubble, check
from jaxsci.transformer.pipeline import Batch
from jaxsci.transformer.resume import MeshCheckpoints
from jaxsci.transformer.sample import for_decoding, make_sampler
from jaxsci.transformer.step import batch_sharding, init_state, make_evaluate, make_update
from jaxsci.transformer.tokenizer import BytePairs, Bytes, Tokenizer
from jaxsci.transformer.utilisation import known_peak, measured_peak, utilisation


@dataclass(frozen=True)
class TextConfig:
    """`path=None` is the packaged text. The first `train_fraction` is for training, the rest for validation.

    `tokenizer=bpe` learns `vocabulary` byte pairs from the training text itself; `bytes` needs nothing.
    """

    path: str | None = None
    train_fraction: float = 0.9
    tokenizer: Literal["bytes", "bpe"] = "bytes"
    vocabulary: int = 1024

    def __post_init__(self) -> None:
        between(self, "train_fraction", 0.01, 0.99)
        between(self, "vocabulary", 257, 2**20)


@dataclass(frozen=True)
class SampleConfig:
    """What is written at the end: `count` texts of `length` tokens after `prompt`."""

    count: int = 4
    length: int = 256
    prompt: str = "\n"
    temperature: float = 0.8
    top_p: float = 0.95

    def __post_init__(self) -> None:
        positive(self, "count", "length")
        require(len(self.prompt) > 0, "prompt", "at least one character", self.prompt)


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`batch` sequences per step over the whole mesh; `steps` in all, counting those before a resumption."""

    data: TextConfig = field(default_factory=TextConfig)
    model: ModelConfig
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    batch: int = 12
    steps: int = 2000
    steps_per_dispatch: int = 10
    log_every: int = 20
    evaluate_every: int = 200
    validation_sequences: int = 256
    save_every: int = 500
    keep: int = 3
    on_nonfinite: Literal["stop", "rollback"] = "stop"
    health: HealthConfig = field(default_factory=HealthConfig)
    expected_validation_loss: float | None = None
    sample: SampleConfig = field(default_factory=SampleConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        positive(self, "batch", "steps", "steps_per_dispatch", "log_every", "evaluate_every")
        positive(self, "validation_sequences", "save_every", "keep")


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    mesh = make_mesh(config.mesh)
    plan, optimizer = config.parallel, config.optimizer.build(config.steps, decay_mask=decays)
    check(config.model, plan, mesh.shape, config.batch)
    tokenizer, parts = _tokens(config, run)
    model = config.model
    needed = tokenizer.vocabulary
    require(model.vocabulary >= needed, "model.vocabulary", f"{needed} or more for this tokenizer", model.vocabulary)
    where = batch_sharding(plan, mesh)
    windows = Windows(parts.train, model.sequence, config.seed)
    held_out = _held_out(config, parts.validation, where)
    evaluate = make_evaluate(model, plan, mesh)

    def load(step: int):
        return windows.batch(step, config.batch, plan.microbatches, where)

    update = make_update(model, plan, mesh, optimizer)
    step = HostStep(update, load, config.steps_per_dispatch, where)
    checkpoints = MeshCheckpoints(run.checkpoint_directory, model, plan, mesh, keep=config.keep)
    checkpoints.refuse_another_model()
    state = init_state(model, plan, mesh, optimizer, jax.random.key(config.seed))
    curves: list[tuple[int, dict[str, float]]] = []
    began = time.perf_counter()
    with checkpoints, progress(config.steps, "steps") as bar:
        shown = 0

        def on_log(metrics: dict[str, float], at: int) -> None:
            nonlocal shown
            run.log(metrics, at)
            curves.append((at, metrics))
            bar.update(at - shown, **metrics)
            shown = at

        outcome = fit(
            state,
            step,
            steps=config.steps,
            log_every=config.log_every,
            on_log=on_log,
            checkpoints=checkpoints,
            save_every=config.save_every,
            on_nonfinite=config.on_nonfinite,
            health=config.health,
            evaluate=lambda params: {"validation_loss": evaluate(params, held_out)},
            eval_every=config.evaluate_every,
            profile=ProfileWindow(config.profile, run.path("profile")) if config.profile.start is not None else None,
        )
    if outcome.interrupted:
        raise KeyboardInterrupt(outcome.result)
    wall = time.perf_counter() - began
    loss = float(evaluate(outcome.state.params, held_out))
    export_parameters(run.path("model.safetensors"), model, outcome.state.params, mesh)
    texts = _write(config, tokenizer, outcome.state.params, mesh)
    if run.main:
        print("\n---\n".join(text.strip() for text in texts))
    summary = _summary(config, mesh, outcome, loss, parts, wall)
    return summary, pages.report(config, run, run.logged() or curves, texts, summary)


def _tokens(config: Config, run: Run) -> tuple[Tokenizer, Split]:
    """The tokenizer and both parts of the text. A tokenizer is learned once and kept in the run directory."""
    path = packaged_text() if config.data.path is None else Path(config.data.path)
    text = open_text(path)
    if config.data.tokenizer == "bytes":
        return Bytes(), split(text, config.model.sequence, config.data.train_fraction)
    file, encoded = run.path("tokenizer.json"), run.path("tokens.npy")
    if run.main:  # once: two processes would rename each other's files
        if not file.exists():
            BytePairs.train(path, config.data.vocabulary).save(file)
        encode_file(path, BytePairs.load(file), encoded)
    barrier("tokens are encoded")
    tokenizer = BytePairs.load(file)
    ids = encode_file(path, tokenizer, encoded)
    return tokenizer, split(ids, config.model.sequence, config.data.train_fraction)


def _held_out(config: Config, tokens: np.ndarray, where) -> Batch:
    """Validation sequences spread evenly over the held-out text, laid out as training batches are."""
    unit = config.batch  # already known to split over the mesh and its micro-batches
    size = max(1, config.validation_sequences // unit) * unit
    batch = validation_batch(tokens, config.model.sequence, size, config.parallel.microbatches)
    return jax.tree.map(lambda a: jax.make_array_from_callback(a.shape, where, lambda index, a=a: a[index]), batch)


def _write(config: Config, tokenizer: Tokenizer, params, mesh) -> list[str]:
    """Samples from the trained model. Where a text outgrows the model's sequence, its last half is the next prompt."""
    params, folded = for_decoding(config.model, params, mesh)
    replicas = folded.shape["data"] * folded.shape["fsdp"]
    rows = math.ceil(config.sample.count / replicas) * replicas  # what the mesh splits
    longest, total = config.model.sequence, config.sample.length
    sampling = {"temperature": config.sample.temperature, "top_p": config.sample.top_p}
    sampler = make_sampler(config.model, config.parallel, folded, min(total, longest), **sampling)
    prompt = tokenizer.encode(config.sample.prompt).astype(np.int32)[-longest // 2 :]
    key = jax.random.key(config.seed + 1)
    tokens = _fetched(sampler(params, np.tile(prompt, (rows, 1)), key))
    while tokens.shape[1] < total:
        kept = longest // 2
        drawn = _fetched(sampler(params, tokens[:, -kept:], jax.random.fold_in(key, tokens.shape[1])))
        tokens = np.concatenate([tokens, drawn[:, kept:]], axis=1)
    return [tokenizer.decode(row) for row in tokens[: config.sample.count, :total]]


def _fetched(tokens: jax.Array) -> np.ndarray:
    """On every process, the rows of all."""
    if jax.process_count() == 1:
        return np.asarray(tokens)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(tokens, tiled=True))


def _summary(config: Config, mesh, outcome: FitResult, loss: float, parts: Split, wall: float) -> Summary:
    stats, pipe = outcome.stats, mesh.shape["pipe"]
    rate = stats["steps_per_second"] * config.batch * config.model.sequence
    kind = jax.devices()[0].device_kind
    peak = known_peak(kind) or measured_peak()
    use = utilisation(config.model, config.parallel, pipe, rate, mesh.size, peak.flops)
    metrics = {
        "validation_loss_nats": loss,
        "perplexity": math.exp(min(loss, 50.0)),
        "tokens_per_second": use.tokens_per_second,
        "mfu": use.mfu,
        "hfu": use.hfu,
        "mfu_causal": use.mfu_causal,
        "hfu_causal": use.hfu_causal,
        "goodput": stats["train_seconds"] / max(wall, 1e-9),
        "parameters": parameters(config.model),
        "devices": mesh.size,
        "pipeline_bubble": bubble(config.parallel, pipe),
        "steps": int(outcome.state.step),
        "rollbacks": stats["rollbacks"],
        "slow_dispatches": stats["slow_dispatches"],
    }
    references = {}
    if config.expected_validation_loss is not None and config.data.path is None:  # another text, another loss
        source = "nanoGPT's published result for this setting"
        references["validation_loss_nats"] = Reference(config.expected_validation_loss, source, "lower")
    notes = (
        outcome.result,
        *([f"One of {stats['slow_dispatches']}: {stats['slow_note']}."] if stats["slow_note"] else []),
        f"Utilisation is of {mesh.size} x {peak.flops:.3g} FLOP/s ({peak.source}); mfu counts what the model needs, "
        "hfu also what is recomputed; _causal counts attention as half.",
        f"Losses are in nats per token, over {len(parts.validation)} held-out tokens' evenly spread sequences.",
    )
    seconds = {name: stats[f"{name}_seconds"] for name in ("compile", "train", "save", "evaluate")}
    return Summary("language_model", metrics, references, seconds, notes)

"""Which recipe trains a model fastest on a machine? All of them judged by formulas, each failure with its reason."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import gcd
from typing import NamedTuple

import numpy as np

from experiments.plan_compile import compile_apart
from experiments.plan_search_report import Case, Compilation, Importances, report
from experiments.settings import Settings
from jaxsci.core.config import between, require
from jaxsci.core.errors import ConfigError
from jaxsci.core.progress import progress
from jaxsci.core.report import Report
from jaxsci.core.rundir import Run
from jaxsci.core.summary import Reference, Summary
from jaxsci.transformer.config import ModelConfig, preset
from jaxsci.transformer.parallel import ParallelConfig
from jaxsci.transformer.plan import published
from jaxsci.transformer.plan.hardware import Hardware
from jaxsci.transformer.plan.importance import importances
from jaxsci.transformer.plan.memory import memory
from jaxsci.transformer.plan.recipe import Recipe, check_recipe
from jaxsci.transformer.plan.search import SAFETY, Found, Point, Rated, Space, Strategy, search
from jaxsci.transformer.plan.target import target
from jaxsci.transformer.plan.time import rates, step_time, use


class Wanted(NamedTuple):
    """One question: the best recipe of a model on so many nodes."""

    label: str
    model: ModelConfig
    space: Space


@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    """`recipes`: where the best recipes of `models` are looked for; its `nodes` and `batch` go together, a case each.
    `study`: the space of the study's own search, for `studied`. `strategy`, `budget`: all points, or that many at
    random. `safety`: bytes to expect for each byte of the memory formulas. `compile_best`: how many of the best recipes
    that jaxsci can run are compiled ahead of time for each case, for `compile_target`.
    """

    hardware: Hardware
    models: tuple[str, ...]
    recipes: Space
    study: Space
    studied: str
    strategy: Strategy = "auto"
    budget: int = 10_000
    safety: float = SAFETY
    compile_best: int = 0
    compile_target: str = "h100"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.models), "models", "at least one", self.models)
        for name in (*self.models, self.studied):
            preset(name)
        pairs = len(self.recipes.nodes), len(self.recipes.batch)
        require(pairs[0] == pairs[1], "recipes.batch", f"{pairs[0]} values, one for each of nodes", self.recipes.batch)
        between(self, "budget", 1, 10**7)
        between(self, "safety", 1.0, 10.0)
        between(self, "compile_best", 0, 10)
        target(self.compile_target)

    def wanted(self) -> Iterator[Wanted]:
        for name in self.models:
            for nodes, batch in zip(self.recipes.nodes, self.recipes.batch, strict=True):
                label = f"{name.removeprefix('gpt_')}_{nodes * self.hardware.node}"
                yield Wanted(label, preset(name), replace(self.recipes, nodes=(nodes,), batch=(batch,)))


def main(config: Config, run: Run) -> tuple[Summary, Report]:
    wanted = list(config.wanted())
    with progress(len(wanted) + 1, "searches") as bar:
        study = _search(config, "studied", preset(config.studied), config.study)
        bar.update(1)
        cases = []
        for question in wanted:
            cases.append(_case(config, question))
            bar.update(1, feasible=len(cases[-1].found.rated))
    compiled = [found for case in cases for found in _compile(config, case)]
    for number, case in enumerate(cases):  # after all that may be refused
        run.log({"feasible": len(case.found.rated), "best_mfu": case.found.best.mfu}, number)
    shares = _importances(study)
    found = [study, *(case.found for case in cases)]
    feasible, rejected = sum(len(f.rated) for f in found), sum(len(f.rejected) for f in found)
    metrics = {"points": feasible + rejected, "feasible": feasible, "rejected": rejected}
    references = {}
    for case in cases:
        best = case.found.best
        metrics |= {
            f"best_hfu_{case.label}": best.hfu,
            f"best_mfu_{case.label}": best.mfu,
            f"best_tokens_per_second_{case.label}": best.tokens_per_second,
        }
        if case.study:
            metrics[f"study_ratio_{case.label}"] = best.tokens_per_second / case.study.tokens_per_second
            references[f"study_ratio_{case.label}"] = Reference(
                1.0, "the study's own recipe, predicted by the same formulas"
            )
            if case.alike:
                metrics[f"study_ratio_same_recomputation_{case.label}"] = (
                    case.alike.tokens_per_second / case.study.tokens_per_second
                )
    metrics |= {f"importance_{name}": share for name, share in shares.throughput.items()}
    metrics |= {f"importance_with_failures_{name}": share for name, share in shares.objective.items()}
    metrics |= {f"importance_for_running_{name}": share for name, share in shares.running.items()}
    metrics |= {
        "study_feasible_share": len(study.rated) / (len(study.rated) + len(study.rejected)),
        "study_best_tflops": study.best.hfu * config.hardware.peak_flops / 1e12,
    }
    for item in compiled:
        metrics[f"compiled_bytes_{item.label}"] = item.compiled_bytes
    summary = Summary("plan_search", metrics, references, notes=_notes(config))
    return summary, report(config.hardware, run, cases, study, shares, compiled)


def _search(config: Config, label: str, model: ModelConfig, space: Space) -> Found:
    try:
        return search(
            model,
            config.hardware,
            space,
            strategy=config.strategy,
            budget=config.budget,
            seed=config.seed,
            safety=config.safety,
        )
    except ConfigError as error:
        raise ConfigError(f"{label}: {error}") from None


def _case(config: Config, question: Wanted) -> Case:
    found = _search(config, question.label, question.model, question.space)
    alike = next((r for r in found.rated if r.recipe.recompute == "full" and r.recipe.virtual == 1), None)
    own = (_ours(config, question.model, rated) for rated in found.rated)
    ours = [rated for rated in own if rated]
    return Case(question.label, question.model, found, _study(config, question), alike, tuple(ours))


def _study(config: Config, question: Wanted) -> Rated | None:
    """The study's recipe on these devices with this batch, if it has one that divides them."""
    run = next((r for r in published.FRONTIER_RUNS if r.model == question.model), None)
    if run is None:
        return None
    nodes, batch = question.space.nodes[0], question.space.batch[0]
    replicas, rest = divmod(nodes * config.hardware.node, run.tensor * run.pipe)
    if rest or batch % replicas:
        return None
    recipe = run._replace(replicas=replicas).recipe(batch)
    point = Point(run.tensor, run.pipe, 1, batch, None, 1, nodes, 1, "full", "1f1b")
    return _rated(config.hardware, question.model, point, recipe)


def _rated(machine: Hardware, model: ModelConfig, point: Point, recipe: Recipe) -> Rated:
    stages = memory(model, recipe).total
    seconds = float(step_time(model, recipe, rates(machine, recipe)).total)
    of = use(model, recipe, seconds, machine.peak_flops)
    worst = int(stages.argmax())
    return Rated(point, recipe, float(stages[worst]), worst, seconds, of.tokens_per_second, of.hfu, of.mfu)


def _ours(config: Config, model: ModelConfig, rated: Rated) -> Rated | None:
    """The recipe as jaxsci runs it, its state split over as many replicas as divide the width; None if it cannot."""
    recipe = rated.recipe
    if recipe.pipe > 1 and not recipe.single_program:
        return None
    fsdp = gcd(recipe.replicas, model.width) if recipe.zero else 1
    own = replace(recipe, data=recipe.replicas // fsdp, fsdp=fsdp, policy="jax")
    try:
        check_recipe(model, own)
        _plan(own)
    except ConfigError:
        return None
    if config.safety * memory(model, own).worst > config.hardware.memory_bytes:
        return None
    return _rated(config.hardware, model, rated.point, own)


def _plan(recipe: Recipe) -> ParallelConfig:
    """What runs a recipe of a single program. Raises `ConfigError` where jaxsci has no such program."""
    return ParallelConfig(
        microbatches=recipe.microbatches,
        schedule="gpipe" if recipe.schedule == "gpipe" else "1f1b",
        virtual=recipe.virtual,
        zero=3 if recipe.zero == 3 else 1,
        remat=recipe.recompute,
        precision="bfloat16",
    )


def _compile(config: Config, case: Case) -> Iterator[Compilation]:
    """The best recipes of jaxsci as a compiler sees them, fastest first; another machine's compiler is a stand-in."""
    for rank, rated in enumerate(case.ours[: config.compile_best], 1):
        recipe = rated.recipe
        mesh = {axis: getattr(recipe, axis) for axis in ("data", "fsdp", "pipe", "tensor")}
        label = case.label if rank == 1 else f"{case.label}_{rank}"
        found = compile_apart(case.model, _plan(recipe), mesh, recipe.batch, config.compile_target)
        yield Compilation(
            label,
            rated,
            config.compile_target,
            found.bytes_per_device,
            found.compile_seconds,
            found.bytes_per_device <= config.hardware.memory_bytes,
        )


def _importances(study: Found) -> Importances:
    """Of what runs: log throughput. Of all points: whether one runs, and log throughput with failures at the worst."""
    feasible = [rated.point for rated in study.rated]
    every = feasible + [rejected.point for rejected in study.rejected]
    fast = np.log([rated.tokens_per_device for rated in study.rated])
    failed = len(study.rejected)
    runs = np.repeat([1.0, 0.0], [len(feasible), failed])
    seen = np.concatenate([fast, np.full(failed, fast.min())])
    varies = [n for n in Point._fields if len({getattr(p, n) for p in every}) > 1]

    def shares(points: list[Point], y: np.ndarray) -> dict[str, float]:
        return importances({name: [getattr(point, name) for point in points] for name in varies}, y)

    return Importances(shares(feasible, fast), shares(every, seen), shares(every, runs))


def _notes(config: Config) -> tuple[str, ...]:
    machine = config.hardware
    return (
        f"Every number is a prediction. Times are off by up to {100 * machine.time_error:.1f} % for models left out of "
        f"the fit; recipes whose ratio is closer to 1 than twice that are not told apart. Nothing here was run.",
        "Up to 4/3 of a study_ratio is recomputation left out where memory does not ask for it: the study's recipes "
        "fill less than half of a device. study_ratio_same_recomputation keeps it, with one chunk per stage.",
        "The machine's efficiency was fitted to recipes with micro-batch 1 and full recomputation. It depends on width "
        "per device alone: how a larger micro-batch helps narrow matrices is not in it, and recipes without "
        "recomputation are extrapolated, with the memory they need taken from formulas.",
        f"fill = {machine.fill:g}: what a pipeline loses per stage when it fills and drains, fitted to runs with 20 "
        "and more micro-batches per stage. With the 5 and 10 micro-batches of the study's search it decides "
        "everything, and is least certain.",
        f"Memory: formulas times {config.safety:g}. The compiler says up to a tenth more than they do; libraries and "
        "communication take about 1 GB.",
        "The study's recipes, its space of search and its order of importance are unconfirmed: recollections of its "
        "body. Its search is taken to be for 175 B, without FlashAttention and sequence parallelism.",
        *((machine.caution,) if machine.caution else ()),
    )

"""Which recipe is best: every point of a space rejected with a named reason, or ranked, before anything is run.

    found = search(preset("gpt_175b"), hardware("mi250x"), Space(tensor=(1, 2, 4, 8), pipe=(8, 16), ...))
    found.best.recipe, found.best.hfu, found.reasons

A point goes through rules of divisibility, then memory (`memory`, the fullest stage, with a margin), then time
(`step_time`). What a study that runs its points records as a failure has a sentence here. Small spaces are gone through
exhaustively, large ones are sampled; a cleverer strategy is another way to give `points`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np

from jaxsci.core.config import one_of, require
from jaxsci.core.errors import ConfigError
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.counts import Recompute
from jaxsci.transformer.plan.hardware import Hardware
from jaxsci.transformer.plan.memory import memory
from jaxsci.transformer.plan.recipe import POLICIES, Recipe, Schedule
from jaxsci.transformer.plan.time import rates, step_time, use

Zero = Literal[0, 1, 2, 3]
Strategy = Literal["auto", "exhaustive", "random"]

EXHAUSTIVE = 200_000  # points that `auto` goes through one by one: some ten seconds
# The compiler says up to a tenth more than the formulas (`memory`); libraries and communication buffers take about
# 1 GB, and an allocator fragments.
SAFETY = 1.15
MOST_DEVICES = 2**20  # where looking for a number of devices that suffices gives up


class Point(NamedTuple):
    """One choice of everything. `batch` or `accumulation` is None: one follows from the other."""

    tensor: int
    pipe: int
    microbatch: int
    batch: int | None
    accumulation: int | None
    zero: Zero
    nodes: int
    virtual: int
    recompute: Recompute
    schedule: Schedule


@dataclass(frozen=True)
class Space:
    """Values to combine. `batch`: sequences per step, all devices together; `accumulation`: micro-batches of a replica,
    which makes the batch grow with the replicas; exactly one of the two is given. `nodes` are whole nodes. The last
    three hold for all points: bytes of state (`POLICIES`), attention that stores no scores, activations split over
    tensor along the sequence.
    """

    tensor: tuple[int, ...]
    pipe: tuple[int, ...]
    microbatch: tuple[int, ...]
    nodes: tuple[int, ...]
    batch: tuple[int, ...] = ()
    accumulation: tuple[int, ...] = ()
    zero: tuple[Zero, ...] = (1,)
    virtual: tuple[int, ...] = (1,)
    recompute: tuple[Recompute, ...] = ("full",)
    schedule: tuple[Schedule, ...] = ("1f1b",)
    policy: str = "bf16"
    flash: bool = True
    sequence_parallel: bool = True

    def __post_init__(self):
        given = "both" if self.batch and self.accumulation else "neither"
        require(bool(self.batch) != bool(self.accumulation), "batch", "values for batch or for accumulation", given)
        one_of(self, "policy", tuple(POLICIES))
        for name, values in self.axes.items():
            require(len(values) > 0, name, "at least one value", list(values))
            require(len(set(values)) == len(values), name, "values that differ", list(values))
            counts = [value for value in values if isinstance(value, int)]
            low = 0 if name == "zero" else 1
            require(all(count >= low for count in counts), name, f"values of at least {low}", list(values))

    @property
    def axes(self) -> dict[str, tuple[Any, ...]]:
        """The values of each field of `Point`."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        unused = "accumulation" if self.batch else "batch"
        return {name: (None,) if name == unused else given[name] for name in Point._fields}

    @property
    def size(self) -> int:
        return prod(len(values) for values in self.axes.values())

    def point(self, number: int) -> Point:
        """The point with this number, 0 to `size` - 1."""
        axes = list(self.axes.values())
        places = np.unravel_index(number, [len(values) for values in axes])
        return Point(*(values[place] for values, place in zip(axes, places, strict=True)))


class Rejected(NamedTuple):
    """A point that was never run. `reason` is one of a few names, `sentence` has the numbers."""

    point: Point
    reason: str
    sentence: str


class Rated(NamedTuple):
    """A point that fits: bytes of its fullest stage (`stage`, from 0), seconds per step, tokens per second of all
    devices, and shares of the peak with attention counted whole.
    """

    point: Point
    recipe: Recipe
    bytes: float
    stage: int
    seconds: float
    tokens_per_second: float
    hfu: float
    mfu: float

    @property
    def tokens_per_device(self) -> float:
        """Tokens per second of one device: what points are ranked by, whatever their number of devices."""
        return self.tokens_per_second / self.recipe.devices


class Found(NamedTuple):
    """`rated` is in order, the best first; `rejected` in that of the search."""

    rated: tuple[Rated, ...]
    rejected: tuple[Rejected, ...]

    @property
    def best(self) -> Rated:
        """The best rated point; there must be one."""
        return self.rated[0]

    @property
    def reasons(self) -> Counter[str]:
        """How many points each reason rejected."""
        return Counter(point.reason for point in self.rejected)


def search(
    model: ModelConfig,
    hardware: Hardware,
    space: Space,
    *,
    strategy: Strategy = "auto",
    budget: int = 10_000,
    seed: int = 0,
    safety: float = SAFETY,
) -> Found:
    """All points of `space`, or `budget` of them at random, judged and ranked.

    `auto` is exhaustive up to 200,000 points. `safety`: bytes to expect for each byte of the formulas. Raises
    `ConfigError` where no point can run, with the least number of devices if memory is what lacks.
    """
    found = enumerate_recipes(model, hardware, space, points(space, strategy, budget, seed), safety)
    if not found.rated:
        raise ConfigError(_nothing(model, hardware, space, found, safety))
    return found


def points(space: Space, strategy: Strategy = "auto", budget: int = 10_000, seed: int = 0) -> Iterator[Point]:
    """The points to judge: all, or `budget` different ones drawn at random."""
    exhaustive = strategy == "exhaustive" or (strategy == "auto" and space.size <= EXHAUSTIVE)
    if exhaustive or budget >= space.size:
        return map(space.point, range(space.size))
    drawn = np.random.default_rng(seed).choice(space.size, budget, replace=False)
    return map(space.point, drawn.tolist())


def enumerate_recipes(
    model: ModelConfig,
    hardware: Hardware,
    space: Space,
    chosen: Iterator[Point] | None = None,
    safety: float = SAFETY,
) -> Found:
    """Judge the `chosen` points, by default all. The order of a space's values makes no difference to the ranking:
    equal throughputs are ranked by memory, then by the point itself.
    """
    rated, rejected = [], []
    for point in chosen if chosen is not None else points(space, "exhaustive"):
        verdict = examine(model, hardware, space, point, safety)
        (rated if isinstance(verdict, Rated) else rejected).append(verdict)
    rated.sort(key=lambda r: (-round(r.tokens_per_device, 9), r.bytes, str(r.point)))
    return Found(tuple(rated), tuple(rejected))


def examine(
    model: ModelConfig, hardware: Hardware, space: Space, point: Point, safety: float = SAFETY
) -> Rated | Rejected:
    """What becomes of one point."""
    for rule in (_shape, _batch):
        broken = rule(model, hardware, point)
        if broken:
            return Rejected(point, *broken)
    recipe = _recipe(space, point, _replicas(hardware, point))
    stages = memory(model, recipe).total
    worst = int(stages.argmax())
    needed = safety * float(stages[worst])
    if needed > hardware.memory_bytes:
        sentence = (
            f"stage {worst} of {recipe.pipe} needs {needed / 1e9:.3g} GB with a margin of {safety:g}, "
            f"a device has {hardware.memory_bytes / 1e9:.3g} GB"
        )
        return Rejected(point, "memory", sentence)
    seconds = float(step_time(model, recipe, rates(hardware, recipe)).total)
    of = use(model, recipe, seconds, hardware.peak_flops)
    return Rated(point, recipe, float(stages[worst]), worst, seconds, of.tokens_per_second, of.hfu, of.mfu)


def _shape(model: ModelConfig, hardware: Hardware, point: Point) -> tuple[str, str] | None:
    """Reason and sentence where model, mesh and schedule do not go together; the number of devices is not asked."""
    t, p, v = point.tensor, point.pipe, point.virtual
    if t > hardware.node:
        return "tensor beyond a node", f"a tensor group of {t} exceeds the {hardware.node} devices of a node"
    for name in ("heads", "groups", "hidden", "sequence"):
        if getattr(model, name) % t:
            return "heads not divisible", f"tensor {t} does not divide {name} {getattr(model, name)}"
    if p * v > model.layers:
        return "too few layers", f"{p} stages x {v} chunks exceed {model.layers} layers"
    chunked = point.schedule in ("interleaved", "gpipe") and p > 1
    if v > 1 and not chunked:
        return "schedule", f"{v} chunks per stage need a pipeline with schedule interleaved or gpipe"
    if point.schedule == "interleaved" and v == 1 and p > 1:
        return "schedule", "interleaved with one chunk per stage is 1f1b"
    if point.schedule == "lockstep" and p > 1 and point.recompute not in ("full", "nested"):
        return "schedule", f"lockstep recomputes a stage from its input, recompute {point.recompute} does not"
    if point.zero > 1 and p > 1:
        return "ZeRO with pipeline", f"ZeRO-{point.zero} would communicate in each micro-batch of a pipeline"
    return None


def _batch(model: ModelConfig, hardware: Hardware, point: Point) -> tuple[str, str] | None:
    """Reason and sentence where devices or sequences do not divide."""
    devices, group = point.nodes * hardware.node, point.tensor * point.pipe
    if devices % group:
        return "devices not divisible", f"tensor x pipe = {group} does not divide {devices} devices"
    share = devices // group * point.microbatch
    if point.batch is not None and point.batch % share:
        return "batch not divisible", f"{share} sequences of a turn do not divide a batch of {point.batch}"
    count = point.accumulation if point.batch is None else point.batch // share
    even = point.pipe > 1 and (point.schedule == "gpipe" or point.virtual > 1)
    if count is not None and even and count % point.pipe:
        return "micro-batches not divisible", f"{point.pipe} stages do not divide {count} micro-batches"
    return None


def _replicas(hardware: Hardware, point: Point) -> int:
    return point.nodes * hardware.node // (point.tensor * point.pipe)


def _recipe(space: Space, point: Point, replicas: int) -> Recipe:
    turn = replicas * point.microbatch
    batch = turn * point.accumulation if point.accumulation else point.batch
    return Recipe(
        data=1 if point.zero else replicas,
        fsdp=replicas if point.zero else 1,
        pipe=point.pipe,
        tensor=point.tensor,
        virtual=point.virtual,
        batch=batch or turn,
        microbatch=point.microbatch,
        schedule=point.schedule,
        recompute=point.recompute,
        sequence_parallel=space.sequence_parallel,
        zero=point.zero,
        policy=space.policy,
        flash=space.flash,
    )


def least_devices(model: ModelConfig, hardware: Hardware, space: Space, safety: float = SAFETY) -> int | None:
    """Devices, in whole nodes, from which on some point of `space` fits, its `nodes` and divisibility of the batch put
    aside; None if no number does. More replicas split state further, so memory falls with them.
    """
    shapes = {point._replace(nodes=1) for point in points(space, "exhaustive")}
    best: int | None = None
    for point in sorted(shapes, key=lambda p: (p.tensor * p.pipe, str(p))):
        if _shape(model, hardware, point):
            continue
        group, d = point.tensor * point.pipe, 1
        limit = (best or MOST_DEVICES) // group
        while d <= limit and not _fits(model, hardware, space, point, d, safety):
            d *= 2
        if d > limit:
            continue
        low = d // 2  # does not fit
        while d - low > 1:
            middle = (low + d) // 2
            low, d = (low, middle) if _fits(model, hardware, space, point, middle, safety) else (middle, d)
        best = min(best or MOST_DEVICES, -(-group * d // hardware.node) * hardware.node)
    return best


def _fits(model: ModelConfig, hardware: Hardware, space: Space, point: Point, replicas: int, safety: float) -> bool:
    """With the batch rounded to whole micro-batches."""
    count = point.accumulation or max(1, (point.batch or 1) // (replicas * point.microbatch))
    recipe = _recipe(space, point._replace(batch=None, accumulation=count), replicas)
    return safety * memory(model, recipe).worst <= hardware.memory_bytes


def _nothing(model: ModelConfig, hardware: Hardware, space: Space, found: Found, safety: float) -> str:
    """Why no point is left, in one line."""
    counted = ", ".join(f"{reason} {count}" for reason, count in found.reasons.most_common())
    says = f"space: none of {len(found.rejected)} points can run on {hardware.title} ({counted})"
    if "memory" not in found.reasons:
        return f"{says}; e.g. {found.rejected[0].sentence}"
    least = least_devices(model, hardware, space, safety)
    if least is None:
        return f"{says}; the model is too large for it on any number of devices: add larger pipe, tensor or zero"
    devices = max(space.nodes) * hardware.node
    if least <= devices:
        return f"{says}; memory suffices from {least} devices on: change batch, microbatch or nodes to divide"
    return f"{says}; the model is too large for {devices} devices: it needs at least {least}"

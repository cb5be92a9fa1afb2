"""Target: how to spread the training of a language model over a machine; cost is the share of the peak not used, in %.

An instance is a number of nodes, so the answer is a recipe for all of them, with a batch that grows with the machine. A
seed draws the rates of the machine (efficiency, links, network, filling of the pipeline) about their nominal values: a
recipe is wanted that is good although the formulas are not exact. Seed 0, that of deterministic races, is the nominal
machine. What cannot run is rejected with the planner's own sentence.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from jaxsci.core.errors import DataError
from jaxsci.racing.expressions import parse
from jaxsci.racing.space import Categorical, Configuration, Ordinal, Space
from jaxsci.racing.targets.protocol import REJECTED, Job, Outcome
from jaxsci.transformer.config import ModelConfig
from jaxsci.transformer.plan import published, search
from jaxsci.transformer.plan.hardware import Hardware, Link


def plan_space(axes: dict[str, tuple]) -> Space:
    """Values of the planner's axes as ordered labels. Chunks per stage exist only where the schedule has them."""
    chunked = parse('schedule == "interleaved" | schedule == "gpipe"')
    ordered = ("tensor", "pipe", "microbatch", "zero")
    return Space(
        (
            *(Ordinal(name, values=tuple(map(str, axes[name]))) for name in ordered),
            Categorical("recompute", values=tuple(axes["recompute"])),
            Categorical("schedule", values=tuple(axes["schedule"])),
            Ordinal("virtual", values=tuple(map(str, axes["virtual"])), condition=chunked),
        )
    )


def study_recipe(model: ModelConfig, space: Space) -> Configuration | None:
    """What the study of Frontier trained this model with (arXiv 2312.12705), if it did and the space has it."""
    run = next((r for r in published.FRONTIER_RUNS if r.model == model), None)
    if run is None:
        return None
    wanted: Configuration = {
        "tensor": str(run.tensor),
        "pipe": str(run.pipe),
        "microbatch": "1",
        "zero": "1",
        "recompute": "full",
        "schedule": "1f1b",
        "virtual": None,
    }
    inside = all(wanted[p.name] in (None, *p.values) for p in space.parameters if isinstance(p, Categorical))
    return wanted if inside else None


class PlanTarget:
    """`nodes` are the instances, each with a batch of `sequences` a node. `spread`: standard deviation of the logarithm
    of every rate.
    """

    def __init__(
        self, model: ModelConfig, hardware: Hardware, nodes: Sequence[int], *, sequences: int = 80, spread: float = 0.1
    ):
        if not nodes or min(nodes) < 1:
            raise DataError(f"nodes: expected numbers of nodes, got {list(nodes)}")
        self.instances = tuple(str(n) for n in nodes)
        self.model, self.hardware, self.sequences, self.spread = model, hardware, sequences, spread
        self._machines: dict[int, Hardware] = {}

    def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        return [self._run(job) for job in jobs]

    def machine(self, seed: int) -> Hardware:
        """The machine as this seed has it."""
        if seed not in self._machines:
            self._machines[seed] = perturbed(self.hardware, self.spread, seed)
        return self._machines[seed]

    def _run(self, job: Job) -> Outcome:
        values, nodes = job.configuration, int(job.instance)
        point = search.Point(
            tensor=int(str(values["tensor"])),
            pipe=int(str(values["pipe"])),
            microbatch=int(str(values["microbatch"])),
            batch=nodes * self.sequences,
            accumulation=None,
            zero=int(str(values["zero"])),  # type: ignore[arg-type]
            nodes=nodes,
            virtual=int(str(values["virtual"] or 1)),
            recompute=str(values["recompute"]),  # type: ignore[arg-type]
            schedule=str(values["schedule"]),  # type: ignore[arg-type]
        )
        verdict = search.examine(self.model, self.machine(job.seed), ALL_POINTS, point)
        if isinstance(verdict, search.Rejected):
            return Outcome(REJECTED, message=verdict.sentence)
        return Outcome(100.0 * (1.0 - verdict.mfu))


ALL_POINTS = search.Space(tensor=(1,), pipe=(1,), microbatch=(1,), nodes=(1,), batch=(1,))
"""Of which a point only takes what holds for all: precision, attention, sequence parallelism."""


def perturbed(hardware: Hardware, spread: float, seed: int) -> Hardware:
    """Rates times exp(`spread` z), z standard normal by the seed; the memory, which is certain, stays."""
    if seed == 0:
        return hardware
    factor = np.exp(spread * np.random.default_rng([seed, 1]).standard_normal(4)).tolist()
    links = tuple(Link(link.degree, link.bandwidth * factor[0]) for link in hardware.links)
    return replace(
        hardware,
        links=links,
        network_bandwidth=hardware.network_bandwidth * factor[1],
        e_max=min(hardware.e_max * factor[2], 1.0),
        fill=hardware.fill * factor[3],
    )

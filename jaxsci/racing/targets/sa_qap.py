"""Target: annealing or robust tabu search on quadratic assignment; cost is the gap to the best known, in %."""

from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.core.config import require
from jaxsci.core.errors import DataError
from jaxsci.racing.expressions import parse
from jaxsci.racing.space import Categorical, Configuration, Integer, Real, Space
from jaxsci.racing.targets import anneal_qap, qap, tabu_qap, vectorised
from jaxsci.racing.targets.anneal_qap import AnnealParameters, Layout
from jaxsci.racing.targets.protocol import Job, Outcome
from jaxsci.racing.targets.tabu_qap import TabuParameters

CLASS = 16
"""Instances are padded to a multiple of this size."""

TABU_STEP = 4
"""An iteration of tabu search takes the time of so many times n steps of annealing (measured on a CPU)."""


def qap_space() -> Space:
    """Eleven parameters of the two algorithms. Temperatures in units of initial cost / n, tenures in units of n."""
    anneal, tabu = parse('algorithm == "sa"'), parse('algorithm == "rts"')
    return Space(
        (
            Categorical("algorithm", values=("sa", "rts")),
            Categorical("init", values=("random", "greedy")),
            Real("t0", condition=anneal, low=1e-3, high=1.0, log=True),
            Real("t_ratio", condition=anneal, low=1e-3, high=1.0, log=True),
            Categorical("cooling", condition=anneal, values=("geom", "lundy")),
            Integer("reheats", condition=anneal, low=0, high=10),
            Categorical("neighbourhood", condition=anneal, values=("random", "sweep")),
            Real("tabu_low", condition=tabu, low=0.1, high=2.0),
            Real("tabu_width", condition=tabu, low=0.0, high=1.5),
            Integer("aspiration", condition=tabu, low=10, high=10_000, log=True),
            Real("restart_frac", low=0.01, high=1.0),
        ),
        # Hot from beginning to end: a random walk.
        forbidden=(parse("t0 > 0.5 & t_ratio > 0.5"),),
        digits=6,
    )


DEFAULTS: Configuration = {
    "algorithm": "sa",
    "init": "random",
    "t0": 0.1,
    "t_ratio": 0.1,
    "cooling": "geom",
    "reheats": 0,
    "neighbourhood": "random",
    "tabu_low": None,
    "tabu_width": None,
    "aspiration": None,
    "restart_frac": 1.0,
}
"""Textbook annealing: geometric cooling over a decade from a tenth of the cost per facility, no reheating."""


class QapTarget:
    """`steps` proposed swaps for annealing, `steps / (4 width)` iterations of tabu search: about the same time.

    Called with jobs, it runs each algorithm on each size class of instances in one program of at least `lanes` runs.
    """

    def __init__(self, instances: Sequence[qap.QapInstance], *, steps: int = 5000, lanes: int = 8):
        require(steps >= anneal_qap.CHUNK, "steps", f"at least {anneal_qap.CHUNK}", steps)
        self.by_name = {instance.name: instance for instance in instances}
        if len(self.by_name) < len(instances):
            raise DataError("instances: expected different names")
        self.lanes = lanes
        self.steps = steps - steps % anneal_qap.CHUNK
        self._class: dict[str, tuple[int, bool, bool]] = {}
        for instance in instances:
            width = -(-instance.size // CLASS) * CLASS
            _, symmetric, wide = qap.stack([instance], width)
            self._class[instance.name] = (width, symmetric, wide)
        self._members = {
            group: [name for name, other in self._class.items() if other == group] for group in self._class.values()
        }
        self._tables: dict[tuple[int, bool, bool], tuple[qap.QapStack, jax.Array, jax.Array]] = {}

    @property
    def instances(self) -> tuple[str, ...]:
        return tuple(self.by_name)

    def __call__(self, jobs: Sequence[Job]) -> list[Outcome]:
        for job in jobs:
            if job.instance not in self.by_name:
                raise DataError(f"instance '{job.instance}' is not among the {len(self.by_name)} loaded")
        return vectorised.in_groups(jobs, self._group, self._solve, self.lanes)

    def permutations(self, jobs: Sequence[Job]) -> list[np.ndarray]:
        """The best permutation of each job, for those who want more than the cost."""
        devices = jax.local_devices()
        found = []
        for job in jobs:
            best = self._best(self._group(job), [job], vectorised.lanes(1), devices)
            found.append(best[0][: self.by_name[job.instance].size])
        return found

    def _group(self, job: Job) -> tuple[str, tuple[int, bool, bool]]:
        return str(job.configuration["algorithm"]), self._class[job.instance]

    def _solve(self, group: Hashable, jobs: Sequence[Job], lanes: int, devices: Sequence[Any]) -> np.ndarray:
        best, costs = self._best(group, jobs, lanes, devices), np.empty(len(jobs))
        for place, job in enumerate(jobs):  # exact, whatever the integers of the run were
            instance = self.by_name[job.instance]
            costs[place] = instance.gap(qap.cost(instance, best[place, : instance.size]))
        return costs

    def _best(self, group: Hashable, jobs: Sequence[Job], lanes: int, devices: Sequence[Any]) -> np.ndarray:
        """Permutations, a row a lane."""
        assert isinstance(group, tuple)
        algorithm, (width, symmetric, wide) = group
        with jax.enable_x64(wide):
            stack, flow, distance = self._table(group[1])
            rows = [self._members[group[1]].index(job.instance) for job in jobs]
            places = vectorised.padded(rows, lanes, int)
            size, greedy = stack.size[places].astype(np.int32), stack.greedy[places].astype(np.int32)
            keys = vectorised.keys(vectorised.padded([job.seed for job in jobs], lanes, np.uint32))
            base = (places * width).astype(np.int32)
            parameters = _parameters(algorithm, [job.configuration for job in jobs], lanes, self._length(group[1]))
            parameters, base, size, greedy, keys = vectorised.spread((parameters, base, size, greedy, keys), devices)
            layout = Layout(flow, distance, base, size, greedy)
            run = anneal_qap.run_many if algorithm == "sa" else tabu_qap.run_many
            length = self._length(group[1])[algorithm != "sa"]
            return np.asarray(run(parameters, layout, keys, length, symmetric)[0])

    def _length(self, size_class: tuple[int, bool, bool]) -> tuple[int, int]:
        return self.steps, max(1, self.steps // (TABU_STEP * size_class[0]))

    def _table(self, size_class: tuple[int, bool, bool]) -> tuple[qap.QapStack, jax.Array, jax.Array]:
        if size_class not in self._tables:
            width, symmetric, _ = size_class
            stack, *_ = qap.stack([self.by_name[name] for name in self._members[size_class]], width)
            flow, distance = stack.flow.reshape(-1, width), stack.distance.reshape(-1)
            if not symmetric:  # transposes in a second half, so that columns are read as rows
                flow = np.concatenate([flow, stack.flow.transpose(0, 2, 1).reshape(-1, width)])
                distance = np.concatenate([distance, stack.distance.transpose(0, 2, 1).reshape(-1)])
            self._tables[size_class] = stack, jnp.asarray(flow), jnp.asarray(distance)
        return self._tables[size_class]


def _parameters(
    algorithm: str, configurations: Sequence[Configuration], lanes: int, length: tuple[int, int]
) -> AnnealParameters | TabuParameters:
    def column(name: str, dtype: type = np.float32) -> jax.Array:
        return jnp.asarray(vectorised.padded([c[name] for c in configurations], lanes, dtype))  # type: ignore[misc]

    def says(name: str, value: str) -> jax.Array:
        return jnp.asarray(vectorised.padded([c[name] == value for c in configurations], lanes, bool))

    patience = vectorised.padded([float(c["restart_frac"]) for c in configurations], lanes)  # type: ignore[arg-type]
    if algorithm == "sa":
        return AnnealParameters(
            greedy=says("init", "greedy"),
            t0=column("t0"),
            t_ratio=column("t_ratio"),
            lundy=says("cooling", "lundy"),
            reheats=column("reheats", np.int32),
            sweep=says("neighbourhood", "sweep"),
            restart_after=jnp.asarray(np.ceil(patience * length[0]).astype(np.int32)),
        )
    return TabuParameters(
        greedy=says("init", "greedy"),
        low=column("tabu_low"),
        width=column("tabu_width"),
        aspiration=column("aspiration", np.int32),
        restart_after=jnp.asarray(np.ceil(patience * length[1]).astype(np.int32)),
    )
